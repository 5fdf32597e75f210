//! Targets that the driver makes: a new volume, and a volume in place.

use std::path::Path;
use std::sync::Arc;

use strongroom_block_io::{BlockSource, BlockTarget, Caching, FileSource};
use strongroom_console::Failed;
use strongroom_model::VolumeName;
use strongroom_proto::control::BeginRestoreRequest;
use strongroom_repository::Source;

use super::{Prepared, Restore};
use crate::driver::{BASE, Driver, Labels, OWNER, POINT, RESTORES, RUN, fs_of_word};
use crate::error::HydrateError;
use crate::hydrate::Hydrated;
use crate::journal::{Journal, Stage};
use crate::plan::{Base, Target};
use crate::refusal::Refusal;
use crate::report::{Report, Swapped};
use crate::survey::Local;
use crate::target::{device, in_place, volume};
use crate::verify::Verified;

impl Restore {
    pub(super) async fn to_volume(
        &self,
        prepared: &mut Prepared,
        name: &VolumeName,
        bytes: u64,
        fs: &str,
    ) -> Result<Report, Failed> {
        let driver = prepared.driver.clone().ok_or(Refusal::NoDriver)?;
        if prepared.wanted.start_over
            && let Some(old) = driver.volume_named(name).await?
            && old.labels.get(RUN) != Some(&prepared.plan.run.to_string())
        {
            driver.discard_restore(&old.id).await?;
        }
        let owner = match &prepared.point.info.source {
            Source::Driver { volume, .. } => Some(volume.to_string()),
            Source::Image { .. } => None,
        };
        let labels = volume::labels(&prepared.wanted, prepared.plan.run, owner, &prepared.point.info.labels);
        let begun = driver
            .begin_restore(BeginRestoreRequest {
                name: name.to_string(),
                fs: fs_of_word(fs).into(),
                bytes,
                labels: labels.into_iter().collect(),
                from_snapshot_id: String::new(),
                point_id: prepared.plan.point.id.to_string(),
                content_bytes: prepared.plan.point.volume_bytes,
                only_volume_id: prepared.wanted.only.clone().unwrap_or_default(),
            })
            .await?;
        prepared.aimed.journal = prepared.wanted.state_journal(&begun.volume_id);
        let (hydrated, verified, journal) =
            self.fill(prepared, &begun.volume_id, &begun.path, begun.resumed).await?;
        driver.finish_restore(&begun.volume_id).await?;
        if let Some(journal) = journal {
            journal.remove().map_err(HydrateError::from)?;
        }
        Ok(Report::new(&prepared.plan, hydrated, verified))
    }

    pub(super) async fn in_place(&self, prepared: &mut Prepared) -> Result<Report, Failed> {
        let driver = prepared.driver.clone().ok_or(Refusal::NoDriver)?;
        let Target::InPlace { volume_id, bytes, fs, staging, remount, .. } = prepared.plan.target.clone()
        else {
            return Err(Refusal::DriverAnswer { what: "another target".into() }.into());
        };
        let run = prepared.plan.run;
        let mut exchanging = None;
        if let Some(found) = &prepared.aimed.earlier
            && found.stage == Stage::Exchanging
        {
            exchanging = found.header.staged.clone();
        }
        let (hydrated, verified, journal, staged) = if let Some(staged) = exchanging {
            let header =
                prepared.wanted.header(run, &prepared.plan.target, &prepared.plan.base, Some(staged.clone()));
            (Hydrated::default(), None, self.open_journal(prepared, header)?, staged)
        } else {
            if prepared.wanted.start_over {
                in_place::give_up_others(&driver, &volume_id, run).await?;
            }
            let (from, own) = self.clone_from(prepared, &driver, &volume_id).await?;
            let labels = Labels::from([
                (RUN.into(), run.to_string()),
                (POINT.into(), prepared.plan.point.id.to_string()),
                (RESTORES.into(), volume_id.clone()),
                (BASE.into(), in_place::label_of_base(&prepared.plan.base)),
            ]);
            let begun = driver
                .begin_restore(BeginRestoreRequest {
                    name: staging,
                    fs: fs_of_word(&fs).into(),
                    bytes,
                    labels: labels.into_iter().collect(),
                    from_snapshot_id: from.clone().unwrap_or_default(),
                    ..BeginRestoreRequest::default()
                })
                .await?;
            if own && let Some(snapshot) = &from {
                // The clone stands on its own.
                driver.delete_snapshot(snapshot).await?;
            }
            let (hydrated, verified, journal) =
                self.fill(prepared, &begun.volume_id, &begun.path, begun.resumed).await?;
            (hydrated, verified, journal, begun.volume_id)
        };
        let mut journal = journal;
        if let Some(journal) = &mut journal {
            journal.reach(Stage::Exchanging).map_err(HydrateError::from)?;
        }
        let labels =
            Labels::from([(RUN.into(), run.to_string()), (POINT.into(), prepared.plan.point.id.to_string())]);
        let swapped = exchange(&driver, &volume_id, &staged, run, labels, remount).await?;
        if let Some(journal) = journal {
            journal.remove().map_err(HydrateError::from)?;
        }
        let mut report = Report::new(&prepared.plan, hydrated, verified);
        report.swapped = Some(swapped);
        Ok(report)
    }

    /// The snapshot that the staged volume is cloned from, and whether it was made for that.
    async fn clone_from(
        &self,
        prepared: &Prepared,
        driver: &Driver,
        volume: &str,
    ) -> Result<(Option<String>, bool), Failed> {
        if let Some(before) = &prepared.aimed.cloned_from {
            return Ok((Some(before.clone()), false));
        }
        if let Some(snapshot) = prepared.plan.base.snapshot() {
            return Ok((Some(snapshot.to_string()), false));
        }
        for stray in driver.snapshots(Some(volume)).await? {
            // Of a run that was killed between the snapshot and its clone.
            if stray.owner == OWNER && stray.label.starts_with("base-run-") {
                driver.delete_snapshot(&stray.id).await?;
            }
        }
        let run = prepared.plan.run.to_string();
        let labels = Labels::from([(RUN.into(), run.clone())]);
        let snapshot = driver.snapshot(volume, &format!("base-{run}"), labels).await?;
        Ok((Some(snapshot.id), true))
    }

    /// Fills a volume that the driver has made ready, and reads it back where that is wanted. The device is closed again
    /// when this returns.
    async fn fill(
        &self,
        prepared: &mut Prepared,
        volume: &str,
        path: &str,
        resumed: bool,
    ) -> Result<(Hydrated, Option<Verified>, Option<Journal>), Failed> {
        let path = Path::new(path);
        if !resumed {
            // What was noted is about a volume that is no more.
            prepared.aimed.earlier = None;
        }
        let header = prepared.wanted.header(
            prepared.plan.run,
            &prepared.plan.target,
            &prepared.plan.base,
            Some(volume.into()),
        );
        let mut journal = self.open_journal(prepared, header)?;
        let target: Arc<dyn BlockTarget> = Arc::new(device::open(path)?);
        if prepared.plan.base == Base::VolumeItself {
            // Only now there is something to compare that stands still: the plan, minus what is found.
            let source: Arc<dyn BlockSource> =
                Arc::new(FileSource::open(path, Caching::Direct).map_err(HydrateError::from)?);
            let local = Local { source, hasher: self.hasher(), is_target: true };
            let done = journal.as_ref().map(|journal| journal.done().clone());
            let Prepared { plan, map, supply, .. } = &mut *prepared;
            self.survey_into(plan, map, &**supply, Some(local), done.as_ref()).await?;
        }
        let prepared = &*prepared;
        let hydrated = self.hydrate(prepared, Arc::clone(&target), None, journal.as_mut()).await?;
        let verified = self.verify_device(prepared, path, &hydrated, journal.as_mut()).await?;
        if let Some(journal) = &mut journal {
            journal.reach(Stage::Verified).map_err(HydrateError::from)?;
        }
        Ok((hydrated, verified, journal))
    }
}

/// Exchanges the content and says what became of it.
pub(crate) async fn exchange(
    driver: &Driver,
    volume: &str,
    staged: &str,
    run: strongroom_model::RunId,
    labels: Labels,
    remount: bool,
) -> Result<Swapped, Failed> {
    let answer = driver.exchange(volume, staged, run, labels, remount).await?;
    let safety = answer.safety.ok_or_else(|| Refusal::DriverAnswer { what: "no safety snapshot".into() })?;
    Ok(Swapped {
        safety_snapshot: safety.id,
        safety_label: safety.label,
        remounted: answer.remounted,
        not_remounted: answer
            .not_remounted
            .into_iter()
            .map(|not| format!("{}: {}", not.path, not.reason))
            .collect(),
        undo: format!("strongroom restore undo {run}"),
    })
}
