//! `strongroom repository extend-locks`: what is needed stays locked.

use std::sync::Arc;

use serde::Serialize;
use strongroom_console::{Console, Exit, Failed, local_and_utc};
use strongroom_model::World;
use strongroom_repository::locks::LockReport;
use strongroom_settings::{OpenedRepository, RepositoryArgs, open_repository};

use super::repository::report;
use crate::copies::Copy;

#[derive(Debug, Serialize)]
struct Extended {
    places: Vec<Place>,
}

#[derive(Debug, Serialize)]
struct Place {
    location: String,
    /// The settings ask for no locks there.
    locks: bool,
    #[serde(flatten)]
    report: LockReport,
}

pub(super) async fn extend(args: RepositoryArgs, console: &Console, world: &World) -> Result<Exit, Failed> {
    let settings = args.resolve()?;
    let copies = Copy::all(&settings, None, world).await?;
    let OpenedRepository { repository, store, .. } = open_repository(&settings, world).await?;
    let mut places = Vec::new();
    for store in std::iter::once(&store).chain(copies.iter().map(|copy| &copy.store)) {
        let (location, locks) = (store.location(), store.lock_span().is_some());
        let report = if locks {
            let progress = Arc::new(console.progress("extending locks", None));
            let extended = repository.prolong_locks(store, &report(&progress)).await;
            progress.finish();
            extended?
        } else {
            LockReport::default()
        };
        places.push(Place { location, locks, report });
    }
    let extended = Extended { places };
    console.result(&extended, |text| {
        for place in &extended.places {
            let location = &place.location;
            let until = place.report.locked_until.map(|at| local_and_utc(at, console.time_zone()));
            match (place.locks, until) {
                (false, _) => {
                    text.line(format_args!("{location}: no locks (`lock_for` is not set, or it is a folder)"))
                }
                (true, None) => text.line(format_args!("{location}: no pack to lock")),
                (true, Some(until)) => text.line(format_args!(
                    "{location}: {} packs are locked until {until}",
                    place.report.prolonged
                )),
            };
            for (object, why) in &place.report.failures {
                text.line(format_args!("  {object}: {why}"));
            }
            if place.report.failed > 0 {
                text.line(format_args!("  {} locks could not be extended", place.report.failed));
            }
        }
    });
    let failed = extended.places.iter().any(|place| place.report.failed > 0);
    Ok(if failed { Exit::FAILED } else { Exit::Done })
}
