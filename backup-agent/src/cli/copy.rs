//! `strongroom repository copy`: second copies, and making one a repository of its own.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use strongroom_console::{Console, Exit, Failed, Size};
use strongroom_model::{Failure, Remedy, World};
use strongroom_object_store::make_place;
use strongroom_repository::Repository;
use strongroom_repository::copy::CopyReport;
use strongroom_settings::{Config, RepositoryArgs, RepositorySettings, open_repository};

use super::repository::report;
use crate::copies::Copy;
use crate::policy::Policies;

/// `strongroom repository copy`
#[derive(Debug, clap::Args)]
pub struct CopyArgs {
    #[command(flatten)]
    repository: RepositoryArgs,
    /// Which copy: its name in the configuration, or a URL. Without it: all that the configuration names
    #[arg(long, value_name = "COPY", conflicts_with = "promote")]
    to: Option<String>,
    /// Make the copy at --repository a repository of its own, because the one that it is a copy of is lost
    #[arg(long)]
    promote: bool,
    /// Promote without asking
    #[arg(long, short = 'y', requires = "promote")]
    yes: bool,
}

/// Nothing says where to copy to.
#[derive(Debug, thiserror::Error)]
#[error("no copy was named")]
struct NoCopy;

impl Failure for NoCopy {
    fn code(&self) -> &'static str {
        "copy.not-named"
    }

    fn remedy(&self) -> Remedy {
        Remedy::FixRequest
    }

    fn advice(&self) -> String {
        "Give --to URL, or write [[repository.copies]] into the configuration.".to_owned()
    }
}

#[derive(Debug, Serialize)]
struct Copied {
    copies: Vec<OneCopy>,
}

#[derive(Debug, Serialize)]
struct OneCopy {
    copy: String,
    location: String,
    #[serde(flatten)]
    report: CopyReport,
}

pub(super) async fn run(args: CopyArgs, console: &Console, world: &World) -> Result<Exit, Failed> {
    let (settings, config) = args.repository.resolve_with_config()?;
    let settings = match &config {
        Some(config) => settings.limited(&config.agent, console.time_zone()),
        None => settings,
    };
    if args.promote {
        return promote(&settings, args.yes, console, world).await;
    }
    let policies = policies_of(config.as_ref(), args.repository.config.as_deref(), console, world)?;
    let copies = named(&settings, args.to.as_deref(), policies.as_ref(), world).await?;
    let repository = open_repository(&settings, world).await?.repository;
    let mut done = Vec::new();
    for copy in copies {
        let progress = Arc::new(console.progress(&format!("copying to {}", copy.name), None));
        let copied = copy.bring_up_to_date(&repository, world, &report(&progress)).await;
        progress.finish();
        done.push(OneCopy { location: copy.store.location(), copy: copy.name, report: copied? });
    }
    let copied = Copied { copies: done };
    console.result(&copied, |text| {
        for one in &copied.copies {
            let report = &one.report;
            text.line(format_args!(
                "{}: {} records, {} packs ({}) copied; it is whole up to record {} with {} recovery points",
                one.copy,
                report.records,
                report.packs,
                Size(report.copied_bytes),
                report.until,
                report.points
            ));
            if report.deleted_objects > 0 {
                text.line(format_args!("  {} objects that sweeps freed are deleted", report.deleted_objects));
            }
            if report.retained_objects > 0 {
                text.line(format_args!("  {} objects are kept by a retention lock", report.retained_objects));
            }
            if report.no_delete_right {
                text.line("  what sweeps freed stays: these credentials may not delete");
            }
            for (object, why) in &report.lacks {
                text.line(format_args!("  {object} could not be copied: {why}"));
            }
        }
    });
    let is_whole = copied.copies.iter().all(|one| one.report.lacks.is_empty());
    Ok(if is_whole { Exit::Done } else { Exit::Damaged })
}

/// What the configuration says of where points go, where there is one.
pub(super) fn policies_of(
    config: Option<&Config>,
    path: Option<&Path>,
    console: &Console,
    world: &World,
) -> Result<Option<Arc<Policies>>, Failed> {
    let (Some(config), Some(path)) = (config, path) else { return Ok(None) };
    Ok(Some(Arc::new(Policies::new(config, path, console.time_zone(), world.clock.now())?)))
}

/// The copies that are meant. A folder is made, as by `init`: this command is the one that begins a copy.
async fn named(
    settings: &RepositorySettings,
    to: Option<&str>,
    policies: Option<&Arc<Policies>>,
    world: &World,
) -> Result<Vec<Copy>, Failed> {
    let Some(to) = to else {
        if settings.copies.is_empty() {
            return Err(NoCopy.into());
        }
        for copy in &settings.copies {
            make_place(&copy.url)?;
        }
        return Ok(Copy::all(settings, policies, world).await?);
    };
    let place = settings.of_place(to);
    make_place(&place.url)?;
    let store = place.open_counted(world).await?.store;
    // A place that the configuration does not name gets everything.
    let known = settings.copies.iter().find(|copy| copy.name == to || copy.url == to);
    let name = known.map_or(to, |copy| &copy.name).to_owned();
    let policies = policies.filter(|_| known.is_some()).cloned();
    Ok(vec![Copy { name, store, max_lag: Duration::MAX, policies }])
}

async fn promote(
    settings: &RepositorySettings,
    yes: bool,
    console: &Console,
    world: &World,
) -> Result<Exit, Failed> {
    let unlock = settings.unlock()?;
    let store = settings.open_counted(world).await?.store;
    console.talk(format_args!(
        "{} becomes a repository of its own: what the repository that it is a copy of gets from now on never comes here.",
        store.location()
    ));
    console.confirm("Promote it?", yes)?;
    let agent = settings.open_options().agent;
    let promoted = Repository::promote(store, world.clone(), &unlock, &agent).await?;
    console.result(&promoted, |text| {
        if promoted.was_promoted {
            text.line("It was promoted before; nothing was done.");
            return;
        }
        text.line(format_args!(
            "promoted, with {} recovery points; the last record that was copied is {}",
            promoted.points, promoted.until
        ));
        if !promoted.fenced.is_empty() {
            text.line(format_args!("{} writers of the lost repository are shut out", promoted.fenced.len()));
        }
        for point in &promoted.forgotten {
            text.line(format_args!("{point} is forgotten: its copying was not finished"));
        }
    });
    Ok(Exit::Done)
}
