//! Restore in place: a volume gets the content of another in one transaction, and its old content becomes a
//! snapshot.
//!
//! ```text
//! begun      the run, the id of the safety snapshot and the hand mounts are written down
//!            hand mounts are unmounted, both devices taken away, the safety snapshot is taken
//! switched   one transaction: the volume has the other image, the other volume is gone, the old image is discarded
//!            the old image is removed, the hand mounts are mounted again
//! done
//! ```
//!
//! A crash before `switched` is undone at the next start (the old content is mounted again, and the safety
//! snapshot, which would grow stale, is dropped); a crash after it is finished.

use std::path::PathBuf;

use strongroom_model::SnapshotId;

use crate::core_error::CoreError;
use crate::crash;
use crate::driver::Driver;
use crate::driver::describe::described;
use crate::driver::snapshot::check_label;
use crate::nouns::{MountUse, Outcome};
use crate::registry::{ExchangeRow, ExchangeStep, VolumeRow, VolumeStep};
use crate::requests::{CreateSnapshot, Exchange, Exchanged, LabelScope};

/// Where hand mounts could not be mounted again, and why.
type Missing = Vec<(PathBuf, String)>;

impl Driver {
    pub(crate) fn exchange_content(&self, request: &Exchange) -> Result<Outcome<Exchanged>, CoreError> {
        check_label(&request.safety_label)?;
        let _volume = self.guards.take(request.volume)?;
        if let Some(known) = self.registry.exchange(&request.run)? {
            return self.answer_again(&known, request);
        }
        let _staged = self.guards.take(request.staged)?;
        let volume = self.usable(request.volume)?;
        let staged = self.existing(request.staged)?;
        self.refuse_unfit(&volume, &staged, request)?;

        let remounts =
            self.hand_mounts(&volume)?.into_iter().map(|known| (known.mount.path, known.mount.options));
        let row = ExchangeRow {
            run: request.run.clone(),
            volume: volume.id,
            staged: staged.id,
            safety: SnapshotId::random(&*self.world.entropy),
            remounts: remounts.collect(),
            step: ExchangeStep::Begun,
        };
        self.registry.begin_exchange(&row)?;
        crash::point!("exchange.begun");
        if let Err(error) = self.switch(&row, &volume, &staged, request) {
            self.undo_exchange(&row)?;
            return Err(error);
        }
        crash::point!("exchange.switched");
        let not_remounted = self.finish_exchange(&row)?;
        self.note_volume(&self.existing(row.volume)?);
        self.collect_or_log(&volume.image);
        self.exchanged(&row, not_remounted).map(Outcome::Created)
    }

    fn refuse_unfit(
        &self,
        volume: &VolumeRow,
        staged: &VolumeRow,
        request: &Exchange,
    ) -> Result<(), CoreError> {
        if volume.id == staged.id || volume.kind != staged.kind {
            let reason = format!("{} cannot give it its content: it is {}", staged.subject(), staged.kind);
            return Err(CoreError::Refused { subject: volume.subject(), reason });
        }
        if staged.step == VolumeStep::Ready {
            self.refuse_if_in_use(staged)?;
        }
        if let Some(existing) = self.registry.labelled(volume.id, &request.safety_label)? {
            let difference = format!("it was made at {}", existing.created_at);
            return Err(CoreError::Conflict { subject: existing.subject(), difference });
        }
        let device = self.backend.attached(&volume.image)?;
        let live = self.live_mounts(volume, device.as_ref())?;
        match live.iter().find(|live| live.mount.purpose != MountUse::Hand || !request.remount) {
            None => Ok(()),
            Some(live) => Err(CoreError::InUse {
                subject: volume.subject(),
                holder: format!("it is mounted at {}", live.mount.path.display()),
            }),
        }
    }

    /// Everything up to the one transaction.
    fn switch(
        &self,
        row: &ExchangeRow,
        volume: &VolumeRow,
        staged: &VolumeRow,
        request: &Exchange,
    ) -> Result<(), CoreError> {
        let folders: Vec<PathBuf> = row.remounts.iter().map(|(path, _)| path.clone()).collect();
        self.unmount_by_hand(volume, &folders)?;
        crash::point!("exchange.unmounted");
        // Mounts that the registry does not know are found here.
        self.refuse_if_in_use(volume)?;
        self.let_go(volume)?;
        self.seal_content(staged)?;
        crash::point!("exchange.sealed");
        let safety = CreateSnapshot {
            volume: volume.id,
            label: request.safety_label.clone(),
            scope: LabelScope::Volume,
            owner: "restore".to_owned(),
            labels: request.safety_labels.clone(),
        };
        self.take_snapshot(row.safety, volume, &safety)?;
        crash::point!("exchange.saved");
        self.backend.grow(&staged.image, volume.bytes)?;
        self.registry.switch_images(&row.run, volume, staged)
    }

    /// Takes an exchange back that did not come to its transaction.
    pub(super) fn undo_exchange(&self, row: &ExchangeRow) -> Result<(), CoreError> {
        if let Some(safety) = self.registry.snapshot(row.safety)? {
            self.undo_snapshot(&safety)?;
        }
        for (path, reason) in self.remount(row)? {
            tracing::warn!(volume = %row.volume, path = %path.display(), reason, "not mounted again");
        }
        self.registry.drop_exchange(&row.run)
    }

    /// What is left to do after the transaction, but for removing the old image.
    pub(super) fn finish_exchange(&self, row: &ExchangeRow) -> Result<Missing, CoreError> {
        let missing = self.remount(row)?;
        crash::point!("exchange.remounted");
        self.registry.finish_exchange(&row.run)?;
        Ok(missing)
    }

    fn remount(&self, row: &ExchangeRow) -> Result<Missing, CoreError> {
        let Some(volume) = self.registry.volume(row.volume)? else { return Ok(Vec::new()) };
        let mut missing = Vec::new();
        for (path, options) in &row.remounts {
            if let Err(error) = self.mount_by_hand(&volume, path, options) {
                missing.push((path.clone(), strongroom_model::chain(&error)));
            }
        }
        Ok(missing)
    }

    fn answer_again(&self, known: &ExchangeRow, request: &Exchange) -> Result<Outcome<Exchanged>, CoreError> {
        if known.volume != request.volume || known.staged != request.staged {
            let existing = self.exchanged(known, Vec::new())?;
            let difference = "the run exchanged other volumes".to_owned();
            return Ok(Outcome::Conflict { existing, difference });
        }
        match known.step {
            // The undoing failed, or another call is at it; the start of the driver settles it.
            ExchangeStep::Begun => Err(CoreError::Busy { subject: format!("restore {}", known.run) }),
            ExchangeStep::Switched | ExchangeStep::Done => {
                let missing = if known.step == ExchangeStep::Switched {
                    self.finish_exchange(known)?
                } else {
                    Vec::new()
                };
                self.collect_discarded()?;
                self.exchanged(known, missing).map(Outcome::Identical)
            }
        }
    }

    fn exchanged(&self, row: &ExchangeRow, not_remounted: Missing) -> Result<Exchanged, CoreError> {
        let volume = self.describe(&self.existing(row.volume)?)?;
        let safety = self.complete_snapshot(row.safety).map(described)?;
        let mounted = |path: &PathBuf| volume.mounts.iter().any(|mount| mount.path == *path);
        let remounted = row.remounts.iter().map(|(path, _)| path.clone()).filter(mounted).collect();
        Ok(Exchanged { volume, safety, remounted, not_remounted })
    }
}
