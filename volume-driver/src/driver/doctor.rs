//! Looking for what is wrong, and mending it: `strongroom driver doctor`.
//!
//! [`Driver::examine`] changes nothing. What is being worked on at that moment, which its guard tells, is not a
//! finding. [`Driver::carry_out`] looks again and does those of the given steps that are still called for.

mod images;
mod places;
mod surroundings;

use crate::core_error::CoreError;
use crate::driver::Driver;
use crate::findings::{Finding, Repair, Repaired, Severity};

/// A finding in fewer words.
fn finding(
    code: &str,
    severity: Severity,
    subject: impl Into<String>,
    message: impl Into<String>,
    advice: &str,
    repair: Option<Repair>,
) -> Finding {
    Finding {
        code: code.to_owned(),
        severity,
        subject: subject.into(),
        message: message.into(),
        advice: advice.to_owned(),
        repair,
    }
}

impl Driver {
    /// Everything that is wrong or worth knowing, the worst first. `idle`: also unstage what is published nowhere.
    pub(crate) fn examine(&self, idle: bool) -> Result<Vec<Finding>, CoreError> {
        let mut found = Vec::new();
        self.examine_registry(&mut found)?;
        self.examine_pool(&mut found)?;
        surroundings::examine(&mut found);
        found.append(&mut self.examine_state(idle)?);
        found.sort_by_key(|found| std::cmp::Reverse(found.severity));
        Ok(found)
    }

    /// Registry, pool and kernel: what repairs are for.
    fn examine_state(&self, idle: bool) -> Result<Vec<Finding>, CoreError> {
        let mut found = Vec::new();
        self.examine_images(&mut found)?;
        self.examine_places(idle, &mut found)?;
        Ok(found)
    }

    /// Carries the steps of a plan out that are still called for; one answer for each.
    pub(crate) fn carry_out(&self, plan: &[Repair], idle: bool) -> Result<Vec<Repaired>, CoreError> {
        let mut outcomes = Vec::new();
        for step in plan {
            // Each step may have mended what the next was for.
            let called_for =
                self.examine_state(idle)?.iter().any(|found| found.repair.as_ref() == Some(step));
            outcomes.push(if called_for {
                match self.mend(step) {
                    Ok(()) => Repaired::Done,
                    Err(error) => Repaired::Failed(strongroom_model::chain(&error)),
                }
            } else {
                Repaired::Gone
            });
        }
        Ok(outcomes)
    }

    fn mend(&self, step: &Repair) -> Result<(), CoreError> {
        let image = |text: &str| {
            text.parse().map_err(|_| CoreError::Refused {
                subject: format!("the image {text:?}"),
                reason: "it is not the name of an image".to_owned(),
            })
        };
        match step {
            Repair::Adopt { image: name } => self.adopt(&image(name)?),
            Repair::RemoveDiscarded { image: name } => self.collect(&image(name)?),
            Repair::UndoVolume { volume } => {
                let _guard = self.guards.take(volume)?;
                match self.registry.volume(*volume)? {
                    Some(row) => self.undo_create(&row),
                    None => Ok(()),
                }
            }
            Repair::UndoSnapshot { snapshot } => {
                let _guard = self.guards.take(snapshot)?;
                match self.registry.snapshot(*snapshot)? {
                    Some(row) if !row.ready => self.undo_snapshot(&row),
                    _ => Ok(()),
                }
            }
            Repair::UndoMounts { volume } => {
                let _guard = self.guards.take(volume)?;
                let row = self.existing(*volume)?;
                self.settle_intents(&row, &mut Vec::new())?;
                self.let_go_if_unused(&row)
            }
            Repair::ForgetMount { volume, path } => {
                let _guard = self.guards.take(volume)?;
                self.forget_mount(&self.existing(*volume)?, path)
            }
            Repair::Detach { volume } => {
                let _guard = self.guards.take(volume)?;
                self.let_go(&self.existing(*volume)?)
            }
            Repair::Unstage { volume, path } => self.unstage(*volume, path),
        }
    }

    fn examine_registry(&self, found: &mut Vec<Finding>) -> Result<(), CoreError> {
        let said = self.registry.check()?;
        if said != ["ok"] {
            found.push(finding(
                "registry.damaged",
                Severity::Problem,
                "the registry",
                format!("its own check says: {}", said.join("; ")),
                "stop the driver, keep a copy of driver.sqlite, move it away and start the driver: `doctor --repair` then \
                 makes the registry again from the images",
                None,
            ));
        }
        Ok(())
    }

    fn examine_pool(&self, found: &mut Vec<Finding>) -> Result<(), CoreError> {
        let room = self.capacity()?;
        let pool = format!("the pool {}", room.pool.display());
        let advice =
            "delete snapshots or volumes that are no longer needed, or give the driver a larger pool";
        if let Some(condition) = &room.condition {
            found.push(finding("pool.full", Severity::Problem, &pool, condition, advice, None));
        } else if room.used_bytes > room.high_water_bytes / 10 * 9 {
            let message = format!(
                "{} of {} bytes are used; nothing new is taken in above {}",
                room.used_bytes, room.pool_bytes, room.high_water_bytes
            );
            found.push(finding("pool.nearly-full", Severity::Warning, &pool, message, advice, None));
        }
        if room.provisioned_bytes > room.pool_bytes {
            let message = format!(
                "volumes of {} bytes are promised, and it has {}",
                room.provisioned_bytes, room.pool_bytes
            );
            let advice =
                "that is allowed, and works as long as volumes are not all full: watch how full the pool is";
            found.push(finding("pool.overcommitted", Severity::Note, &pool, message, advice, None));
        }
        Ok(())
    }
}
