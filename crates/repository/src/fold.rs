//! The fold: what all records together mean. Pure; every rule of the protocol's table is here, once.
//!
//! [`Fold::apply`] refuses a record that breaks the table, on reading as on appending: whoever meets one in the
//! journal stops. What only the maps can tell (which entries a point needs) is asked before an append, by
//! `decide` of the publisher and of the sweeper; the fold checks what it can see of it: roots, packs, sessions,
//! plan.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use jiff::{SignedDuration, Timestamp};
use strongroom_model::{LogId, PackId, RecoveryPointId, VolumeName};

use crate::entry_runs::EntryRuns;
use crate::layout::PackKind;
use crate::map::MapRoot;
use crate::pack::EntryRef;
use crate::pack::PackPlace;
use crate::point::Point;
use domains::Publishing;

use crate::record::{
    Event, GENESIS, Hold, JOURNAL_ONLY, KeyAdded, KeysRotated, NewPack, PackRewritten, Placed, Published,
    Record, RecordHash, STRUCTURE_ONLY, SweepDone, SweepPlanned, Verified, WRITE_ONLY,
};
use crate::rules::{self, Rule, holds};

mod domains;
mod logs;
mod stored;
mod verified;

pub use domains::{DomainState, SealedPoint};
pub use logs::LogState;
pub use verified::VerifiedPacks;

/// All records so far, folded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fold {
    /// The number of the last record; 0 before the first.
    pub number: u64,
    /// Its hash.
    pub hash: RecordHash,
    /// The current points; in a shared repository those of this key's domain.
    pub points: BTreeMap<RecoveryPointId, Point>,
    /// In a shared repository, all current points as the journal holds them: also those that are in `points` as well.
    pub sealed: BTreeMap<RecoveryPointId, SealedPoint>,
    /// The domains that share the repository, beside the operator's.
    pub domains: BTreeMap<u32, DomainState>,
    /// What exists: a pack that is not here does not, whatever anybody else says.
    pub packs: BTreeMap<PackId, PackState>,
    /// The open sessions, by the number of their `opened`.
    pub sessions: BTreeMap<u64, OpenSession>,
    /// The pending sweep.
    pub plan: Option<PendingPlan>,
    /// The key slots.
    pub keys: BTreeMap<[u8; 8], KeyState>,
    /// What checks saw of the packs.
    pub verified: VerifiedPacks,
    /// The logs of databases.
    pub logs: BTreeMap<LogId, LogState>,
    /// The points that went within a day before the last record, in the order of their records.
    pub forgotten: VecDeque<ForgottenPoint>,
}

/// A point that is no longer current, and may still be read by a restore that began before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForgottenPoint {
    /// The point.
    pub id: RecoveryPointId,
    /// Its map.
    pub map: MapRoot,
    /// The record that forgot it.
    pub number: u64,
    /// When, by its author's clock.
    pub at: Timestamp,
}

/// For how long a forgotten point is remembered.
const FORGOTTEN_FOR: SignedDuration = SignedDuration::from_hours(24);

/// Of more forgotten points the oldest are not remembered: a courtesy is not worth more memory than this, 10 MB.
const MOST_FORGOTTEN: usize = 65_536;

/// Where a pack lies, and what is left of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackState {
    /// Its current object.
    pub place: PackPlace,
    /// How many entries it had when it was new, numbered from 0.
    pub entries: u32,
    /// Entries that were swept.
    pub holes: EntryRuns,
}

/// A writer at work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenSession {
    /// Whose it is.
    pub agent: String,
    /// What for.
    pub purpose: String,
    /// When it was opened, by its own clock.
    pub opened_at: Timestamp,
}

/// A sweep that is planned and not done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PendingPlan {
    /// The record of the plan.
    pub number: u64,
    /// When it was planned, by its author's clock.
    pub planned_at: Timestamp,
    /// Objects to delete.
    pub objects: BTreeSet<Placed>,
    /// Entries to leave out.
    pub holes: BTreeMap<PackId, EntryRuns>,
    /// The sessions that were open.
    pub waits_for: BTreeSet<u64>,
    /// Packs that points turned out to need.
    pub revived: BTreeSet<PackId>,
    /// Packs rewritten under it.
    pub rewritten: BTreeSet<PackId>,
    /// The objects that these had before.
    pub replaced: BTreeSet<Placed>,
}

/// A key slot as the journal knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyState {
    /// What opens it.
    pub kind: String,
    /// BLAKE3 of its object.
    pub hash: [u8; 32],
    /// When it was added, by the adder's clock.
    pub added_at: Timestamp,
    /// In a shared repository: whose keys are in it; `None` the operator's.
    pub domain: Option<u32>,
}

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

impl Default for Fold {
    fn default() -> Self {
        Self {
            number: 0,
            hash: GENESIS,
            points: BTreeMap::new(),
            sealed: BTreeMap::new(),
            domains: BTreeMap::new(),
            packs: BTreeMap::new(),
            sessions: BTreeMap::new(),
            plan: None,
            keys: BTreeMap::new(),
            verified: VerifiedPacks::default(),
            logs: BTreeMap::new(),
            forgotten: VecDeque::new(),
        }
    }
}

impl PendingPlan {
    /// Whether it names this pack's object or entries of it, and nobody has revived or rewritten it.
    #[must_use]
    pub fn names(&self, place: &Placed) -> bool {
        self.kills(place)
            || (self.holes.contains_key(&place.object.pack) && !self.is_settled(&place.object.pack))
    }

    /// Whether it removes this pack, if nobody revives it.
    fn kills(&self, place: &Placed) -> bool {
        self.objects.contains(place) && !self.revived.contains(&place.object.pack)
    }

    fn is_settled(&self, pack: &PackId) -> bool {
        self.revived.contains(pack) || self.rewritten.contains(pack)
    }
}

impl Fold {
    /// The points of a volume, in the order of their moments; of equal moments the later record is later.
    #[must_use]
    pub fn points_of(&self, volume: &VolumeName) -> Vec<&Point> {
        let mut points: Vec<_> = self.points.values().filter(|point| point.volume == *volume).collect();
        points.sort_by_key(|point| (point.info.taken_at, point.number));
        points
    }

    /// All current points, with their maps: also those of other domains.
    pub fn maps(&self) -> impl Iterator<Item = (RecoveryPointId, MapRoot)> + '_ {
        let plain = self.points.values().filter(|point| !self.sealed.contains_key(&point.id));
        plain.map(|point| (point.id, point.map)).chain(self.sealed.iter().map(|(id, point)| (*id, point.map)))
    }

    /// The map and the record of a current point, of whatever domain.
    #[must_use]
    pub fn map_of(&self, point: &RecoveryPointId) -> Option<(MapRoot, u64)> {
        let plain = self.points.get(point).map(|point| (point.map, point.number));
        plain.or_else(|| self.sealed.get(point).map(|point| (point.map, point.number)))
    }

    /// Whether this is a current point, of whatever domain.
    #[must_use]
    pub fn is_current(&self, point: &RecoveryPointId) -> bool {
        self.points.contains_key(point) || self.sealed.contains_key(point)
    }

    /// The volumes that have points.
    #[must_use]
    pub fn volumes(&self) -> BTreeSet<&VolumeName> {
        self.points.values().map(|point| &point.volume).collect()
    }

    /// The first session that the pending plan waits for.
    #[must_use]
    pub fn waits(&self) -> Option<u64> {
        self.waiting().next()
    }

    /// The sessions that the pending plan waits for.
    pub fn waiting(&self) -> impl Iterator<Item = u64> + '_ {
        self.plan
            .iter()
            .flat_map(|plan| &plan.waits_for)
            .copied()
            .filter(|session| self.sessions.contains_key(session))
    }

    /// Whether an entry exists.
    #[must_use]
    pub fn is_alive(&self, at: EntryRef) -> bool {
        self.packs.get(&at.pack).is_some_and(|pack| !pack.holes.contains(at.entry))
    }

    /// Whether the pending plan is about to remove an entry that exists.
    #[must_use]
    pub fn is_dying(&self, at: EntryRef) -> bool {
        let (Some(plan), Some(pack)) = (&self.plan, self.packs.get(&at.pack)) else { return false };
        plan.kills(&pack.place.into())
            || (!plan.is_settled(&at.pack)
                && plan.holes.get(&at.pack).is_some_and(|holes| holes.contains(at.entry)))
    }

    /// Whether `session` may refer to an entry: it is alive, not known to be damaged, and not dying unless the plan
    /// waits for this very session.
    #[must_use]
    pub fn is_usable(&self, session: u64, at: EntryRef) -> bool {
        self.is_alive(at)
            && !self.verified.is_damaged(at)
            && (!self.is_dying(at) || self.waits_for(session) || !holds(Rule::LateSessionsAvoid))
    }

    /// Whether the pending plan waits for this session.
    #[must_use]
    pub fn waits_for(&self, session: u64) -> bool {
        self.plan.as_ref().is_some_and(|plan| plan.waits_for.contains(&session))
            && self.sessions.contains_key(&session)
    }

    /// The objects that the pending plan deletes once it waits for nobody: what it names, but not the current
    /// objects of revived packs; and what was replaced under it.
    #[must_use]
    pub fn deletable(&self) -> BTreeSet<Placed> {
        let Some(plan) = &self.plan else { return BTreeSet::new() };
        let kept: BTreeSet<Placed> = plan
            .revived
            .iter()
            .filter_map(|pack| self.packs.get(pack))
            .map(|pack| pack.place.into())
            .collect();
        plan.objects.difference(&kept).chain(&plan.replaced).copied().collect()
    }

    /// The packs with holes that the pending plan still wants to have rewritten.
    #[must_use]
    pub fn to_rewrite(&self) -> Vec<PackId> {
        let Some(plan) = &self.plan else { return Vec::new() };
        plan.holes.keys().filter(|pack| !plan.is_settled(pack)).copied().collect()
    }

    /// Takes in the next record, whose sealed bytes have this hash. Nothing changes when it is refused.
    ///
    /// # Errors
    /// [`RuleError`] names the rule of the protocol's table that the record breaks.
    pub fn apply(&mut self, record: &Record, hash: RecordHash) -> Result<(), RuleError> {
        let expected = self.number + 1;
        if record.number != expected {
            return Err(RuleError::Number { expected, found: record.number });
        }
        if record.previous != self.hash && holds(Rule::ReadWhatWon) {
            return Err(RuleError::Chain);
        }
        let permitted = self.permits(&record.event);
        // A test that takes a rule away wants to see what becomes of it, not that this stops it.
        if rules::all_hold() {
            permitted?;
        }
        let is_old = |point: &ForgottenPoint| record.time.duration_since(point.at) > FORGOTTEN_FOR;
        while self.forgotten.front().is_some_and(is_old) || self.forgotten.len() > MOST_FORGOTTEN {
            self.forgotten.pop_front();
        }
        self.enact(record);
        self.number = record.number;
        self.hash = hash;
        Ok(())
    }

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
    fn permits_new_slots(
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

    fn add_key(&mut self, added: &KeyAdded, added_at: Timestamp) {
        let state = KeyState { kind: added.kind.clone(), hash: added.hash, added_at, domain: added.domain };
        self.keys.insert(added.slot, state);
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

    fn permits_publish(&self, published: &Publishing<'_>) -> Result<(), RuleError> {
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

    /// What a permitted record changes.
    fn enact(&mut self, record: &Record) {
        match &record.event {
            Event::Opened(opened) => {
                let session = OpenSession {
                    agent: opened.agent.clone(),
                    purpose: opened.purpose.clone(),
                    opened_at: record.time,
                };
                self.sessions.insert(record.number, session);
            }
            Event::Closed(closed) => drop(self.sessions.remove(&closed.session)),
            Event::Fenced(fenced) => drop(self.sessions.remove(&fenced.session)),
            Event::Published(published) => self.enact_publish(record.number, published),
            Event::PublishedInDomain(published) => self.enact_sealed(record, published),
            Event::DomainAdded(added) => self.enact_domain(added, record.time),
            Event::DomainRotated(rotated) => self.enact_domain_rotated(rotated, record.time),
            Event::Forgotten(forgotten) => {
                let id = forgotten.point;
                let sealed = self.sealed.remove(&id).map(|point| point.map);
                let map = self.points.remove(&id).map(|point| point.map).or(sealed);
                let (number, at) = (record.number, record.time);
                self.forgotten.extend(map.map(|map| ForgottenPoint { id, map, number, at }));
            }
            Event::Held(Hold { point, hold }) => {
                self.points.get_mut(point).map(|point| point.held.insert(hold.clone()));
                self.sealed.get_mut(point).map(|point| point.held.insert(hold.clone()));
            }
            Event::Released(Hold { point, hold }) => {
                self.points.get_mut(point).map(|point| point.held.remove(hold));
                self.sealed.get_mut(point).map(|point| point.held.remove(hold));
            }
            Event::SweepPlanned(planned) => {
                self.plan = Some(PendingPlan {
                    number: record.number,
                    planned_at: record.time,
                    objects: planned.objects.clone(),
                    holes: planned.holes.clone(),
                    waits_for: planned.waits_for.clone(),
                    revived: BTreeSet::new(),
                    rewritten: BTreeSet::new(),
                    replaced: BTreeSet::new(),
                });
            }
            Event::PackRewritten(rewritten) => self.enact_rewritten(rewritten),
            Event::SweepDone(SweepDone { .. }) => self.enact_done(),
            Event::KeyAdded(added) => self.add_key(added, record.time),
            Event::KeysRotated(rotated) => {
                self.exchange_keys(&rotated.added, &rotated.removed, record.time);
            }
            Event::KeyRemoved(removed) => drop(self.keys.remove(&removed.slot)),
            Event::Verified(seen) => self.verified.enact(seen, record.time, &self.packs),
            Event::LogOpened(opened) => self.enact_log(record.number, opened),
            Event::LogArchived(archived) => self.enact_archived(archived),
            Event::LogTrimmed(trimmed) => self.enact_trimmed(trimmed),
            Event::Restored(_) | Event::RestoreTested(_) | Event::RollbackAccepted(_) => {}
        }
    }

    fn enact_publish(&mut self, number: u64, published: &Published) {
        let point = Point {
            id: published.point,
            volume: published.volume.clone(),
            map: published.map,
            parent: published.parent,
            number,
            held: BTreeSet::new(),
            info: published.info.clone(),
        };
        self.points.insert(point.id, point);
        self.enact_packs(&published.into());
    }

    /// What a publish changes beside the points.
    fn enact_packs(&mut self, published: &Publishing<'_>) {
        for NewPack { place, bytes, entries } in published.packs {
            let place = PackPlace { kind: place.kind, object: place.object, bytes: *bytes };
            let state = PackState { place, entries: *entries, holes: EntryRuns::default() };
            self.packs.insert(place.object.pack, state);
        }
        if let Some(plan) = &mut self.plan {
            plan.revived.extend(published.revives);
        }
        if published.last {
            self.sessions.remove(&published.session);
        }
    }

    fn enact_rewritten(&mut self, rewritten: &PackRewritten) {
        let pack = rewritten.old.pack;
        let Some(state) = self.packs.get_mut(&pack) else { return };
        if let Some(plan) = &mut self.plan {
            plan.replaced.insert(state.place.into());
            plan.rewritten.insert(pack);
            if let Some(holes) = plan.holes.get(&pack) {
                state.holes.extend(holes);
            }
        }
        state.place.object = rewritten.object;
        state.place.bytes = rewritten.bytes;
        // A rewrite opens what it copies, but nobody has read its new object yet.
        self.verified.forget(&pack);
    }

    fn enact_done(&mut self) {
        if let Some(plan) = self.plan.take() {
            // Not all packs are looked at, only the named ones: a plan is small and a table may be large.
            for named in &plan.objects {
                if named.kind == PackKind::Log {
                    self.enact_loss_of_bundle(named);
                    continue;
                }
                let pack = named.object.pack;
                let dies = self
                    .packs
                    .get(&pack)
                    .is_some_and(|state| plan.kills(&state.place.into()) && *named == state.place.into());
                if dies {
                    self.packs.remove(&pack);
                    self.verified.forget(&pack);
                }
            }
        }
    }
}

fn permits_verified(seen: &Verified) -> Result<(), RuleError> {
    let says_two_things = seen.damaged.keys().any(|object| seen.whole.0.contains(object));
    let fits = (1..=MAX_PLANNED).contains(&seen.len()) && !says_two_things;
    fits.then_some(()).ok_or(RuleError::VerifiedSize(seen.len()))
}

fn text(what: &'static str, text: &str) -> Result<(), RuleError> {
    if text.len() <= MAX_TEXT { Ok(()) } else { Err(RuleError::TooLong { what, bytes: text.len() }) }
}

#[cfg(test)]
pub(crate) mod tests;
