//! The rules of the protocol's table: what may be appended after what.

use std::collections::{BTreeMap, BTreeSet};

use strongroom_model::{LogId, PackId, RecoveryPointId};

use super::domains::Publishing;
use super::{Fold, PendingPlan};
use crate::layout::PackKind;
use crate::pack::EntryRef;
use crate::record::{
    Event, Hold, JOURNAL_ONLY, KeyAdded, KeysRotated, NewPack, PackRewritten, STRUCTURE_ONLY, SweepPlanned,
    Verified, WRITE_ONLY,
};
use crate::rules::{Rule, holds};
/// Which rule a record breaks.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RuleError {
    /// Not the next number.
    #[error("its number is {found}, expected was {expected}")]
    Number {
        /// The next number.
        expected: u64,
        /// The record's.
        found: u64,
    },
    /// Not the successor of the last record.
    #[error("it does not follow the record before it")]
    Chain,
    /// It speaks of a session that is not open.
    #[error("session {0} is not open")]
    NotOpen(u64),
    /// The point exists.
    #[error("{0} is published already")]
    PublishedTwice(RecoveryPointId),
    /// A new pack exists already, or is named twice.
    #[error("{0} is not new")]
    NotNew(PackId),
    /// Something needed is not there.
    #[error("it needs entry {} of {}, which does not exist", .0.entry, .0.pack)]
    NotAlive(EntryRef),
    /// Something needed is dying and is not revived.
    #[error("it needs {0}, which the pending sweep names, and does not revive it")]
    NotRevived(PackId),
    /// It revives what no plan names.
    #[error("it revives {0}, which no pending sweep names")]
    NothingToRevive(PackId),
    /// It revives and the plan does not wait for it.
    #[error("session {0} may not revive: the pending sweep does not wait for it")]
    MayNotRevive(u64),
    /// The point does not exist (any more).
    #[error("{0} is not a current point")]
    NotCurrent(RecoveryPointId),
    /// The point is held.
    #[error("{point} is held by {hold:?}")]
    IsHeld {
        /// The point.
        point: RecoveryPointId,
        /// One of its holds.
        hold: String,
    },
    /// The hold does not exist.
    #[error("{point} has no hold {hold:?}")]
    NoSuchHold {
        /// The point.
        point: RecoveryPointId,
        /// The hold's name.
        hold: String,
    },
    /// There is a plan already.
    #[error("sweep {0} is pending")]
    PlanPending(u64),
    /// The plan does not name exactly the open sessions.
    #[error("the sweep does not wait for exactly the open sessions")]
    WaitsForOthers,
    /// The plan names what a point needs.
    #[error("the sweep names {0}, which a current point needs")]
    Needed(PackId),
    /// The plan names holes of what is not there.
    #[error("the sweep names holes of {0}, which has no such entries to lose")]
    NoSuchHoles(PackId),
    /// The plan names nothing, or more than a record may hold.
    #[error("the sweep names {0} objects and packs")]
    PlanSize(usize),
    /// It speaks of a plan that is not pending.
    #[error("sweep {0} is not pending")]
    NoSuchPlan(u64),
    /// The plan waits for somebody.
    #[error("the sweep waits for session {0}")]
    Waits(u64),
    /// The plan names no holes of this pack, or it is revived or rewritten, or has another object.
    #[error("{0} is not to be rewritten, or no longer has that object")]
    NotToRewrite(PackId),
    /// The slot is there already.
    #[error("key slot {0} was added already")]
    KeyTwice(String),
    /// The slot is not there, or the last one.
    #[error("key slot {0} is not there, or the only one")]
    KeyNotRemovable(String),
    /// It names no object, too many, or one as whole and as damaged.
    #[error("it says of {0} objects what a check saw, not of 1 to {MAX_PLANNED}, or two things of one")]
    VerifiedSize(usize),
    /// The log exists.
    #[error("{0} is opened already")]
    LogTwice(LogId),
    /// The log does not exist.
    #[error("{0} was not opened")]
    NoSuchLog(LogId),
    /// Bundles that do not follow those that are known.
    #[error("bundle {number} of {log} does not follow the one before it")]
    BundleOrder {
        /// The log.
        log: LogId,
        /// Which bundle.
        number: u32,
    },
    /// Bundles that are not there, or were trimmed before.
    #[error("{0} has no such bundles to lose")]
    NoSuchBundles(LogId),
    /// A point needs them to be consistent.
    #[error("{point} needs bundle {number} of {log}")]
    BundleNeeded {
        /// The log.
        log: LogId,
        /// Which bundle.
        number: u32,
        /// Which point.
        point: RecoveryPointId,
    },
    /// The sweep names a bundle that nobody trimmed.
    #[error("the sweep names bundle {number} of {log}, which is not trimmed")]
    NotTrimmed {
        /// The log.
        log: LogId,
        /// Which bundle.
        number: u64,
    },
    /// Nobody could open everything any more.
    #[error("no slot would be left that grants everything")]
    NoKeyLeft,
    /// The domain is there already, or out of bounds, or its slots are not its own.
    #[error("domain {0} is not new, or its slots are not its own")]
    DomainNotNew(u32),
    /// There is no such domain.
    #[error("there is no domain {0}")]
    NoSuchDomain(u32),
    /// Something is sealed under an epoch that does not seal in its domain now.
    #[error("it is not sealed under the keys of domain {0} as they are now")]
    NotTheDomainsKeys(u32),
    /// A text that people typed is too long.
    #[error("{what} has {bytes} bytes, at most {MAX_TEXT} are stored")]
    TooLong {
        /// Which text.
        what: &'static str,
        /// How long it is.
        bytes: usize,
    },
}

/// The longest text that a record may hold: names of agents, purposes, reasons, holds.
pub const MAX_TEXT: usize = 4096;

/// The most objects and packs that one plan may name, so that its record stays below 1 MiB.
pub const MAX_PLANNED: usize = 16_384;

/// Whether a slot of this kind, as its record names it, opens everything.
fn grants_everything(kind: &str) -> bool {
    ![WRITE_ONLY, JOURNAL_ONLY, STRUCTURE_ONLY].iter().any(|less| kind.ends_with(less))
}

impl Fold {
    /// Whether a record that says this may be appended now.
    ///
    /// # Errors
    /// [`RuleError`] names the rule of the protocol's table that it would break.
    pub fn permits(&self, event: &Event) -> Result<(), RuleError> {
        match event {
            Event::Opened(opened) => {
                text("the name of the agent", &opened.agent)?;
                text("the purpose", &opened.purpose)
            }
            Event::Closed(closed) => self.is_open(closed.session),
            Event::Fenced(fenced) => {
                text("the reason", &fenced.reason)?;
                self.is_open(fenced.session)
            }
            Event::Published(published) => self.permits_publish(&published.into()),
            Event::PublishedInDomain(published) => self.permits_sealed(published),
            Event::DomainAdded(added) => self.permits_domain(added),
            Event::DomainRotated(rotated) => self.permits_domain_rotated(rotated),
            Event::Forgotten(forgotten) => {
                text("the reason", &forgotten.reason)?;
                match self.held(&forgotten.point)?.first() {
                    Some(hold) => Err(RuleError::IsHeld { point: forgotten.point, hold: hold.clone() }),
                    None => Ok(()),
                }
            }
            Event::Held(hold) => {
                text("the hold", &hold.hold)?;
                self.held(&hold.point).map(drop)
            }
            Event::Released(Hold { point, hold }) => {
                let exists = self.held(point)?.contains(hold);
                exists
                    .then_some(())
                    .ok_or_else(|| RuleError::NoSuchHold { point: *point, hold: hold.clone() })
            }
            Event::SweepPlanned(planned) => self.permits_plan(planned),
            Event::PackRewritten(rewritten) => self.permits_rewritten(rewritten),
            Event::SweepDone(done) => self.ripe(done.plan).map(drop),
            Event::KeyAdded(added) if self.keys.contains_key(&added.slot) => {
                Err(RuleError::KeyTwice(hex::encode(added.slot)))
            }
            Event::KeyRemoved(removed) if !self.may_lose_key(&removed.slot) => {
                Err(RuleError::KeyNotRemovable(hex::encode(removed.slot)))
            }
            Event::KeysRotated(rotated) => self.permits_rotated(rotated),
            Event::Restored(restored) => text("the target", &restored.target),
            Event::RestoreTested(tested) => text("the detail", &tested.detail),
            Event::RollbackAccepted(accepted) => text("the reason", &accepted.reason),
            Event::Verified(seen) => permits_verified(seen),
            Event::LogOpened(opened) => self.permits_log(opened),
            Event::LogArchived(archived) => self.permits_archived(archived),
            Event::LogTrimmed(trimmed) => self.permits_trimmed(trimmed),
            Event::DatabaseTested(tested) => self.permits_tested(tested),
            Event::KeyAdded(_) | Event::KeyRemoved(_) => Ok(()),
        }
    }

    /// Whether the slot is there, and another one of the same domain grants everything.
    fn may_lose_key(&self, slot: &[u8; 8]) -> bool {
        let Some(lost) = self.keys.get(slot) else { return false };
        let others = self.keys.iter().filter(|(other, key)| *other != slot && key.domain == lost.domain);
        others.into_iter().any(|(_, key)| grants_everything(&key.kind))
    }

    fn permits_rotated(&self, rotated: &KeysRotated) -> Result<(), RuleError> {
        self.permits_new_slots(None, &rotated.added, &rotated.removed)
    }

    /// Whether slots of a domain (`None`: of the operator, or of a repository that is not shared) may take each other's place.
    pub(super) fn permits_new_slots(
        &self,
        domain: Option<u32>,
        added: &[KeyAdded],
        removed: &BTreeSet<[u8; 8]>,
    ) -> Result<(), RuleError> {
        let owned = |slot: &[u8; 8]| self.keys.get(slot).is_some_and(|key| key.domain == domain);
        if let Some(slot) = removed.iter().find(|slot| !owned(slot)) {
            return Err(RuleError::KeyNotRemovable(hex::encode(slot)));
        }
        let mut new = BTreeSet::new();
        for slot in added {
            if self.keys.contains_key(&slot.slot) || slot.domain != domain || !new.insert(slot.slot) {
                return Err(RuleError::KeyTwice(hex::encode(slot.slot)));
            }
        }
        let kept = self.keys.iter().filter(|(slot, key)| key.domain == domain && !removed.contains(*slot));
        let mut kinds = kept.map(|(_, key)| &key.kind).chain(added.iter().map(|added| &added.kind));
        if kinds.any(|kind| grants_everything(kind)) { Ok(()) } else { Err(RuleError::NoKeyLeft) }
    }

    fn is_open(&self, session: u64) -> Result<(), RuleError> {
        self.sessions.contains_key(&session).then_some(()).ok_or(RuleError::NotOpen(session))
    }

    /// The holds of a current point, as the journal holds them.
    fn held(&self, point: &RecoveryPointId) -> Result<&BTreeSet<String>, RuleError> {
        let sealed = self.sealed.get(point).map(|point| &point.held);
        let held = sealed.or_else(|| self.points.get(point).map(|point| &point.held));
        held.ok_or(RuleError::NotCurrent(*point))
    }

    pub(super) fn permits_publish(&self, published: &Publishing<'_>) -> Result<(), RuleError> {
        self.is_open(published.session)?;
        if self.is_current(&published.point) && holds(Rule::LookForOwn) {
            return Err(RuleError::PublishedTwice(published.point));
        }
        let mut new = BTreeMap::new();
        for NewPack { place, .. } in published.packs {
            let pack = place.object.pack;
            if self.packs.contains_key(&pack) || new.insert(pack, place).is_some() {
                return Err(RuleError::NotNew(pack));
            }
        }
        let root = published.map.at;
        if !new.contains_key(&root.pack) && !self.is_alive(root) {
            return Err(RuleError::NotAlive(root));
        }
        for pack in published.revives {
            let listed = || self.packs.get(pack).map(|state| state.place.into());
            let place = new.get(pack).map(|place| **place).or_else(listed);
            let named = self.plan.as_ref().zip(place).is_some_and(|(plan, place)| plan.names(&place));
            if !named {
                return Err(RuleError::NothingToRevive(*pack));
            }
        }
        let may_revive = self.waits_for(published.session) || !holds(Rule::LateSessionsAvoid);
        if !published.revives.is_empty() && !may_revive {
            return Err(RuleError::MayNotRevive(published.session));
        }
        let lost = |pack: &PackId| !published.revives.contains(pack) && holds(Rule::Revive);
        if self.is_dying(root) && lost(&root.pack) {
            return Err(RuleError::NotRevived(root.pack));
        }
        match new
            .iter()
            .find(|(pack, place)| self.plan.as_ref().is_some_and(|plan| plan.kills(place)) && lost(pack))
        {
            Some((pack, _)) => Err(RuleError::NotRevived(*pack)),
            None => Ok(()),
        }
    }

    fn permits_plan(&self, planned: &SweepPlanned) -> Result<(), RuleError> {
        if let Some(pending) = &self.plan {
            return Err(RuleError::PlanPending(pending.number));
        }
        let size = planned.objects.len() + planned.holes.len();
        if size == 0 || size > MAX_PLANNED {
            return Err(RuleError::PlanSize(size));
        }
        if !self.sessions.keys().eq(&planned.waits_for) && holds(Rule::WaitSetIsExact) {
            return Err(RuleError::WaitsForOthers);
        }
        for placed in planned.objects.iter().filter(|placed| placed.kind == PackKind::Log) {
            self.permits_loss_of_bundle(placed)?;
        }
        for root in self.maps().map(|(_, map)| map.at) {
            let dies =
                self.packs.get(&root.pack).is_some_and(|pack| planned.objects.contains(&pack.place.into()));
            let loses = planned.holes.get(&root.pack).is_some_and(|holes| holes.contains(root.entry));
            if (dies || loses) && holds(Rule::PlanAgain) {
                return Err(RuleError::Needed(root.pack));
            }
        }
        for (pack, holes) in &planned.holes {
            let fits = self.packs.get(pack).is_some_and(|state| {
                !holes.is_empty()
                    && !holes.intersects(&state.holes)
                    && !planned.objects.contains(&state.place.into())
            });
            if !fits && holds(Rule::PlanAgain) {
                return Err(RuleError::NoSuchHoles(*pack));
            }
        }
        Ok(())
    }

    /// The pending plan, if it is this one.
    fn pending(&self, plan: u64) -> Result<&PendingPlan, RuleError> {
        self.plan.as_ref().filter(|pending| pending.number == plan).ok_or(RuleError::NoSuchPlan(plan))
    }

    /// The pending plan, if it is this one and waits for nobody.
    fn ripe(&self, plan: u64) -> Result<&PendingPlan, RuleError> {
        let pending = self.pending(plan)?;
        match self.waits() {
            Some(session) if holds(Rule::WaitForWriters) && holds(Rule::NoClock) => {
                Err(RuleError::Waits(session))
            }
            _ => Ok(pending),
        }
    }

    fn permits_rewritten(&self, rewritten: &PackRewritten) -> Result<(), RuleError> {
        let pack = rewritten.old.pack;
        if !holds(Rule::RewriteUnderPlan) {
            return self.packs.contains_key(&pack).then_some(()).ok_or(RuleError::NotToRewrite(pack));
        }
        let number = rewritten.plan;
        let plan = if holds(Rule::HolesArePlanned) { self.ripe(number)? } else { self.pending(number)? };
        let fits = plan.holes.contains_key(&pack)
            && !plan.is_settled(&pack)
            && rewritten.object.pack == pack
            && rewritten.object != rewritten.old
            && self.packs.get(&pack).is_some_and(|state| state.place.object == rewritten.old);
        fits.then_some(()).ok_or(RuleError::NotToRewrite(pack))
    }
}

fn permits_verified(seen: &Verified) -> Result<(), RuleError> {
    let says_two_things = seen.damaged.keys().any(|object| seen.whole.0.contains(object));
    let fits = (1..=MAX_PLANNED).contains(&seen.len()) && !says_two_things;
    fits.then_some(()).ok_or(RuleError::VerifiedSize(seen.len()))
}

pub(super) fn text(what: &'static str, text: &str) -> Result<(), RuleError> {
    if text.len() <= MAX_TEXT { Ok(()) } else { Err(RuleError::TooLong { what, bytes: text.len() }) }
}
