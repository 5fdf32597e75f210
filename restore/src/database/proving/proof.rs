//! What a restore test found, for people, programs and the journal.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::Serialize;
use strongroom_console::{Failed, Text, TimeSpan};
use strongroom_database::{Commit, Plan, Position, StandsOn, Target};
use strongroom_model::{LogId, RecoveryPointId, VolumeName, chain};
use strongroom_repository::Fold;
use strongroom_repository::record::{DatabaseTested, TestFailure};

use super::super::beside::Beside;
use super::super::show;

/// What a restore test found.
#[derive(Debug, Clone, Serialize)]
pub struct Proof {
    /// The database.
    pub database: String,
    /// The volume on which it lies.
    pub volume: VolumeName,
    /// When the test began.
    pub at: Timestamp,
    /// The log that the base belongs to; the newest where it did not come to a base.
    pub log: LogId,
    /// Which moment was to be restored; `None`: the newest.
    pub wanted_at: Option<Timestamp>,
    /// From which base.
    pub point: Option<RecoveryPointId>,
    /// What begins before this position is in.
    pub cut: Option<Position>,
    /// The last commit that has to be in.
    pub last_kept: Option<Commit>,
    /// The first that must not be.
    pub first_dropped: Option<Commit>,
    /// Where the server said that it stopped.
    pub stopped_at: Option<Position>,
    /// Up to where the server had replayed the log.
    pub replayed_to: Option<Position>,
    /// The stamp of the last transaction that it replayed.
    pub last_replayed_at: Option<Timestamp>,
    /// How many milliseconds each step took.
    pub steps: BTreeMap<&'static str, u64>,
    /// After how many milliseconds the database could have been used: the measured RTO.
    pub rto_ms: Option<u64>,
    /// What was checked, one sentence each.
    pub checks: Vec<String>,
    /// Whether all of it is as it should be.
    pub proven: bool,
    /// Why not.
    pub failure: Option<Unproven>,
}

/// Why a restore is not proven.
#[derive(Debug, Clone, Serialize)]
pub struct Unproven {
    /// As in docs/errors.md.
    pub code: &'static str,
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub advice: String,
}

impl Unproven {
    pub(super) fn of(failed: &Failed) -> Self {
        let failure = failed.failure();
        Self { code: failure.code(), message: chain(failure), advice: failure.advice() }
    }
}

impl Proof {
    pub(super) fn of(beside: &Beside, log: LogId, at: Timestamp) -> Self {
        Self {
            database: beside.archive.database().to_owned(),
            volume: beside.volume.clone(),
            at,
            log,
            wanted_at: None,
            point: None,
            cut: None,
            last_kept: None,
            first_dropped: None,
            stopped_at: None,
            replayed_to: None,
            last_replayed_at: None,
            steps: BTreeMap::new(),
            rto_ms: None,
            checks: Vec::new(),
            proven: false,
            failure: None,
        }
    }

    pub(super) fn planned(&mut self, plan: &Plan, fold: &Fold) {
        if let StandsOn::Point(point) = plan.base.stands_on {
            let base = fold.points.get(&point).and_then(|point| point.info.database.as_ref());
            self.log = base.map_or(self.log, |base| base.log);
            self.point = Some(point);
        }
        self.cut = Some(plan.cut);
        (self.last_kept, self.first_dropped) = (plan.last_kept, plan.first_dropped);
    }

    /// Notes how long a step took; answers when the next one begins.
    pub(super) fn step(&mut self, name: &'static str, since: Instant) -> Instant {
        let now = Instant::now();
        let took = u64::try_from((now - since).as_millis()).unwrap_or(u64::MAX);
        self.steps.insert(name, took);
        now
    }

    /// What the journal notes of it.
    pub(in super::super) fn noted(&self) -> DatabaseTested {
        DatabaseTested {
            log: self.log,
            point: self.point,
            wanted_at: self.wanted_at,
            cut: self.cut.map(Position::number),
            last_kept_at: self.last_kept.map(|kept| kept.at),
            passed: self.proven,
            rto_ms: self.rto_ms,
            steps: self.steps.iter().map(|(name, took)| ((*name).to_owned(), *took)).collect(),
            checks: self.checks.clone(),
            failure: self
                .failure
                .as_ref()
                .map(|told| TestFailure { code: told.code.to_owned(), message: told.message.clone() }),
        }
    }

    /// For a person.
    pub(in super::super) fn write(&self, page: &mut Text, zone: &TimeZone) {
        let span = |ms: u64| TimeSpan(Duration::from_millis(ms)).to_string();
        let verdict = if self.proven { "proven" } else { "NOT PROVEN" };
        page.line(format_args!("{verdict}: {} of volume {}", self.database, self.volume));
        let wanted = self.wanted_at.map_or(Target::Latest, Target::Time);
        page.line(format_args!("  restored to       {}", show::asked(&wanted, zone)));
        if let Some(kept) = &self.last_kept {
            page.line(format_args!("  last kept         {}", show::precise(kept.at, zone)));
        }
        if let Some(rto) = self.rto_ms {
            page.line(format_args!("  could be used in  {}", span(rto)));
        }
        let steps: Vec<String> =
            self.steps.iter().map(|(name, took)| format!("{name} {}", span(*took))).collect();
        page.line(format_args!("  steps             {}", steps.join(", ")));
        for check in &self.checks {
            page.line(format_args!("  checked           {check}"));
        }
        if let Some(failure) = &self.failure {
            page.line(format_args!("  failed            {}", failure.message));
            page.line(format_args!("  code              {}", failure.code));
            page.line(format_args!("  next              {}", failure.advice));
        }
    }
}
