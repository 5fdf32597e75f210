//! What is kept, and what may be forgotten: a pure function of the points and a policy.
//!
//! `last = 3` keeps the three newest points; `daily = 7` keeps the newest point of each of the seven newest days *that
//! have one*, and so on. It counts days with points, not days of the calendar: a machine that was off for a month comes
//! back to all it had. A point that any rule keeps is kept. Days begin where the policy's time zone says so, weeks on
//! Monday. Besides: the newest point, the `min_good` newest, and whatever is held are always kept.
//!
//! There is no clock in here: the same points give the same answer at any time, and what was kept once is kept again.

use std::collections::BTreeMap;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::Serialize;
use strongroom_model::{RecoveryPointId, VolumeName};
use strongroom_repository::{Fold, Point};
use strongroom_settings::RetainConfig;

use crate::policy::Policies;

/// What retention knows of a point.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// Which point.
    pub id: RecoveryPointId,
    /// The moment of its content.
    pub taken_at: Timestamp,
    /// Its number in the journal: decides between points of one moment.
    pub number: u64,
    /// Whether somebody holds it.
    pub held: bool,
}

/// Why a point is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reason {
    /// Somebody holds it.
    Held,
    /// One of the `min_good` newest.
    Floor,
    /// One of the newest.
    Last,
    /// The newest of its hour.
    Hourly,
    /// The newest of its day.
    Daily,
    /// The newest of its week.
    Weekly,
    /// The newest of its month.
    Monthly,
    /// The newest of its year.
    Yearly,
}

/// Which points of one volume are kept, each with the reasons. What is not named may be forgotten.
#[must_use]
pub fn keep(
    points: &[Candidate],
    rules: &RetainConfig,
    zone: &TimeZone,
) -> BTreeMap<RecoveryPointId, Vec<Reason>> {
    let mut newest_first: Vec<&Candidate> = points.iter().collect();
    newest_first.sort_by_key(|point| std::cmp::Reverse((point.taken_at, point.number, point.id)));

    let mut kept: BTreeMap<RecoveryPointId, Vec<Reason>> = BTreeMap::new();
    let mut keep = |point: &Candidate, reason| kept.entry(point.id).or_default().push(reason);
    for point in newest_first.iter().filter(|point| point.held) {
        keep(point, Reason::Held);
    }
    for point in newest_first.iter().take(count(rules.min_good.get().max(1))) {
        keep(point, Reason::Floor);
    }
    for point in newest_first.iter().take(count(rules.last)) {
        keep(point, Reason::Last);
    }
    for (wanted, reason) in [
        (rules.hourly, Reason::Hourly),
        (rules.daily, Reason::Daily),
        (rules.weekly, Reason::Weekly),
        (rules.monthly, Reason::Monthly),
        (rules.yearly, Reason::Yearly),
    ] {
        let (mut taken, mut last_period) = (0, None);
        for point in &newest_first {
            let period = period(point.taken_at, reason, zone);
            if last_period == Some(period) {
                continue;
            }
            if taken == wanted {
                break;
            }
            keep(point, reason);
            (taken, last_period) = (taken + 1, Some(period));
        }
    }
    kept
}

/// Which points of one volume may be forgotten, oldest first.
#[must_use]
pub fn forget(points: &[Candidate], rules: &RetainConfig, zone: &TimeZone) -> Vec<RecoveryPointId> {
    let kept = keep(points, rules, zone);
    let mut gone: Vec<&Candidate> = points.iter().filter(|point| !kept.contains_key(&point.id)).collect();
    gone.sort_by_key(|point| (point.taken_at, point.number));
    gone.into_iter().map(|point| point.id).collect()
}

/// Which points of all volumes may be forgotten, by the policy that covers each volume. The points of volumes that no policy
/// covers are left alone: nobody said how long they matter. So are those of volumes whose newest point `agent` did not take:
/// several agents share a repository, and the configuration of one says nothing about the volumes of another.
///
/// A volume's labels are those of its newest point.
#[must_use]
pub fn expired(fold: &Fold, policies: &Policies, agent: &str) -> Vec<RecoveryPointId> {
    let mut volumes: BTreeMap<&VolumeName, Vec<&Point>> = BTreeMap::new();
    for point in fold.points.values() {
        volumes.entry(&point.volume).or_default().push(point);
    }
    let mut gone = Vec::new();
    for (name, points) in volumes {
        let Some(newest) = points.iter().max_by_key(|point| (point.info.taken_at, point.number)) else {
            continue;
        };
        if newest.info.agent != agent {
            continue;
        }
        let Some(policy) = policies.covering(name.as_str(), &newest.info.labels) else { continue };
        let candidates: Vec<Candidate> = points.iter().map(|point| Candidate::from(*point)).collect();
        gone.extend(forget(&candidates, &policy.retain, policy.schedule.zone()));
    }
    gone
}

impl From<&Point> for Candidate {
    fn from(point: &Point) -> Self {
        let held = !point.held.is_empty();
        Self { id: point.id, taken_at: point.info.taken_at, number: point.number, held }
    }
}

fn count(number: u32) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

/// What the points of one hour, day, … have in common.
fn period(at: Timestamp, of: Reason, zone: &TimeZone) -> (i16, i16, i8) {
    let local = zone.to_datetime(at);
    match of {
        Reason::Yearly => (local.year(), 0, 0),
        Reason::Monthly => (local.year(), local.month().into(), 0),
        Reason::Weekly => {
            let week = local.date().iso_week_date();
            (week.year(), week.week().into(), 0)
        }
        Reason::Daily => (local.year(), local.date().day_of_year(), -1),
        // The hour that happens twice when the clocks go back counts as one.
        _ => (local.year(), local.date().day_of_year(), local.hour()),
    }
}

#[cfg(test)]
mod tests;
