//! Checking the repository, a copy, or all of them.

use std::sync::Arc;

use serde::Serialize;
use strongroom_console::{Console, Exit, Failed};
use strongroom_model::{World, chain};
use strongroom_repository::Point;
use strongroom_repository::check::{CheckOptions, CheckReport, ReadData};
use strongroom_settings::{RepositorySettings, open_repository};

use super::super::copy::policies_of;
use super::super::repository::report;
use super::{CheckArgs, tell};
use crate::policy::Policies;

/// What a check saw at one of several places.
#[derive(Debug, Serialize)]
struct CheckedPlace {
    /// The name of the copy; `repository` for the repository itself.
    place: String,
    location: String,
    #[serde(flatten)]
    seen: Seen,
}

#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Seen {
    Checked(CheckReport),
    NotChecked { code: &'static str, message: String, advice: String },
}

#[derive(Debug, Serialize)]
struct CheckedPlaces {
    places: Vec<CheckedPlace>,
}

/// Which place is checked.
#[derive(Clone, Copy)]
enum Which<'a> {
    Repository,
    /// By its name; the policies say what belongs there.
    Copy(&'a str, Option<&'a Policies>),
}

impl Which<'_> {
    const fn name(&self) -> &str {
        match self {
            Self::Repository => "repository",
            Self::Copy(name, _) => name,
        }
    }
}

pub(in super::super) async fn check(
    args: CheckArgs,
    console: &Console,
    world: &World,
) -> Result<Exit, Failed> {
    let (settings, config) = args.repository.resolve_with_config()?;
    let policies = policies_of(config.as_ref(), args.repository.config.as_deref(), console, world)?;
    if args.all_places {
        return check_all(&args, &settings, policies.as_deref(), console, world).await;
    }
    let checked = match &args.place {
        None => check_one(&args, &settings, Which::Repository, console, world).await?,
        Some(place) => {
            let there = settings.of_place(place);
            let named = settings.copies.iter().find(|copy| copy.url == there.url);
            let which = Which::Copy(named.map_or(place, |copy| &copy.name), policies.as_deref());
            check_one(&args, &there, which, console, world).await?
        }
    };
    console.result(&checked, |text| tell(text, console, &checked));
    Ok(if checked.is_whole() { Exit::Done } else { Exit::Damaged })
}

/// One after the other: that one cannot be opened says nothing of the next.
async fn check_all(
    args: &CheckArgs,
    settings: &RepositorySettings,
    policies: Option<&Policies>,
    console: &Console,
    world: &World,
) -> Result<Exit, Failed> {
    let copies =
        settings.copies.iter().map(|copy| (Which::Copy(&copy.name, policies), settings.of_copy(copy)));
    let mut places = Vec::new();
    for (which, settings) in std::iter::once((Which::Repository, settings.clone())).chain(copies) {
        let seen = match check_one(args, &settings, which, console, world).await {
            Ok(checked) => Seen::Checked(checked),
            Err(failed) => {
                let failure = failed.failure();
                let (code, message, advice) = (failure.code(), chain(failure), failure.advice());
                Seen::NotChecked { code, message, advice }
            }
        };
        places.push(CheckedPlace { place: which.name().to_owned(), location: settings.url, seen });
    }
    let checked = CheckedPlaces { places };
    console.result(&checked, |text| {
        for place in &checked.places {
            text.line(format_args!("{} ({}):", place.place, place.location));
            match &place.seen {
                Seen::Checked(checked) => tell(text, console, checked),
                Seen::NotChecked { code, message, advice } => {
                    text.line(format_args!("not checked: {message} [{code}]. {advice}"));
                }
            }
        }
    });
    let any = |is: fn(&Seen) -> bool| checked.places.iter().any(|place| is(&place.seen));
    Ok(if any(|seen| matches!(seen, Seen::Checked(checked) if !checked.is_whole())) {
        Exit::Damaged
    } else if any(|seen| matches!(seen, Seen::NotChecked { .. })) {
        Exit::FAILED
    } else {
        Exit::Done
    })
}

/// Nothing is noted in a copy: its journal is that of the repository.
async fn check_one(
    args: &CheckArgs,
    settings: &RepositorySettings,
    which: Which<'_>,
    console: &Console,
    world: &World,
) -> Result<CheckReport, Failed> {
    let repository = open_repository(settings, world).await?.repository;
    let part = &args.part;
    let read = match (part.share, part.bytes, part.packs, part.time) {
        (Some(share), ..) => ReadData::Share(share.fraction()),
        (_, Some(bytes), ..) => ReadData::Bytes(bytes.bytes()),
        (_, _, Some(packs), _) => ReadData::Packs(packs),
        (.., Some(time)) => ReadData::For(time.get()),
        _ if args.read_data => ReadData::All,
        _ => ReadData::Nothing,
    };
    repository.may_check(args.read_data).await?;
    let notes = matches!(which, Which::Repository) && !args.no_note;
    let options = CheckOptions { read, record: notes, ..CheckOptions::default() };
    let progress = Arc::new(console.progress(&format!("checking {}", which.name()), None));
    let checked = match which {
        Which::Copy(copy, Some(policies)) => {
            let takes = |point: &Point| policies.goes_to(copy, point.volume.as_str(), &point.info.labels);
            repository.check_chosen(&options, &takes, &report(&progress)).await
        }
        Which::Repository | Which::Copy(_, None) => repository.check_with(&options, &report(&progress)).await,
    };
    progress.finish();
    Ok(checked?)
}
