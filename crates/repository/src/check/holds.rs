//! Holds that restores put on and did not take off: of those that run, or of those that were killed.

use futures::StreamExt;
use jiff::Timestamp;
use serde::Serialize;
use strongroom_model::{RecoveryPointId, VolumeName};

use crate::record::Event;
use crate::repository::Repository;

/// How restores call their holds: this, and the run.
pub(super) const RESTORE_HOLD: &str = "restore ";

/// How many records are read, from the newest back, to find out since when a hold is there.
const MOST_RECORDS: u64 = 4096;

/// How many at once.
const AT_ONCE: usize = 16;

/// A hold of a restore.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LeftHold {
    /// On which point.
    pub point: RecoveryPointId,
    /// Of which volume.
    pub volume: VolumeName,
    /// Its name.
    pub hold: String,
    /// Since when; not there where that is longer ago than the newest 4096 records.
    pub held_at: Option<Timestamp>,
    /// The command that takes it off, once the restore is known to be over.
    pub release: String,
}

impl Repository {
    /// The holds of restores, oldest first. Reads records only where there is one; what cannot be read is left out.
    pub async fn left_holds(&self) -> Vec<LeftHold> {
        let fold = self.known_fold();
        let mut holds = Vec::new();
        for point in fold.points.values() {
            for hold in point.held.iter().filter(|hold| hold.starts_with(RESTORE_HOLD)) {
                holds.push(LeftHold {
                    point: point.id,
                    volume: point.volume.clone(),
                    hold: hold.clone(),
                    held_at: None,
                    release: format!("strongroom points release {} --name {hold:?}", point.id),
                });
            }
        }
        let back = (fold.number.saturating_sub(MOST_RECORDS) + 1..=fold.number).rev();
        let mut records =
            futures::stream::iter(back).map(|number| self.journal().fetch(number)).buffered(AT_ONCE);
        while holds.iter().any(|hold| hold.held_at.is_none()) {
            let Some(Ok(Some((record, _)))) = records.next().await else { break };
            let Event::Held(held) = &record.event else { continue };
            let name = self.unveil(&held.hold);
            for hold in holds.iter_mut().filter(|hold| hold.point == held.point && hold.hold == name) {
                hold.held_at.get_or_insert(record.time);
            }
        }
        holds.sort_by_key(|hold| hold.held_at);
        holds
    }
}
