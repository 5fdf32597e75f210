//! Which policy covers a volume.
//!
//! A volume whose label `policy` names one of them is covered by that one. For all others policies are tried in the order
//! of the file, and the first that selects a volume covers it, alone; a label that names no policy of this file counts
//! as none, for a wrong word must not leave a volume without backups. A volume that none selects is NOT PROTECTED, and `status` says so. A file without any policy protects everything once a day: whoever only
//! writes down a repository gets backups, not silence.

mod windows;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use strongroom_model::{DayWindow, Failure, Remedy};
use strongroom_settings::{Config, PolicyConfig, RetainConfig, Selector, WindowConfig};

use crate::schedule::{Schedule, ScheduleError, jitter_of};

/// The label by which a volume chooses its policy itself: the driver sets it from the parameter `policy`.
const POLICY_LABEL: &str = "policy";

/// What is added to the longest gap of a schedule where nobody set a goal: time for the run itself.
const GRACE: Duration = Duration::from_secs(3600);

/// A policy, ready for use.
#[derive(Debug, Clone)]
pub struct Policy {
    /// What people call it.
    pub name: String,
    /// Which volumes it covers.
    pub volumes: Vec<Selector>,
    /// When it runs, and in which time zone its days begin.
    pub schedule: Schedule,
    /// How much later a run may begin.
    pub jitter: Duration,
    /// When a run may begin; none: at any time.
    pub windows: Vec<DayWindow>,
    /// How old the newest point may become.
    pub rpo: Duration,
    /// What is kept.
    pub retain: RetainConfig,
    /// To which copies of the repository its points go; `None`: to all.
    pub copies: Option<Vec<String>>,
}

/// All policies in the order in which they are tried.
#[derive(Debug, Clone)]
pub struct Policies(Vec<Policy>);

/// A policy of the configuration cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{}:{line}:{column}: policy {policy:?}", path.display())]
pub struct PolicyError {
    /// The configuration file.
    pub path: PathBuf,
    /// Which line, from 1.
    pub line: usize,
    /// Which character of it, from 1.
    pub column: usize,
    /// Which policy.
    pub policy: String,
    /// What is wrong with its schedule.
    #[source]
    pub cause: Box<ScheduleError>,
}

impl Failure for PolicyError {
    fn code(&self) -> &'static str {
        "config.schedule"
    }

    fn remedy(&self) -> Remedy {
        Remedy::FixRequest
    }

    fn advice(&self) -> String {
        "Write it like \"15 * * * *\" (at minute 15 of every hour), \"30 2 * * 1-5\" (at 02:30 from Monday to Friday) or @daily.".into()
    }
}

impl Policies {
    /// Makes the policies of a configuration ready for use. `here` is the machine's own time zone, for policies that name
    /// none; `now` decides nothing but the goal of those that name none.
    ///
    /// # Errors
    /// When a schedule is not understood, with its place in the file.
    pub fn new(config: &Config, path: &Path, here: &TimeZone, now: Timestamp) -> Result<Self, PolicyError> {
        if config.policies.is_empty() {
            return Ok(Self(vec![Policy::built_in(here, now)]));
        }
        let policies = config.policies.iter().map(|written| {
            Policy::new(written, here, now).map_err(|cause| PolicyError {
                path: path.to_owned(),
                line: written.schedule.line,
                column: written.schedule.column,
                policy: written.name.value.clone(),
                cause: Box::new(cause),
            })
        });
        Ok(Self(policies.collect::<Result<_, _>>()?))
    }

    /// The policy that covers a volume.
    #[must_use]
    pub fn covering(&self, name: &str, labels: &BTreeMap<String, String>) -> Option<&Policy> {
        let chosen = labels.get(POLICY_LABEL);
        let chosen = chosen.and_then(|chosen| self.0.iter().find(|policy| policy.name == *chosen));
        let selecting = || {
            self.0.iter().find(|policy| policy.volumes.iter().any(|selector| selector.matches(name, labels)))
        };
        chosen.or_else(selecting)
    }

    /// Whether a point of a volume goes to this copy. A volume that no policy covers goes to all.
    #[must_use]
    pub fn goes_to(&self, copy: &str, name: &str, labels: &BTreeMap<String, String>) -> bool {
        self.covering(name, labels).is_none_or(|policy| policy.is_copied_to(copy))
    }

    /// By which rule points go to this copy, in words that change with it; `None`: all go.
    #[must_use]
    pub fn rule_of(&self, copy: &str) -> Option<String> {
        if self.0.iter().all(|policy| policy.is_copied_to(copy)) {
            return None;
        }
        let told = self.0.iter().map(|policy| {
            let volumes: Vec<String> = policy.volumes.iter().map(ToString::to_string).collect();
            format!("{:?} {volumes:?} {}\n", policy.name, policy.is_copied_to(copy))
        });
        Some(told.collect())
    }

    /// All of them.
    #[must_use]
    pub fn all(&self) -> &[Policy] {
        &self.0
    }
}

impl Policy {
    fn new(written: &PolicyConfig, here: &TimeZone, now: Timestamp) -> Result<Self, ScheduleError> {
        let zone = written.time_zone.as_ref().map_or(here, |zone| zone.get());
        let schedule = Schedule::parse(&written.schedule.value, zone.clone())?;
        let jitter = written.jitter.map_or(Duration::ZERO, |jitter| jitter.get());
        let windows: Vec<DayWindow> = written.windows.iter().map(WindowConfig::window).collect();
        let usual = || schedule.longest_gap(now) + jitter + windows::longest_closed(&windows) + GRACE;
        let rpo = written.rpo.map_or_else(usual, |rpo| rpo.get());
        let (name, volumes) = (written.name.value.clone(), written.volumes.clone());
        let (retain, copies) = (written.retain, written.copies.clone());
        Ok(Self { name, volumes, schedule, jitter, windows, rpo, retain, copies })
    }

    /// What protects every volume where the configuration has no policy: once a night.
    fn built_in(here: &TimeZone, now: Timestamp) -> Self {
        let schedule = Schedule::parse("0 2 * * *", here.clone()).expect("two o'clock comes every day");
        let jitter = Duration::from_secs(30 * 60);
        Self {
            name: "daily (built in)".into(),
            volumes: vec!["*".parse().expect("a star selects every volume")],
            rpo: schedule.longest_gap(now) + jitter + GRACE,
            schedule,
            jitter,
            windows: Vec::new(),
            retain: RetainConfig::usual(),
            copies: None,
        }
    }

    fn is_copied_to(&self, copy: &str) -> bool {
        self.copies.as_ref().is_none_or(|copies| copies.iter().any(|name| name == copy))
    }

    /// When the volume's next run begins. `last` is when its newest point was taken.
    ///
    /// A slot that passed without a point (the machine was off, or the run failed) is made up for once, now; however many
    /// passed. A volume without any point is due at once. Where there are windows, what is due outside of them waits for the next.
    #[must_use]
    pub fn due(&self, volume: &str, last: Option<Timestamp>, now: Timestamp) -> Option<Timestamp> {
        let at = match self.overdue(volume, last, now) {
            Some(at) => at,
            None => self.schedule.next(now).map(|slot| self.after_jitter(volume, slot))?,
        };
        windows::begin(&self.windows, at, now, self.schedule.zone())
    }

    /// The run that should have been, and whose window has closed since without a point. It is made up for in the next one.
    #[must_use]
    pub fn missed(&self, volume: &str, last: Option<Timestamp>, now: Timestamp) -> Option<Timestamp> {
        if self.windows.is_empty() {
            return None;
        }
        let at = self.overdue(volume, Some(last?), now)?;
        let opened = windows::begin(&self.windows, at, at, self.schedule.zone())?;
        let closed = windows::end(&self.windows, opened, self.schedule.zone())?;
        (closed <= now).then_some(at)
    }

    /// When the newest slot should have begun that has no point yet.
    fn overdue(&self, volume: &str, last: Option<Timestamp>, now: Timestamp) -> Option<Timestamp> {
        let Some(last) = last else { return Some(now) };
        self.schedule.previous(now).filter(|slot| last < *slot).map(|slot| self.after_jitter(volume, slot))
    }

    fn after_jitter(&self, volume: &str, slot: Timestamp) -> Timestamp {
        slot.checked_add(jitter_of(volume, slot, self.jitter)).unwrap_or(slot)
    }
}

#[cfg(test)]
mod tests;
