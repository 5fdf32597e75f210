//! Who looks on and judges: sees every object the moment it changes, keeps a fold of its own, and knows the
//! invariants of the protocol.
//!
//! It shares the codecs with the code under test (records, maps, footers), and none of the decisions: not the
//! fold, not the rules of the table, not what a sweep may take. After every change of a pack or of the journal
//! it looks whether each entry that a current point needs lies in the object that the journal names. What it
//! says first is kept; a history ends with it.
//!
//! With a rule taken away the table of section 2 is not judged, only the invariants: the question is then whether
//! the rule is needed for them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::FutureExt;
use strongroom_model::{PackId, RecoveryPointId};

use crate::cbor;
use crate::entry_runs::EntryRuns;
use crate::layout::{ObjectKind, ObjectName, PackKind};
use crate::map::{EntrySet, MapReader, MapRoot};
use crate::pack::{
    Entry, EntryRef, EntrySource, FetchError, PackContext, PackFetcher, PackPlace, read_footer,
};
use crate::record::{Event, PackRewritten, Placed, Published, Record, SweepPlanned};
use crate::rules;
use crate::seal::{self, BlobKind};
use crate::testing::MemoryStore;

/// The judge of one history.
#[derive(Debug)]
pub(crate) struct Oracle {
    context: PackContext,
    packs_now: MemoryStore,
    present: BTreeMap<Placed, u64>,
    entries: BTreeMap<Placed, BTreeSet<u32>>,
    number: u64,
    open: BTreeSet<u64>,
    table: BTreeMap<PackId, PackPlace>,
    points: BTreeMap<RecoveryPointId, BTreeMap<PackId, BTreeSet<u32>>>,
    held: BTreeMap<RecoveryPointId, BTreeSet<String>>,
    published: BTreeMap<RecoveryPointId, u64>,
    plan: Option<Plan>,
    records: BTreeMap<&'static str, u64>,
    violation: Option<String>,
}

#[derive(Debug, Default)]
struct Plan {
    number: u64,
    objects: BTreeSet<Placed>,
    holes: BTreeMap<PackId, EntryRuns>,
    waits_for: BTreeSet<u64>,
    revived: BTreeSet<PackId>,
    rewritten: BTreeSet<PackId>,
}

impl Oracle {
    /// Looks on from here: on a repository in which nothing was published yet.
    pub(crate) fn new(context: &PackContext, records: u64) -> Self {
        let packs_now = MemoryStore::default();
        Self {
            context: PackContext { store: Arc::new(packs_now.clone()), ..context.clone() },
            packs_now,
            present: BTreeMap::new(),
            entries: BTreeMap::new(),
            number: records,
            open: BTreeSet::new(),
            table: BTreeMap::new(),
            points: BTreeMap::new(),
            held: BTreeMap::new(),
            published: BTreeMap::new(),
            plan: None,
            records: BTreeMap::new(),
            violation: None,
        }
    }

    pub(crate) fn violation(&self) -> Option<&str> {
        self.violation.as_deref()
    }

    pub(crate) fn is_current(&self, point: &RecoveryPointId) -> bool {
        self.points.contains_key(point)
    }

    pub(crate) fn current_points(&self) -> usize {
        self.points.len()
    }

    pub(crate) fn is_open(&self, session: u64) -> bool {
        self.open.contains(&session)
    }

    /// How many records of each kind there were.
    pub(crate) const fn records(&self) -> &BTreeMap<&'static str, u64> {
        &self.records
    }

    /// Somebody else saw an invariant broken.
    pub(crate) fn report(&mut self, what: String) {
        self.violation.get_or_insert(what);
    }

    /// I2, seen from the writer: it was told that its point is in the journal.
    pub(crate) fn acknowledged(&mut self, point: RecoveryPointId, number: u64) {
        match self.published.get(&point) {
            Some(found) if *found == number => {}
            Some(found) => {
                self.report(format!("I2: {point} was acknowledged as record {number}, and is {found}"))
            }
            None => self.report(format!(
                "I2: {point} was acknowledged as record {number}, and is not in the journal"
            )),
        }
    }

    /// An object was written, or removed.
    pub(crate) fn sees(&mut self, name: &str, written: Option<Bytes>) {
        let Some((name, kind)) = ObjectName::parse(name) else { return };
        match kind {
            ObjectKind::Pack(kind, object) => {
                let placed = Placed { kind, object };
                self.entries.remove(&placed);
                match written {
                    Some(bytes) => {
                        self.present.insert(placed, bytes.len() as u64);
                        self.packs_now.damage(&name, bytes);
                    }
                    None => {
                        self.present.remove(&placed);
                        self.packs_now.remove(&name);
                    }
                }
                self.judge_needs();
            }
            ObjectKind::Journal(number) => match written {
                // A number that was free again: a fork that nobody else reads.
                Some(_) if number <= self.number => {}
                Some(bytes) => self.sees_record(number, &bytes),
                None if rules::all_hold() => self.report(format!("the table: record {number} was deleted")),
                None => {}
            },
            _ => {}
        }
    }

    fn sees_record(&mut self, number: u64, sealed: &[u8]) {
        let PackContext { keyring, repository, .. } = &self.context;
        let binding = number.to_le_bytes();
        let plain = seal::open(keyring, *repository, BlobKind::JournalRecord, &binding, sealed).unwrap();
        let record: Record = cbor::from_bytes(&plain).unwrap();
        if number != self.number + 1 {
            self.breaks(number, "its number is not the next");
        }
        self.number = number;
        *self.records.entry(record.event.kind()).or_default() += 1;
        self.takes_in(number, &record.event);
        self.judge_needs();
    }

    /// The table of section 2 is broken: judged only while all rules hold.
    fn breaks(&mut self, number: u64, what: &str) {
        if rules::all_hold() {
            self.report(format!("the table: record {number}: {what}"));
        }
    }

    fn must(&mut self, number: u64, holds: bool, what: &str) {
        if !holds {
            self.breaks(number, what);
        }
    }

    fn takes_in(&mut self, number: u64, event: &Event) {
        match event {
            Event::Opened(_) => drop(self.open.insert(number)),
            Event::Closed(closed) => self.ends(number, closed.session),
            Event::Fenced(fenced) => self.ends(number, fenced.session),
            Event::Published(published) => self.takes_published(number, published),
            Event::Forgotten(forgotten) => {
                let point = forgotten.point;
                if self.held.get(&point).is_some_and(|holds| !holds.is_empty()) {
                    self.report(format!("I4: record {number} forgets {point}, which is held"));
                }
                let was_current = self.points.remove(&point).is_some();
                self.must(number, was_current, "it forgets what is not current");
            }
            Event::Held(hold) => {
                self.must(number, self.points.contains_key(&hold.point), "it holds what is not current");
                self.held.entry(hold.point).or_default().insert(hold.hold.clone());
            }
            Event::Released(hold) => {
                let was_held = self.held.get_mut(&hold.point).is_some_and(|holds| holds.remove(&hold.hold));
                self.must(number, was_held, "it releases what is not held");
            }
            Event::SweepPlanned(planned) => self.takes_plan(number, planned),
            Event::PackRewritten(rewritten) => self.takes_rewritten(number, rewritten),
            Event::SweepDone(done) => {
                let is_ripe = self.ripe(done.plan).is_some();
                self.must(number, is_ripe, "it ends a plan that is not pending, or waits for somebody");
                if let Some(plan) = self.plan.take() {
                    self.table.retain(|pack, place| {
                        !plan.objects.contains(&Placed::from(*place)) || plan.revived.contains(pack)
                    });
                }
            }
            _ => {}
        }
    }

    fn ends(&mut self, number: u64, session: u64) {
        let was_open = self.open.remove(&session);
        self.must(number, was_open, "it ends a session that is not open");
    }

    fn ripe(&self, plan: u64) -> Option<&Plan> {
        self.plan.as_ref().filter(|it| it.number == plan && it.waits_for.is_disjoint(&self.open))
    }

    fn takes_published(&mut self, number: u64, published: &Published) {
        let point = published.point;
        if !self.open.contains(&published.session) {
            let session = published.session;
            self.report(format!("I3: record {number} publishes in session {session}, which has ended"));
        }
        if let Some(first) = self.published.insert(point, number) {
            self.report(format!("I2: {point} is published by record {first} and by record {number}"));
        }
        let waits_for_it = self.plan.as_ref().is_some_and(|plan| plan.waits_for.contains(&published.session));
        self.must(number, published.revives.is_empty() || waits_for_it, "it may not revive");
        for new in &published.packs {
            let (pack, kind) = (new.place.object.pack, new.place.kind);
            let place = PackPlace { kind, object: new.place.object, bytes: new.bytes };
            let known = self.table.insert(pack, place);
            self.must(number, known.is_none(), "a pack of it is not new");
        }
        let needs = self.walk(published.map);
        if let Some(plan) = &mut self.plan {
            plan.revived.extend(&published.revives);
        }
        match needs {
            Ok(needs) => {
                let dies = needs.iter().any(|(pack, entries)| self.is_dying(pack, entries));
                self.must(number, !dies, "it needs what the plan names, and does not revive it");
                self.points.insert(point, needs);
            }
            Err(cause) => {
                self.report(format!("I1: the map of {point}, just published, cannot be read: {cause}"))
            }
        }
        if published.last {
            self.open.remove(&published.session);
        }
    }

    fn is_dying(&self, pack: &PackId, entries: &BTreeSet<u32>) -> bool {
        let (Some(plan), Some(place)) = (&self.plan, self.table.get(pack)) else { return false };
        if plan.revived.contains(pack) {
            return false;
        }
        let loses = |entry: &u32| plan.holes.get(pack).is_some_and(|holes| holes.contains(*entry));
        plan.objects.contains(&Placed::from(*place)) || entries.iter().any(loses)
    }

    fn takes_plan(&mut self, number: u64, planned: &SweepPlanned) {
        self.must(number, self.plan.is_none(), "a plan is pending");
        self.must(number, planned.waits_for == self.open, "it does not wait for the open sessions");
        self.plan = Some(Plan {
            number,
            objects: planned.objects.clone(),
            holes: planned.holes.clone(),
            waits_for: planned.waits_for.clone(),
            ..Plan::default()
        });
        let takes = self.points.values().flatten().any(|(pack, entries)| self.is_dying(pack, entries));
        self.must(number, !takes, "it names what a current point needs");
    }

    fn takes_rewritten(&mut self, number: u64, rewritten: &PackRewritten) {
        let pack = rewritten.old.pack;
        let is_planned = self.ripe(rewritten.plan).is_some_and(|plan| {
            plan.holes.contains_key(&pack) && !plan.revived.contains(&pack) && !plan.rewritten.contains(&pack)
        });
        self.must(number, is_planned, "the plan does not want this rewrite (now)");
        let replaces = self.table.get(&pack).is_some_and(|place| place.object == rewritten.old);
        self.must(number, replaces, "it replaces another object");
        if let Some(plan) = &mut self.plan {
            plan.rewritten.insert(pack);
        }
        if let Some(place) = self.table.get_mut(&pack) {
            place.object = rewritten.object;
            place.bytes = rewritten.bytes;
        }
    }

    /// I1: every entry that a current point needs lies in the object that the journal names.
    fn judge_needs(&mut self) {
        if self.violation.is_some() {
            return;
        }
        let places: Vec<PackPlace> = self.table.values().copied().collect();
        for place in places {
            self.look_into(place.into());
        }
        for (point, needs) in &self.points {
            for (pack, entries) in needs {
                let lost = match self.table.get(pack) {
                    None => "is not in the table".to_owned(),
                    Some(place) => match self.entries.get(&Placed::from(*place)) {
                        None => format!("has no object {}", place.name()),
                        Some(there) if entries.is_subset(there) => continue,
                        Some(_) => format!("has lost entries in {}", place.name()),
                    },
                };
                let held = self.held.get(point).is_some_and(|holds| !holds.is_empty());
                let which = if held { "I1, I4" } else { "I1" };
                self.violation = Some(format!("{which}: {point} needs {pack}, which {lost}"));
                return;
            }
        }
    }

    /// Which entries an object has, once it is there.
    fn look_into(&mut self, placed: Placed) {
        let Some(bytes) = self.present.get(&placed).filter(|_| !self.entries.contains_key(&placed)) else {
            return;
        };
        let place = PackPlace { kind: placed.kind, object: placed.object, bytes: *bytes };
        let reading = tokio::task::unconstrained(read_footer(&self.context, place));
        if let Some(Ok(footer)) = reading.now_or_never() {
            self.entries.insert(placed, footer.rows().iter().map(|row| row.number).collect());
        }
    }

    /// What a map needs, by the objects as they are now.
    fn walk(&self, root: MapRoot) -> Result<BTreeMap<PackId, BTreeSet<u32>>, String> {
        let fetcher = PackFetcher::new(self.context.clone(), 1 << 20);
        let source = Arc::new(Mirror { fetcher, table: self.table.clone() });
        let walking = async {
            let mut needed = EntrySet::new();
            MapReader::open(source, root).await?.walk(&mut needed).await?;
            Ok::<_, crate::map::MapError>(needed)
        };
        let walked = tokio::task::unconstrained(walking).now_or_never().expect("memory answers at once");
        let needed = walked.map_err(|cause| strongroom_model::chain(&cause))?;
        Ok(needed.packs().map(|pack| (pack, needed.entries(&pack).collect())).collect())
    }

    /// I5, when everybody is gone and one sweeper has swept: exactly what is needed is left, to the entry.
    pub(crate) fn judge_end(&mut self) {
        let mut needed: BTreeMap<PackId, BTreeSet<u32>> = BTreeMap::new();
        for (pack, entries) in self.points.values().flatten() {
            needed.entry(*pack).or_default().extend(entries);
        }
        for place in self.table.values().copied().collect::<Vec<_>>() {
            self.look_into(place.into());
        }
        let kept: BTreeSet<Placed> =
            needed.keys().filter_map(|pack| self.table.get(pack)).map(|place| (*place).into()).collect();
        if let Some(garbage) = self.present.keys().find(|placed| !kept.contains(placed)) {
            let what = format!("I5: {} is left and nobody needs it", garbage.name());
            self.report(what);
        }
        for (pack, entries) in &needed {
            let Some(place) = self.table.get(pack) else { continue };
            let there = self.entries.get(&Placed::from(*place));
            if there.is_some_and(|there| there != entries) {
                let what = format!("I5: {} has entries that nobody needs", place.name());
                self.violation.get_or_insert(what);
            }
        }
        if !self.open.is_empty() || self.plan.is_some() {
            self.report("I5: a session is open, or a plan pending".to_owned());
        }
    }
}

#[derive(Debug)]
struct Mirror {
    fetcher: PackFetcher,
    table: BTreeMap<PackId, PackPlace>,
}

#[async_trait]
impl EntrySource for Mirror {
    async fn entry(&self, _kind: PackKind, at: EntryRef) -> Result<Entry, FetchError> {
        let place = self.table.get(&at.pack).ok_or(FetchError::NotListed { pack: at.pack })?;
        Ok(self.fetcher.entry(*place, at.entry).await?)
    }
}
