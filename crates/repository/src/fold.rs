//! The fold: what all records together mean. Pure; every rule of the protocol's table is in `permits`, once.
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
    Event, GENESIS, Hold, KeyAdded, NewPack, PackRewritten, Placed, Published, Record, RecordHash, SweepDone,
};
use crate::rules::{self, Rule, holds};

mod domains;
mod logs;
mod permits;
mod stored;
mod verified;

pub use domains::{DomainState, SealedPoint};
pub(crate) use logs::MOST_CHECKS;
pub use logs::{LogState, TestNote};
pub use permits::{MAX_PLANNED, MAX_TEXT, RuleError};
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

    fn add_key(&mut self, added: &KeyAdded, added_at: Timestamp) {
        let state = KeyState { kind: added.kind.clone(), hash: added.hash, added_at, domain: added.domain };
        self.keys.insert(added.slot, state);
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
            Event::Verified(seen) => {
                self.verified.enact(seen, record.time, &self.packs);
                self.enact_seen_of_bundles(seen);
            }
            Event::LogOpened(opened) => self.enact_log(record.number, opened),
            Event::LogArchived(archived) => self.enact_archived(archived),
            Event::LogTrimmed(trimmed) => self.enact_trimmed(trimmed),
            Event::DatabaseTested(tested) => self.enact_tested(record, tested),
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

#[cfg(test)]
pub(crate) mod tests;
