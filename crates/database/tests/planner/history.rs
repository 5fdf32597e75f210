//! A database that lived, and an archive that saw some of it.

use std::collections::BTreeMap;
use std::convert::Infallible;

use jiff::{SignedDuration, Timestamp};
use strongroom_database::{
    Base, Catalogue, Changes, Commit, CommitIndex, CommitSummary, Fork, Heard, Lineage, LineageId, LogRange,
    NamedPoint, Plan, Position, StandsOn, Stop, TransactionId,
};
use strongroom_model::RecoveryPointId;

/// What the engine wrote.
#[derive(Debug, Clone)]
pub(crate) struct Record {
    pub(crate) start: u64,
    pub(crate) end: u64,
    pub(crate) commit: Option<Commit>,
    pub(crate) name: Option<String>,
}

/// What happens to the database and its archive.
#[derive(Debug, Clone)]
pub(crate) enum Event {
    /// A commit, stamped a little before it is written.
    Commit { bytes: u64, early_ms: i64 },
    /// Anything else in the log.
    Other { bytes: u64 },
    /// A named point.
    Name { name: u8 },
    /// Time passes.
    Idle { ms: i64 },
    /// Somebody sets the clock.
    Step { seconds: i64 },
    /// A base: replay begins `behind` records ago, the end is read `ahead` records later.
    Base { behind: usize, late_ms: i64 },
    /// The archive ends a range, perhaps in the middle of a record; and loses it, or has it twice.
    Bundle { inside: u64, lost: bool, overlap: u64 },
    /// The receiver hears where the log ends.
    Hear,
    /// A restore of `back` records ago is promoted.
    Promote { back: usize },
}

/// All that was, and what is known of it.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) records: BTreeMap<LineageId, Vec<Record>>,
    pub(crate) ends: BTreeMap<LineageId, u64>,
    pub(crate) catalogue: Catalogue,
    pub(crate) clock: Timestamp,
    current: LineageId,
    xid: u64,
    bundle_from: u64,
    hears: Vec<(LineageId, u64, Timestamp)>,
    cuts: Vec<(LineageId, u64, u64, Timestamp)>,
    /// While nothing was written the clock showed these times: history, its end, from, to.
    calm: Vec<(LineageId, u64, Timestamp, Timestamp)>,
    bases: u8,
}

pub(crate) fn live(events: &[Event]) -> World {
    let mut world = World {
        records: BTreeMap::new(),
        ends: BTreeMap::new(),
        catalogue: Catalogue::default(),
        clock: "2026-11-21T12:00:00Z".parse().unwrap(),
        current: LineageId(1),
        xid: 0,
        bundle_from: 1000,
        hears: Vec::new(),
        cuts: Vec::new(),
        calm: Vec::new(),
        bases: 0,
    };
    world.catalogue.lineages.add(Lineage { id: LineageId(1), fork: None, began_at: world.clock }).unwrap();
    world.records.insert(LineageId(1), Vec::new());
    world.ends.insert(LineageId(1), 1000);
    for event in events {
        world.happen(event);
    }
    world.finish_bundle(0, false, 0);
    world.describe();
    world
}

impl World {
    pub(crate) fn lineage(&self) -> LineageId {
        self.current
    }

    fn tip(&mut self) -> &mut Vec<Record> {
        let current = self.current;
        self.records.get_mut(&current).unwrap()
    }

    fn write(&mut self, bytes: u64, commit: Option<i64>, name: Option<String>) {
        let start = self.ends[&self.current];
        let end = start + bytes;
        let commit = commit.map(|early| {
            self.xid += 1;
            Commit {
                start: Position::new(start),
                end: Position::new(end),
                at: self.clock - SignedDuration::from_millis(early),
                transaction: TransactionId::Number(self.xid),
                changes: Changes::default(),
            }
        });
        self.tip().push(Record { start, end, commit, name });
        self.ends.insert(self.current, end);
        self.wait(1);
    }

    fn wait(&mut self, us: i64) {
        let from = self.clock;
        self.clock += SignedDuration::from_micros(us);
        self.calm.push((self.current, self.ends[&self.current], from, self.clock));
    }

    /// How many commits of this history there were at the moments when the clock showed `time`.
    pub(crate) fn showed(&self, lineage: LineageId, time: Timestamp) -> Vec<usize> {
        let path = self.catalogue.lineages.path(lineage);
        let commits = self.commits(lineage);
        let mut counts = Vec::new();
        for (then, end, from, to) in &self.calm {
            let on_way = path.iter().any(|step| step.lineage == *then && *end <= step.to.number());
            // A commit is stamped up to two seconds before it is written.
            if on_way && *from - SignedDuration::from_secs(2) <= time && time <= *to {
                counts.push(commits.iter().filter(|commit| commit.start.number() < *end).count());
            }
        }
        counts
    }

    fn finish_bundle(&mut self, inside: u64, lost: bool, overlap: u64) {
        let end = self.ends[&self.current];
        let to = end.saturating_sub(inside).max(self.bundle_from);
        if to > self.bundle_from && !lost {
            self.cuts.push((self.current, self.bundle_from, to, self.clock));
        }
        self.bundle_from = if lost { to } else { to.saturating_sub(overlap).max(1000) };
    }

    fn happen(&mut self, event: &Event) {
        match *event {
            Event::Commit { bytes, early_ms } => self.write(bytes, Some(early_ms), None),
            Event::Other { bytes } => self.write(bytes, None, None),
            Event::Name { name } => self.write(96, None, Some(format!("p{name}"))),
            Event::Idle { ms } => self.wait(ms * 1000),
            Event::Step { seconds } => self.clock += SignedDuration::from_secs(seconds),
            Event::Base { behind, late_ms } => {
                let end = self.ends[&self.current];
                let path = self.truth(self.current);
                let start = path.iter().rev().nth(behind).map_or(end, |record| record.start);
                self.wait(late_ms * 1000);
                self.bases += 1;
                self.catalogue.bases.push(Base {
                    stands_on: StandsOn::Point(RecoveryPointId::from_bytes([self.bases; 16])),
                    lineage: self.current,
                    start: Position::new(start),
                    end: Position::new(end),
                    ready_at: self.clock,
                    bytes: 1000,
                });
            }
            Event::Bundle { inside, lost, overlap } => self.finish_bundle(inside, lost, overlap),
            Event::Hear => self.hears.push((self.current, self.ends[&self.current], self.clock)),
            Event::Promote { back } => self.promote(back),
        }
    }

    fn promote(&mut self, back: usize) {
        self.finish_bundle(0, false, 0);
        let parent = self.current;
        let own = &self.records[&parent];
        let Some(at) = own.iter().rev().nth(back).map(|record| record.end) else { return };
        let id = LineageId(u32::try_from(self.records.len()).unwrap() + 1);
        let fork = Some(Fork { parent, at: Position::new(at) });
        self.clock += SignedDuration::from_secs(60);
        self.catalogue.lineages.add(Lineage { id, fork, began_at: self.clock }).unwrap();
        // A stamp is never from before the beginning: sessions come later.
        self.clock += SignedDuration::from_secs(3);
        self.records.insert(id, Vec::new());
        self.ends.insert(id, at);
        self.current = id;
        self.bundle_from = at;
        // The first thing that a promoted server writes.
        self.write(40, None, None);
    }

    /// What the archive writes down of what it has.
    fn describe(&mut self) {
        // A clock that is set back right after a promotion makes the beginning earlier.
        for (id, records) in &self.records {
            let first = records.iter().filter_map(|record| record.commit).map(|commit| commit.at).min();
            let known = *self.catalogue.lineages.get(*id).unwrap();
            let began_at = first.map_or(known.began_at, |at| at.min(known.began_at));
            self.catalogue.lineages.add(Lineage { id: *id, fork: known.fork, began_at }).unwrap();
        }
        for (lineage, from, to, heard) in self.cuts.clone() {
            let path = self.truth(lineage);
            let inside = |record: &&Record| from < record.end && record.end <= to;
            let commits: Vec<_> = path.iter().filter(inside).filter_map(|record| record.commit).collect();
            let later = path.iter().filter(|record| record.end > to).filter_map(|record| record.commit);
            let complete = later.map(|commit| commit.at - SignedDuration::from_micros(1)).min();
            let last = path.iter().rfind(inside).map(|record| Position::new(record.start));
            self.catalogue.log.push(LogRange {
                place: format!("{lineage}/{from}-{to}"),
                lineage,
                from: Position::new(from),
                to: Position::new(to),
                stored_bytes: to - from,
                complete_until: complete.map_or(heard, |at| at.min(heard)),
                whole_to: path
                    .iter()
                    .find(|record| record.end > to)
                    .map_or(Position::new(to), |record| Position::new(record.start.min(to))),
                last_record: last,
                commits: CommitSummary::of(&commits),
                named_points: u32::try_from(
                    path.iter().filter(inside).filter(|record| record.name.is_some()).count(),
                )
                .unwrap(),
            });
        }
        for (lineage, position, at) in self.hears.clone() {
            let later = self.truth(lineage).into_iter().filter(|record| record.end > position);
            // Nothing was in flight: a stamp that was taken before is in the log by now.
            if later.filter_map(|record| record.commit).all(|commit| commit.at > at) {
                self.catalogue.heard.push(Heard { lineage, position: Position::new(position), at });
            }
        }
    }

    /// All records of a history, from the beginning.
    pub(crate) fn truth(&self, lineage: LineageId) -> Vec<Record> {
        let mut all = Vec::new();
        for step in self.catalogue.lineages.path(lineage) {
            let own = self.records[&step.lineage].iter();
            all.extend(own.filter(|record| record.end <= step.to.number()).cloned());
        }
        all
    }

    pub(crate) fn commits(&self, lineage: LineageId) -> Vec<Commit> {
        self.truth(lineage).into_iter().filter_map(|record| record.commit).collect()
    }

    /// Does what the plan says, as an engine would. The commits that are in the result.
    pub(crate) fn execute(&self, plan: &Plan) -> Vec<u64> {
        let truth = self.truth(plan.lineage);
        assert!(plan.base.end <= plan.cut, "the base is later than what is wanted");
        let mut at = plan.base.start;
        for piece in &plan.log {
            assert_eq!(piece.from, at, "a hole in the log");
            let step = plan.path.iter().find(|step| step.lineage == piece.range.lineage);
            let step = step.expect("a piece of a history that the plan does not go through");
            assert!(piece.to <= step.to, "a piece reaches into what the history left");
            assert!(
                piece.range.from <= piece.from && piece.to <= piece.range.to,
                "a piece is more than its range"
            );
            at = piece.to;
        }
        assert!(at >= plan.base.end, "the base does not become consistent");
        let mut state = Vec::new();
        let mut stopped = false;
        for record in &truth {
            let (start, end) = (Position::new(record.start), Position::new(record.end));
            if start >= plan.base.end {
                let readable = end <= at;
                match plan.stop {
                    _ if !readable => break,
                    Stop::Before(stop) if start >= stop => stopped = true,
                    Stop::Consistent => stopped = true,
                    _ => {}
                }
                if stopped {
                    break;
                }
            }
            state.extend(record.commit.map(|commit| number(commit.transaction)));
            if let Stop::After(stop) = plan.stop
                && start >= plan.base.end
                && start >= stop
            {
                stopped = true;
                break;
            }
        }
        // PostgreSQL calls it fatal when it does not find where to stop.
        assert!(stopped || plan.stop == Stop::Consistent, "the engine never finds {:?}", plan.stop);
        state
    }
}

pub(crate) fn number(transaction: TransactionId) -> u64 {
    match transaction {
        TransactionId::Number(number) => number,
        TransactionId::Global { .. } => panic!("not in these histories"),
    }
}

impl CommitIndex for World {
    type Error = Infallible;

    fn commits(&self, range: &LogRange) -> Result<Vec<Commit>, Infallible> {
        let mut commits = self.commits(range.lineage);
        commits.retain(|commit| range.from < commit.end && commit.end <= range.to);
        Ok(commits)
    }

    fn named_points(&self, range: &LogRange) -> Result<Vec<NamedPoint>, Infallible> {
        let inside = |record: &Record| range.from.number() < record.end && record.end <= range.to.number();
        let named =
            self.truth(range.lineage).into_iter().filter(|record| inside(record)).filter_map(|record| {
                Some(NamedPoint {
                    name: record.name?,
                    start: Position::new(record.start),
                    end: Position::new(record.end),
                    at: Timestamp::UNIX_EPOCH,
                })
            });
        Ok(named.collect())
    }
}
