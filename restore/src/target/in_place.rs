//! A volume in place: a staged volume is filled beside it, then the two exchange their content.
//!
//! The staged volume begins as a clone of the best that is at hand, so that only what differs is fetched:
//! 1. the very snapshot that the point was taken from: nothing is fetched;
//! 2. the snapshot that the newest point with a snapshot was taken from: the two maps say what differs;
//! 3. the volume itself as it is now: each chunk is compared by its hash.
//!
//! The clone takes no space beyond what differs, and the volume is untouched until the exchange.

use std::collections::BTreeMap;

use strongroom_console::Failed;
use strongroom_model::{RecoveryPointId, RunId, SnapshotId};
use strongroom_proto::control::{Volume, VolumeState};
use strongroom_repository::{Point, Source};

use super::{Aimed, Wanted};
use crate::driver::{BASE, Driver, IDENTITY, POINT, RESTORES, RUN, fs_word, safety_label, snapshot_id};
use crate::journal::Stage;
use crate::plan::{Base, Target};
use crate::refusal::Refusal;
use crate::work::Scope;

/// How a volume in place is wanted.
#[derive(Debug)]
pub(crate) struct InPlace<'a> {
    pub(crate) volume: &'a strongroom_model::VolumeName,
    pub(crate) source: &'a Source,
    pub(crate) force_identity: bool,
    pub(crate) remount: bool,
    /// All current points of the volume whose content it is.
    pub(crate) points: Vec<&'a Point>,
}

/// Looks at the volume and at what is at hand. The scope is only told for the point's own snapshot; for another point's
/// it follows from the maps.
pub(crate) async fn aim(wanted: &Wanted, driver: &Driver, asked: &InPlace<'_>) -> Result<Aimed, Failed> {
    let name = asked.volume;
    let volume =
        driver.volume_named(name).await?.ok_or_else(|| Refusal::NoSuchVolume { name: name.clone() })?;
    match volume.state() {
        VolumeState::Ready => {}
        VolumeState::Hydrating => {
            return Err(Refusal::VolumeNotReady {
                name: name.clone(),
                state: "being filled by a restore".into(),
            }
            .into());
        }
        _ => return Err(Refusal::VolumeNotReady { name: name.clone(), state: volume.message.clone() }.into()),
    }
    let mut notes = Vec::new();
    identity(wanted, asked, &volume, &mut notes)?;
    let needed = wanted.point.volume_bytes;
    if volume.bytes < needed {
        return Err(
            Refusal::TooSmall { target: format!("volume {name}"), bytes: volume.bytes, needed }.into()
        );
    }
    let fs = fs_word(volume.fs).to_owned();
    if volume.bytes > needed && fs != "block" {
        notes.push(format!(
            "the volume is larger than the point was; its {fs} will have the size it had then"
        ));
    }
    if let Some(was) = wanted.point.fs.as_deref().filter(|was| *was != fs) {
        notes.push(format!("the volume is {fs} and the point holds {was}"));
    }
    for mount in &volume.mounts {
        notes.push(format!(
            "{name} is mounted at {}; it is unmounted for the exchange and mounted again",
            mount.path
        ));
    }
    let staged = staged_before(wanted, driver, &volume.id, &mut notes).await?;
    let journal = wanted.state_journal(&format!("in-place-{}", volume.id));
    let mut run = wanted.run;
    let mut base = base(driver, asked, wanted.point.id, &volume.id).await?;
    if let Some(staged) = &staged {
        run = staged.run;
        // It stays what it began with, whatever would be better by now. When that other point was forgotten, so that
        // nobody knows any more what differs, it is compared.
        let known = |point: &RecoveryPointId| asked.points.iter().any(|found| found.id == *point);
        base = match &staged.base {
            Some(Base::OtherSnapshot { point, .. }) if !known(point) => Base::VolumeItself,
            Some(with) => with.clone(),
            None => Base::VolumeItself,
        };
    }
    let target = |run| Target::InPlace {
        volume: name.clone(),
        volume_id: volume.id.clone(),
        bytes: volume.bytes,
        fs: fs.clone(),
        staging: format!("{run}"),
        safety_label: safety_label(run),
        remount: asked.remount,
    };
    let header = wanted.header(run, &target(run), &base, None);
    let mut earlier = wanted.earlier(journal.as_deref(), &header)?;
    // The driver was asked to exchange, and nobody heard its answer: it is asked again under the same run.
    let exchanging = earlier.as_ref().is_some_and(|found| found.stage == Stage::Exchanging);
    if let Some(found) = &earlier {
        if exchanging {
            run = found.header.run;
        } else if staged.as_ref().is_none_or(|staged| staged.run != found.header.run) {
            earlier = None;
        }
    }
    let own = matches!(base, Base::OwnSnapshot { .. });
    Ok(Aimed {
        run,
        target: target(run),
        base,
        target_bytes: volume.bytes,
        blank: false,
        scope: if exchanging || own { Scope::Ranges(Vec::new()) } else { Scope::All },
        local: None,
        journal,
        earlier,
        cloned_from: staged.map(|staged| staged.made_from),
        undo: true,
        notes,
    })
}

/// That the content belongs into this volume.
fn identity(
    wanted: &Wanted,
    asked: &InPlace<'_>,
    volume: &Volume,
    notes: &mut Vec<String>,
) -> Result<(), Failed> {
    let owner = match asked.source {
        Source::Driver { volume, .. } => Some(volume.to_string()),
        Source::Image { .. } => None,
    };
    let same_name = *asked.volume == wanted.point.volume;
    let same_id =
        owner.as_ref().is_none_or(|owner| *owner == volume.id || volume.labels.get(IDENTITY) == Some(owner));
    if same_name && same_id {
        return Ok(());
    }
    let text = |id: Option<&str>| id.map(|id| format!(" ({id})")).unwrap_or_default();
    let owner = format!("volume {}{}", wanted.point.volume, text(owner.as_deref()));
    let target = format!("volume {}{}", asked.volume, text(Some(&volume.id)));
    if asked.force_identity {
        notes.push(format!("the content of {owner} goes into {target}, as --force-identity allows"));
        return Ok(());
    }
    Err(Refusal::Identity { owner, target }.into())
}

/// A staged volume of an earlier run.
#[derive(Debug)]
struct Staged {
    run: RunId,
    base: Option<Base>,
    made_from: String,
}

/// The staged volume of an earlier run of the same restore.
async fn staged_before(
    wanted: &Wanted,
    driver: &Driver,
    volume: &str,
    notes: &mut Vec<String>,
) -> Result<Option<Staged>, Failed> {
    let point = wanted.point.id.to_string();
    let staged = driver.volumes(&[(RESTORES, volume)]).await?;
    let (mut ours, mut others) = (None, 0);
    for staged in staged.iter().filter(|staged| staged.state() == VolumeState::Hydrating) {
        let run = staged.labels.get(RUN).and_then(|run| run.parse().ok());
        match (run, staged.labels.get(POINT)) {
            (Some(run), Some(of)) if *of == point && !wanted.start_over => {
                let base = staged.labels.get(BASE).and_then(|text| base_of_label(text));
                ours = Some(Staged { run, base, made_from: staged.made_from.clone() });
            }
            _ => others += 1,
        }
    }
    if others > 0 && wanted.start_over {
        notes.push(format!("{others} unfinished restores of this volume are given up"));
    } else if others > 0 {
        notes.push(format!(
            "{others} unfinished restores of this volume are kept; --start-over gives them up"
        ));
    }
    Ok(ours)
}

/// Gives up what other restores of this volume have staged.
pub(crate) async fn give_up_others(driver: &Driver, volume: &str, run: RunId) -> Result<(), Failed> {
    for staged in driver.volumes(&[(RESTORES, volume)]).await? {
        if staged.state() == VolumeState::Hydrating && staged.labels.get(RUN) != Some(&run.to_string()) {
            driver.discard_restore(&staged.id).await?;
        }
    }
    Ok(())
}

/// The best base that is at hand.
async fn base(
    driver: &Driver,
    asked: &InPlace<'_>,
    point: RecoveryPointId,
    volume: &str,
) -> Result<Base, Failed> {
    let kept: BTreeMap<SnapshotId, ()> =
        driver.snapshots(Some(volume)).await?.iter().filter_map(snapshot_id).map(|id| (id, ())).collect();
    let snapshot_of = |point: &Point| match &point.info.source {
        Source::Driver { snapshot, .. } if kept.contains_key(snapshot) => Some(*snapshot),
        _ => None,
    };
    let of = |found: &&&Point| (found.info.taken_at, found.number);
    let own = asked.points.iter().find(|found| found.id == point).and_then(|found| snapshot_of(found));
    if let Some(snapshot) = own {
        return Ok(Base::OwnSnapshot { snapshot });
    }
    let newest = asked.points.iter().filter(|found| snapshot_of(found).is_some()).max_by_key(of);
    Ok(match newest.and_then(|found| Some((snapshot_of(found)?, found.id))) {
        Some((snapshot, point)) => Base::OtherSnapshot { snapshot, point },
        None => Base::VolumeItself,
    })
}

/// What a staged volume began with, as its label says it.
pub(crate) fn label_of_base(base: &Base) -> String {
    match base {
        Base::OwnSnapshot { snapshot } => snapshot.to_string(),
        Base::OtherSnapshot { snapshot, point } => format!("{snapshot}/{point}"),
        _ => "volume".into(),
    }
}

fn base_of_label(text: &str) -> Option<Base> {
    match text.split_once('/') {
        Some((snapshot, point)) => {
            Some(Base::OtherSnapshot { snapshot: snapshot.parse().ok()?, point: point.parse().ok()? })
        }
        None if text == "volume" => Some(Base::VolumeItself),
        None => Some(Base::OwnSnapshot { snapshot: text.parse().ok()? }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_staged_volume_began_with_is_read_back_from_its_label() {
        let (snapshot, point) = (SnapshotId::from_bytes([1; 16]), RecoveryPointId::from_bytes([2; 16]));
        for base in
            [Base::OwnSnapshot { snapshot }, Base::OtherSnapshot { snapshot, point }, Base::VolumeItself]
        {
            assert_eq!(base_of_label(&label_of_base(&base)), Some(base));
        }
        for wrong in ["", "snap-1", "x/y"] {
            assert_eq!(base_of_label(wrong), None);
        }
    }
}
