//! How every volume is protected: computed from the repository, the driver and the configuration, never from what a job
//! remembers. If nothing runs any more, that shows here, by the age of the newest point.
//!
//! | a volume that is | is judged by |
//! |---|---|
//! | at the driver, covered by a policy | the age of its newest point against the policy's goal |
//! | at the driver, covered by none | unprotected |
//! | known from the repository alone: an image, or a volume of another node | the same goal where a policy covers it; it is never unprotected, since nobody here could protect it |
//! | gone from the driver of this node | nothing: its points are kept, there is nothing to back up |

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;
use strongroom_model::{RecoveryPointId, VolumeId, VolumeName};
use strongroom_repository::check::Proof;
use strongroom_repository::locks::LockState;
use strongroom_repository::{Fold, Point, Source};
use strongroom_settings::CheckConfig;

use crate::driver::Volume;
use crate::policy::{Policies, Policy};

/// How a volume is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Health {
    /// Its newest point is young enough.
    Healthy,
    /// Its newest point is too old, or there is none, or it cannot be backed up.
    AtRisk,
    /// No policy covers it.
    Unprotected,
}

/// Where a volume is known from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Whereabouts {
    /// The driver has it.
    Driver,
    /// The driver of this node had it, and has it no more.
    Gone,
    /// It belongs to another node.
    Elsewhere,
    /// It is an image or device that is backed up by hand.
    Image,
}

/// How one volume is protected.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct VolumeStatus {
    /// Which volume.
    pub volume: VolumeName,
    /// Where it is known from.
    pub whereabouts: Whereabouts,
    /// The verdict.
    pub health: Health,
    /// The policy that covers it.
    pub policy: Option<String>,
    /// Its newest point.
    pub last_point: Option<RecoveryPointId>,
    /// The moment of that point's content.
    pub last_taken_at: Option<Timestamp>,
    /// How old that is: what would be lost now.
    pub rpo_now_seconds: Option<u64>,
    /// How old it may become.
    pub rpo_goal_seconds: Option<u64>,
    /// Its size.
    pub volume_bytes: u64,
    /// What was sent to the store for its current points.
    pub stored_bytes: u64,
    /// How many points it has.
    pub points: usize,
    /// When its next run begins; in the past when it is overdue.
    pub next_run_at: Option<Timestamp>,
    /// What is wrong, one sentence each.
    pub problems: Vec<String>,
}

/// How all volumes are protected, in order of their names. `driver` is what the driver says, and the node it runs on; `None` where
/// no driver is configured or none answers.
#[must_use]
pub fn assess(
    fold: &Fold,
    driver: Option<(&str, &[Volume])>,
    policies: &Policies,
    now: Timestamp,
) -> Vec<VolumeStatus> {
    let mut points: BTreeMap<&VolumeName, Vec<&Point>> = BTreeMap::new();
    for point in fold.points.values() {
        points.entry(&point.volume).or_default().push(point);
    }
    for of_volume in points.values_mut() {
        of_volume.sort_by_key(|point| (point.info.taken_at, point.number));
    }
    let (node, volumes) = driver.map_or((None, &[][..]), |(node, volumes)| (Some(node), volumes));
    let mut all: Vec<VolumeStatus> = volumes
        .iter()
        .map(|volume| at_driver(volume, points.remove(&volume.name).unwrap_or_default(), policies, now))
        .collect();
    all.extend(points.into_iter().map(|(name, points)| from_repository(name, &points, node, policies, now)));
    all.sort_by(|one, other| one.volume.cmp(&other.volume));
    all
}

/// What is wrong with the retention locks in a store, as the store itself says of some packs.
#[must_use]
pub fn locks(state: &LockState) -> Option<String> {
    let LockState { packs, late, ends_at, .. } = state;
    if let (0, Some(why)) = (packs, &state.trouble) {
        return Some(format!("its retention locks cannot be looked at: {why}"));
    }
    let what = match (late, ends_at) {
        (0, _) => return None,
        (_, Some(at)) => format!("the first of them ends {}", at.strftime("%Y-%m-%d %H:%M:%S UTC")),
        (_, None) => "there are packs without any".to_owned(),
    };
    Some(format!(
        "the retention locks of {late} of {packs} packs that were looked at are not extended in time: {what}. \
         `strongroom repository extend-locks` says why"
    ))
}

/// What is wrong with the stored data as far as checks noted it in the journal, one sentence each.
///
/// A repository that nobody reads again is no problem where no `[check]` was asked for. Where it was, it is one when what
/// was verified longest ago is older than two rounds.
#[must_use]
pub fn stored_data(proof: &Proof, fold: &Fold, check: Option<&CheckConfig>, now: Timestamp) -> Vec<String> {
    let mut problems = Vec::new();
    if proof.damaged_packs > 0 {
        problems.push(format!(
            "{} packs have damaged entries: `strongroom repository repair` lists which points lose which bytes",
            proof.damaged_packs
        ));
    }
    let Some(check) = check else { return problems };
    let round = check.every.get().as_secs_f64() / check.share.fraction();
    let round = Duration::try_from_secs_f64(round).unwrap_or(Duration::MAX).saturating_mul(2);
    let oldest_point = fold.points.values().map(|point| point.info.published_at).min();
    let late = match (proof.oldest_at, oldest_point) {
        (Some(at), _) => age(at, now) > round,
        // Nothing was ever read: then it counts from the first point, and the first part is soon due.
        (None, Some(at)) => age(at, now) > check.every.get().saturating_mul(2),
        (None, None) => false,
    };
    if late {
        problems.push(
            "stored data was not verified for longer than [check] asks for: does the agent run?".to_owned(),
        );
    }
    problems
}

/// The worst of all.
#[must_use]
pub fn worst(all: &[VolumeStatus]) -> Health {
    all.iter().map(|volume| volume.health).max().unwrap_or(Health::Healthy)
}

fn at_driver(volume: &Volume, points: Vec<&Point>, policies: &Policies, now: Timestamp) -> VolumeStatus {
    let policy = policies.covering(volume.name.as_str(), &volume.labels);
    // Points of another volume that once had this name do not protect this one.
    let (own, others): (Vec<&Point>, Vec<&Point>) =
        points.into_iter().partition(|point| is_of(point, volume.id));
    let mut status = VolumeStatus::new(&volume.name, Whereabouts::Driver, &own, policy, now);
    status.volume_bytes = volume.bytes;
    status.points += others.len();
    status.stored_bytes += others.iter().map(|point| point.info.sent_bytes).sum::<u64>();
    match policy {
        Some(policy) => {
            status.next_run_at = policy.due(volume.name.as_str(), status.last_taken_at, now);
            if let Some(missed) = policy.missed(volume.name.as_str(), status.last_taken_at, now) {
                status
                    .problems
                    .push(format!("its run of {missed} missed its window; it is made up for in the next"));
            }
        }
        None => {
            status.health = Health::Unprotected;
            status.problems.push("no policy covers it".into());
        }
    }
    if let Some(trouble) = &volume.trouble {
        status.problems.push(format!("it cannot be backed up now: {trouble}"));
        status.health = status.health.max(Health::AtRisk);
    }
    status
}

/// Whether a point was taken of this very volume of a driver.
pub(crate) fn is_of(point: &Point, volume: VolumeId) -> bool {
    matches!(&point.info.source, Source::Driver { volume: of, .. } if *of == volume)
}

fn from_repository(
    name: &VolumeName,
    points: &[&Point],
    node: Option<&str>,
    policies: &Policies,
    now: Timestamp,
) -> VolumeStatus {
    let newest = points.last().map(|point| &point.info);
    let whereabouts = match newest.map(|info| &info.source) {
        Some(Source::Driver { node: of, .. }) if node == Some(of) => Whereabouts::Gone,
        Some(Source::Driver { .. }) => Whereabouts::Elsewhere,
        Some(Source::Image { .. }) | None => Whereabouts::Image,
    };
    let policy = newest.and_then(|info| policies.covering(name.as_str(), &info.labels));
    let policy = policy.filter(|_| whereabouts != Whereabouts::Gone);
    VolumeStatus::new(name, whereabouts, points, policy, now)
}

impl VolumeStatus {
    fn new(
        name: &VolumeName,
        whereabouts: Whereabouts,
        points: &[&Point],
        policy: Option<&Policy>,
        now: Timestamp,
    ) -> Self {
        let newest = points.last();
        let last_taken_at = newest.map(|point| point.info.taken_at);
        let age = last_taken_at.map(|at| age(at, now));
        let mut problems = Vec::new();
        let mut health = Health::Healthy;
        if let Some(policy) = policy {
            match age {
                None => problems.push("it has no recovery point".to_owned()),
                Some(age) if age > policy.rpo => {
                    problems.push("its newest recovery point is older than its goal".to_owned())
                }
                Some(_) => {}
            }
            if !problems.is_empty() {
                health = Health::AtRisk;
            }
        }
        Self {
            volume: name.clone(),
            whereabouts,
            health,
            policy: policy.map(|policy| policy.name.clone()),
            last_point: newest.map(|point| point.id),
            last_taken_at,
            rpo_now_seconds: age.map(|age| age.as_secs()),
            rpo_goal_seconds: policy.map(|policy| policy.rpo.as_secs()),
            volume_bytes: newest.map_or(0, |point| point.info.volume_bytes),
            stored_bytes: points.iter().map(|point| point.info.sent_bytes).sum(),
            points: points.len(),
            next_run_at: None,
            problems,
        }
    }
}

/// A point from the future, by a clock that was wrong, is as good as new.
fn age(at: Timestamp, now: Timestamp) -> Duration {
    Duration::try_from(now.duration_since(at)).unwrap_or(Duration::ZERO)
}

#[cfg(test)]
mod tests;
