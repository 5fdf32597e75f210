//! A new volume of the driver: it cannot be used before it is complete.

use strongroom_console::Failed;
use strongroom_model::{RunId, VolumeId, VolumeName};
use strongroom_proto::control::{Volume, VolumeState};

use super::{Aimed, Wanted};
use crate::driver::{Driver, IDENTITY, Labels, POINT, RUN};
use crate::plan::{Base, Target};
use crate::refusal::Refusal;
use crate::work::Scope;

/// Looks whether the volume can be made, or was begun before.
pub(crate) async fn aim(
    wanted: &Wanted,
    driver: &Driver,
    name: &VolumeName,
    bytes: Option<u64>,
    fs: Option<&str>,
) -> Result<Aimed, Failed> {
    let needed = wanted.point.volume_bytes;
    let bytes = bytes.unwrap_or(needed);
    if bytes < needed {
        return Err(Refusal::TooSmall { target: format!("new volume {name}"), bytes, needed }.into());
    }
    let fs = fs.or(wanted.point.fs.as_deref()).unwrap_or("block").to_owned();
    let target = Target::Volume { name: name.clone(), bytes, fs };
    let mut run = wanted.run;
    let mut journal = None;
    let mut earlier = None;
    if let Some(found) = driver.volume_named(name).await? {
        run = begun(wanted, &found, name)?;
        journal = wanted.state_journal(&found.id);
        let header = wanted.header(run, &target, &Base::Zeros, Some(found.id.clone()));
        // A volume given up and begun anew has another id, so a journal of its id is of this very volume.
        earlier = wanted.earlier(journal.as_deref(), &header)?.filter(|found| found.header.run == run);
    }
    Ok(Aimed {
        run,
        target,
        base: Base::Zeros,
        target_bytes: needed,
        blank: true,
        scope: Scope::All,
        local: None,
        journal,
        earlier,
        cloned_from: None,
        undo: false,
        notes: Vec::new(),
    })
}

/// The run that began the volume of this name, when it is a restore of the same point.
fn begun(wanted: &Wanted, found: &Volume, name: &VolumeName) -> Result<RunId, Failed> {
    if found.state() != VolumeState::Hydrating {
        return Err(Refusal::VolumeExists { name: name.clone() }.into());
    }
    if wanted.only.as_ref() == Some(&found.id) {
        return Ok(run_of(&found.id).unwrap_or(wanted.run));
    }
    let point = found.labels.get(POINT);
    match found.labels.get(RUN).and_then(|run| run.parse().ok()) {
        Some(run) if point.is_some_and(|point| *point == wanted.point.id.to_string()) => Ok(run),
        _ if wanted.start_over => Ok(wanted.run),
        Some(_) if let Some(Ok(point)) = point.map(|point| point.parse()) => {
            Err(Refusal::Unfinished { target: format!("new volume {name}"), point }.into())
        }
        _ => {
            Err(Refusal::VolumeNotReady { name: name.clone(), state: "being filled by somebody else".into() }
                .into())
        }
    }
}

/// The run that fills a volume which the driver holds ready: always the same, so that it goes on after a restart of anybody.
pub(crate) fn run_of(volume: &str) -> Option<RunId> {
    volume.parse().ok().map(|id: VolumeId| RunId::from_bytes(*id.bytes()))
}

/// The labels of a new volume: those that its source had, and whose content it is; or those that were asked for.
pub(crate) fn labels(wanted: &Wanted, run: RunId, owner: Option<String>, own: &Labels) -> Labels {
    let mut labels = match &wanted.labels {
        Some(asked) => asked.clone(),
        None => {
            let mut labels = own.clone();
            labels.retain(|name, _| !name.starts_with("strongroom.restore."));
            labels.extend(owner.map(|owner| (IDENTITY.into(), owner)));
            labels
        }
    };
    labels.insert(RUN.into(), run.to_string());
    labels.insert(POINT.into(), wanted.point.id.to_string());
    labels
}
