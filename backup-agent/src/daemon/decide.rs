//! Who is to be backed up now, and when to look again: a pure function.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use strongroom_model::VolumeName;
use strongroom_repository::Fold;

use crate::driver::Volume;
use crate::policy::Policies;
use crate::run::BackupError;
use crate::status::is_of;

/// A volume whose last backup failed, until it is tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Resting {
    /// How often in a row.
    pub failures: u32,
    /// Not before this.
    pub until: Timestamp,
}

/// The first pause after a failure, and the longest.
const FIRST: Duration = Duration::from_secs(60);
const LONGEST: Duration = Duration::from_secs(30 * 60);

impl Resting {
    /// Another failure. Pauses double; that somebody else is backing the volume up is no reason to wait longer.
    pub fn failed(&mut self, now: Timestamp, error: &BackupError) {
        if !matches!(error, BackupError::Busy { .. }) {
            self.failures += 1;
        }
        let pause = FIRST.saturating_mul(1 << self.failures.saturating_sub(1).min(10)).min(LONGEST);
        let pause = SignedDuration::try_from(pause).unwrap_or(SignedDuration::MAX);
        self.until = now.checked_add(pause).unwrap_or(Timestamp::MAX);
    }
}

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// Back these up now, the longest overdue first.
    pub start: Vec<Volume>,
    /// Look again at this moment at the latest; `None`: nothing is scheduled.
    pub wake: Option<Timestamp>,
}

/// Decides. `free` is how many more may run.
#[must_use]
pub fn decide(
    volumes: &[Volume],
    fold: &Fold,
    policies: &Policies,
    running: &BTreeSet<VolumeName>,
    resting: &BTreeMap<VolumeName, Resting>,
    free: usize,
    now: Timestamp,
) -> Decision {
    let newest = newest_points(fold, volumes);
    let mut due: Vec<(Timestamp, &Volume)> = volumes
        .iter()
        .filter(|volume| volume.trouble.is_none() && !running.contains(&volume.name))
        .filter_map(|volume| {
            let policy = policies.covering(volume.name.as_str(), &volume.labels)?;
            let at = policy.due(volume.name.as_str(), newest.get(&volume.name).copied(), now)?;
            let rested = resting.get(&volume.name).map_or(at, |resting| at.max(resting.until));
            Some((rested, volume))
        })
        .collect();
    due.sort_by(|(one, first), (other, second)| one.cmp(other).then_with(|| first.name.cmp(&second.name)));
    let ready = due.iter().take_while(|(at, _)| *at <= now).count();
    // When all places are taken, the end of a backup wakes us, not the clock.
    let wake = due.get(ready).map(|(at, _)| *at);
    let start = due.into_iter().take(ready.min(free)).map(|(_, volume)| volume.clone()).collect();
    Decision { start, wake }
}

/// The runs that should have been, and whose windows have closed since.
#[must_use]
pub fn missed(
    volumes: &[Volume],
    fold: &Fold,
    policies: &Policies,
    now: Timestamp,
) -> Vec<(VolumeName, Timestamp)> {
    let newest = newest_points(fold, volumes);
    let missed = volumes.iter().filter_map(|volume| {
        let policy = policies.covering(volume.name.as_str(), &volume.labels)?;
        let slot = policy.missed(volume.name.as_str(), newest.get(&volume.name).copied(), now)?;
        Some((volume.name.clone(), slot))
    });
    missed.collect()
}

/// When each volume's newest point was taken: of this very volume, not of another that once had its name.
fn newest_points(fold: &Fold, volumes: &[Volume]) -> BTreeMap<VolumeName, Timestamp> {
    let ids: BTreeMap<&VolumeName, _> = volumes.iter().map(|volume| (&volume.name, volume.id)).collect();
    let mut newest: BTreeMap<VolumeName, Timestamp> = BTreeMap::new();
    for point in fold.points.values() {
        if ids.get(&point.volume).is_some_and(|id| is_of(point, *id)) {
            let taken_at = newest.entry(point.volume.clone()).or_insert(point.info.taken_at);
            *taken_at = (*taken_at).max(point.info.taken_at);
        }
    }
    newest
}

#[cfg(test)]
mod tests;
