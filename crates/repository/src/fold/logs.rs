//! The logs of databases in the fold, and the rules of their records.
//!
//! What always holds: the bundles of a log that are there follow one another but for what was trimmed; none is deleted that
//! nobody trimmed; and none is trimmed that a current point needs to be consistent. How much more of a log is kept, policies
//! decide, which are no business of the journal.

use std::collections::BTreeMap;

use jiff::Timestamp;
use strongroom_model::LogId;

use super::{Fold, MAX_TEXT, RuleError, permits};
use crate::cbor::cbor_map;
use crate::entry_runs::EntryRuns;
use crate::layout::{PackKind, PackObject};
use crate::pack::PackPlace;
use crate::record::{
    BundleNote, DatabaseTested, HeardNote, LogArchived, LogOpened, LogTrimmed, Placed, Record, Verified,
};

/// The longest account of histories: PostgreSQL writes a line of about 60 bytes for each.
const MOST_HISTORY: usize = 256 << 10;

/// The most facts about a log.
const MOST_FACTS: usize = 64;

/// The most steps, and the most checks, of a restore test.
pub(crate) const MOST_CHECKS: usize = 64;

/// A log as the journal knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogState {
    /// The record that opened it.
    pub number: u64,
    /// What it is.
    pub opened: LogOpened,
    /// The bundles that are stored, by their number from 1; those that were trimmed until a sweep took them.
    pub bundles: BTreeMap<u32, BundleNote>,
    /// The number of the next bundle.
    pub next: u32,
    /// Where it begins.
    pub end: u64,
    /// Bundles that are not needed and not swept yet.
    pub trimmed: EntryRuns,
    /// When the log was last heard to end here, with nothing missing.
    pub heard: Option<HeardNote>,
    /// What checks saw of the bundles; `None`: nothing yet.
    pub seen: Option<BundlesSeen>,
    /// The newest restore test from a base of this log that passed.
    pub proved: Option<Box<TestNote>>,
    /// The newest that did not.
    pub failed: Option<Box<TestNote>>,
}
cbor_map!(LogState {
    0 => number,
    1 => opened,
    2 => bundles,
    3 => next,
    4 => end,
    5 => trimmed,
    6 => heard,
    7 => seen,
    8 => proved,
    9 => failed
});

/// What checks saw of the bundles of a log. No safety of writers or sweepers rests on it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct BundlesSeen {
    /// Those that were missing, or not what was written, when they were looked at last.
    pub damaged: EntryRuns,
    /// Those that were read whole since a check last had read all of them.
    pub whole: EntryRuns,
}
cbor_map!(BundlesSeen { 0 => damaged, 1 => whole });

/// A restore test, as the journal knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TestNote {
    /// Its record.
    pub number: u64,
    /// When, by the tester's clock.
    pub at: Timestamp,
    /// What was seen.
    pub tested: DatabaseTested,
}
cbor_map!(TestNote { 0 => number, 1 => at, 2 => tested });

impl LogState {
    /// The bundles that can be counted on, by their number.
    pub fn kept(&self) -> impl DoubleEndedIterator<Item = (u32, &BundleNote)> {
        self.bundles
            .iter()
            .map(|(number, note)| (*number, note))
            .filter(|(number, _)| !self.trimmed.contains(*number))
    }

    /// Whether a check found a bundle missing or damaged, and none found it whole since.
    #[must_use]
    pub fn is_damaged(&self, number: u32) -> bool {
        self.seen.as_ref().is_some_and(|seen| seen.damaged.contains(number))
    }

    /// The object of a bundle that is stored.
    #[must_use]
    pub fn place(&self, number: u32) -> Option<PackPlace> {
        let bytes = self.bundles.get(&number)?.bytes;
        let object = PackObject::bundle(self.opened.log, number);
        Some(PackPlace { kind: PackKind::Log, object, bytes })
    }
}

impl LogState {
    /// Whether a check has read it in this round.
    pub(crate) fn was_read(&self, number: u32) -> bool {
        self.seen.as_ref().is_some_and(|seen| seen.whole.contains(number))
    }

    fn note_seen(&mut self, change: impl FnOnce(&mut BundlesSeen)) {
        let mut seen = self.seen.take().unwrap_or_default();
        change(&mut seen);
        self.seen = Some(seen).filter(|seen| *seen != BundlesSeen::default());
    }
}

/// The log and the number that an object's name stands for.
fn named(placed: &Placed) -> (LogId, u64) {
    (LogId::from_bytes(*placed.object.pack.bytes()), u64::from_be_bytes(placed.object.suffix))
}

impl Fold {
    /// Every bundle that is stored and not trimmed: what copies, checks and locks are about.
    pub fn bundles(&self) -> impl Iterator<Item = PackPlace> {
        self.logs.values().flat_map(|log| log.kept().filter_map(|(number, _)| log.place(number)))
    }

    /// A stored bundle by the object it is.
    #[must_use]
    pub fn bundle(&self, placed: &Placed) -> Option<PackPlace> {
        let (_, number) = named(placed);
        self.log_of(placed)?.place(u32::try_from(number).ok()?)
    }

    /// The log of which an object is a bundle, stored or not.
    #[must_use]
    pub(crate) fn log_of(&self, placed: &Placed) -> Option<&LogState> {
        self.logs.get(&named(placed).0).filter(|_| placed.kind == PackKind::Log)
    }

    /// Bundles that a sweep may take.
    pub(crate) fn trimmed_bundles(&self) -> impl Iterator<Item = Placed> {
        self.logs
            .values()
            .flat_map(|log| log.trimmed.iter().filter_map(|number| log.place(number)).map(Placed::from))
    }

    fn log(&self, log: &LogId) -> Result<&LogState, RuleError> {
        self.logs.get(log).ok_or(RuleError::NoSuchLog(*log))
    }

    pub(super) fn permits_log(&self, opened: &LogOpened) -> Result<(), RuleError> {
        if self.logs.contains_key(&opened.log) {
            return Err(RuleError::LogTwice(opened.log));
        }
        let facts = opened.facts.iter().flat_map(|(key, value)| [key, value]);
        for text in [&opened.database, &opened.engine, &opened.identity].into_iter().chain(facts) {
            permits::text("a name or fact of the database", text)?;
        }
        let history = opened.history.as_ref().map_or(0, String::len);
        if history > MOST_HISTORY {
            return Err(RuleError::TooLong { what: "the account of histories", bytes: history });
        }
        let facts = opened.facts.len();
        if facts > MOST_FACTS {
            Err(RuleError::TooLong { what: "the list of facts", bytes: facts * MAX_TEXT })
        } else {
            Ok(())
        }
    }

    pub(super) fn permits_archived(&self, archived: &LogArchived) -> Result<(), RuleError> {
        let log = self.log(&archived.log)?;
        let (mut end, mut number) = (log.end, archived.first);
        let wrong = |number| RuleError::BundleOrder { log: archived.log, number };
        if archived.first != log.next {
            return Err(wrong(archived.first));
        }
        for bundle in &archived.bundles {
            if bundle.from != end || bundle.to <= bundle.from {
                return Err(wrong(number));
            }
            end = bundle.to;
            number = number.checked_add(1).ok_or_else(|| wrong(number))?;
        }
        match archived.heard {
            Some(heard) if heard.position != end => Err(wrong(number)),
            _ => Ok(()),
        }
    }

    pub(super) fn permits_trimmed(&self, trimmed: &LogTrimmed) -> Result<(), RuleError> {
        permits::text("the reason", &trimmed.reason)?;
        let log = self.log(&trimmed.log)?;
        let mut found = 0_u64;
        for (start, end) in trimmed.bundles.runs() {
            for (number, bundle) in log.bundles.range(start..end) {
                found += 1;
                let needs = |base: &crate::record::BaseOfDatabase| {
                    base.log == trimmed.log && base.start < bundle.to && bundle.from < base.end
                };
                let point =
                    self.points.values().find(|point| point.info.database.as_ref().is_some_and(needs));
                if let Some(point) = point {
                    return Err(RuleError::BundleNeeded {
                        log: trimmed.log,
                        number: *number,
                        point: point.id,
                    });
                }
            }
        }
        let fits = found > 0 && found == trimmed.bundles.len() && !trimmed.bundles.intersects(&log.trimmed);
        fits.then_some(()).ok_or(RuleError::NoSuchBundles(trimmed.log))
    }

    pub(super) fn permits_tested(&self, tested: &DatabaseTested) -> Result<(), RuleError> {
        self.log(&tested.log)?;
        let failure = tested.failure.iter().flat_map(|failure| [&failure.code, &failure.message]);
        for said in tested.steps.keys().chain(&tested.checks).chain(failure) {
            permits::text("a sentence about a restore test", said)?;
        }
        let most = tested.steps.len().max(tested.checks.len());
        if most > MOST_CHECKS {
            Err(RuleError::TooLong { what: "the list of what was tested", bytes: most * MAX_TEXT })
        } else {
            Ok(())
        }
    }

    pub(super) fn permits_loss_of_bundle(&self, placed: &Placed) -> Result<(), RuleError> {
        let (log, number) = named(placed);
        let is_trimmed =
            |state: &LogState| u32::try_from(number).is_ok_and(|number| state.trimmed.contains(number));
        if is_trimmed(self.log(&log)?) { Ok(()) } else { Err(RuleError::NotTrimmed { log, number }) }
    }

    pub(super) fn enact_log(&mut self, number: u64, opened: &LogOpened) {
        let state = LogState {
            number,
            opened: opened.clone(),
            bundles: BTreeMap::new(),
            next: 1,
            end: opened.start,
            trimmed: EntryRuns::default(),
            heard: None,
            seen: None,
            proved: None,
            failed: None,
        };
        self.logs.insert(opened.log, state);
    }

    pub(super) fn enact_archived(&mut self, archived: &LogArchived) {
        let Some(log) = self.logs.get_mut(&archived.log) else { return };
        for bundle in &archived.bundles {
            log.bundles.insert(log.next, bundle.clone());
            log.next += 1;
            log.end = bundle.to;
        }
        if archived.heard.is_some() || !archived.bundles.is_empty() {
            log.heard = archived.heard;
        }
    }

    pub(super) fn enact_trimmed(&mut self, trimmed: &LogTrimmed) {
        if let Some(log) = self.logs.get_mut(&trimmed.log) {
            log.trimmed.extend(&trimmed.bundles);
        }
    }

    pub(super) fn enact_tested(&mut self, record: &Record, tested: &DatabaseTested) {
        let Some(log) = self.logs.get_mut(&tested.log) else { return };
        let note = TestNote { number: record.number, at: record.time, tested: tested.clone() };
        let place = if tested.passed { &mut log.proved } else { &mut log.failed };
        *place = Some(Box::new(note));
    }

    pub(super) fn enact_loss_of_bundle(&mut self, placed: &Placed) {
        let (log, number) = named(placed);
        let Ok(number) = u32::try_from(number) else { return };
        if let Some(log) = self.logs.get_mut(&log) {
            log.bundles.remove(&number);
            let gone = EntryRuns::run(number, 1);
            log.trimmed = log.trimmed.without(&gone);
            log.note_seen(|seen| {
                seen.damaged = seen.damaged.without(&gone);
                seen.whole = seen.whole.without(&gone);
            });
        }
    }

    /// Objects that are no stored bundles are packs, or gone: they say nothing here.
    pub(super) fn enact_seen_of_bundles(&mut self, seen: &Verified) {
        let whole = seen.whole.0.iter().map(|object| (object, true));
        for (object, is_whole) in whole.chain(seen.damaged.keys().map(|object| (object, false))) {
            let log = LogId::from_bytes(*object.pack.bytes());
            let number = u32::try_from(u64::from_be_bytes(object.suffix));
            let (Some(log), Ok(number)) = (self.logs.get_mut(&log), number) else { continue };
            if !log.bundles.contains_key(&number) {
                continue;
            }
            log.note_seen(|seen| {
                let one = EntryRuns::run(number, 1);
                seen.damaged = seen.damaged.without(&one);
                if is_whole { &mut seen.whole } else { &mut seen.damaged }.extend(&one);
            });
            // All were read: the next round begins.
            if log.kept().all(|(number, _)| log.is_damaged(number) || log.was_read(number)) {
                log.note_seen(|seen| seen.whole = EntryRuns::default());
            }
        }
    }
}
