//! What the open transactions did so far, so that their commits can say it.
//!
//! It is for people who look for the right second, and it is bounded: with more than [`MOST`] open transactions all is
//! forgotten, and the commits of those say that they are incomplete.

use std::collections::HashMap;

use super::bytes::Bytes;
use super::record::{Record, manager};
use super::transaction::Ending;
use crate::{Changes, Statements};

/// As many transactions as a server has connections, many times over.
const MOST: usize = 65_536;

/// The first number of what users make; below are the catalogues.
const FIRST_OF_USERS: u32 = 16_384;

/// Catalogues whose rows are objects: class, procedure, namespace, type, extension, foreign server.
const OBJECTS: [u32; 6] = [1259, 1255, 2615, 1247, 3079, 1417];

/// Catalogues whose rows belong to objects: attribute, default, constraint, trigger, rule, policy, index, inheritance, enum, role,
/// role membership, database, description of privileges.
const DEFINITIONS: [u32; 12] = [1249, 2604, 2606, 2620, 2618, 3256, 2610, 2611, 3501, 1260, 1261, 1262];

#[derive(Debug, Clone, Copy, Default)]
struct Tally {
    inserted: u32,
    updated: u32,
    deleted: u32,
    objects_made: u32,
    objects_gone: u32,
    definitions: u32,
    database: Statements,
}

impl Tally {
    fn add(&mut self, other: &Self) {
        self.inserted = self.inserted.saturating_add(other.inserted);
        self.updated = self.updated.saturating_add(other.updated);
        self.deleted = self.deleted.saturating_add(other.deleted);
        self.objects_made = self.objects_made.saturating_add(other.objects_made);
        self.objects_gone = self.objects_gone.saturating_add(other.objects_gone);
        self.definitions = self.definitions.saturating_add(other.definitions);
        self.database = self.database.and(other.database);
    }
}

/// The open transactions.
#[derive(Debug, Default)]
pub(crate) struct Tallies {
    open: HashMap<u32, Tally>,
    /// Of this transaction and those before it something is not known.
    unknown_to: Option<u32>,
    newest: Option<u32>,
}

enum Row {
    Inserted(u32),
    Updated,
    Deleted,
}

impl Tallies {
    /// Counts what a record did.
    pub(crate) fn count(&mut self, record: &Record<'_>) {
        if record.transaction == 0 {
            return;
        }
        self.seen(record.transaction);
        match record.manager {
            manager::HEAP | manager::HEAP2 => self.rows(record),
            manager::DATABASE => {
                let kind = match (record.version.major(), record.info & 0xF0) {
                    (15.., 0x00 | 0x10) | (..15, 0x00) => Statements::CREATE_DATABASE,
                    (15.., 0x20) | (..15, 0x10) => Statements::DROP_DATABASE,
                    _ => return,
                };
                let tally = self.of(record.transaction);
                tally.database = tally.database.and(kind);
            }
            _ => {}
        }
    }

    fn rows(&mut self, record: &Record<'_>) {
        let row = match (record.manager, record.info & 0x70) {
            (manager::HEAP, 0x00) => Row::Inserted(1),
            (manager::HEAP, 0x10) => Row::Deleted,
            (manager::HEAP, 0x20 | 0x40) => Row::Updated,
            (manager::HEAP2, 0x50) => Row::Inserted(0),
            _ => return,
        };
        let Some(parts) = record.parts() else { return };
        let Some(file) = parts.file else { return };
        let row = match row {
            // Many rows of one page: flags, then how many.
            Row::Inserted(0) => {
                let count = parts.data.and_then(|data| Bytes(data.get(2..)?).u16());
                Row::Inserted(count.map_or(1, u32::from))
            }
            row => row,
        };
        let tally = self.of(record.transaction);
        if file >= FIRST_OF_USERS {
            let (count, by) = match row {
                Row::Inserted(rows) => (&mut tally.inserted, rows),
                Row::Updated => (&mut tally.updated, 1),
                Row::Deleted => (&mut tally.deleted, 1),
            };
            *count = count.saturating_add(by);
        } else if OBJECTS.contains(&file) {
            let count = match row {
                Row::Inserted(_) => &mut tally.objects_made,
                Row::Updated => &mut tally.definitions,
                Row::Deleted => &mut tally.objects_gone,
            };
            *count = count.saturating_add(1);
        } else if DEFINITIONS.contains(&file) {
            tally.definitions = tally.definitions.saturating_add(1);
        }
    }

    fn seen(&mut self, transaction: u32) {
        // Those that are older than the first one seen began before the log that was read.
        let first = transaction.wrapping_sub(1);
        self.unknown_to.get_or_insert(first);
        match self.newest {
            Some(newest) if !is_later(transaction, newest) => {}
            _ => self.newest = Some(transaction),
        }
    }

    fn of(&mut self, transaction: u32) -> &mut Tally {
        if self.open.len() >= MOST && !self.open.contains_key(&transaction) {
            self.open.clear();
            self.unknown_to = self.newest;
        }
        self.open.entry(transaction).or_default()
    }

    /// The transaction ended: what it did in all.
    pub(crate) fn close(&mut self, transaction: u32, ending: &Ending<'_>) -> Changes {
        self.seen(transaction);
        let mut tally = self.open.remove(&transaction).unwrap_or_default();
        for subtransaction in ending.subtransactions() {
            if let Some(part) = self.open.remove(&subtransaction) {
                tally.add(&part);
            }
        }
        Changes {
            inserted: tally.inserted,
            updated: tally.updated,
            deleted: tally.deleted,
            files_dropped: ending.files_dropped,
            statements: statements(&tally, ending),
            partial: self.unknown_to.is_some_and(|unknown| !is_later(transaction, unknown)),
        }
    }
}

fn statements(tally: &Tally, ending: &Ending<'_>) -> Statements {
    let mut kinds = tally.database;
    let mut add = |kind, yes| {
        if yes {
            kinds = kinds.and(kind);
        }
    };
    let rewritten = ending.files_dropped > 0 && tally.objects_gone == 0;
    add(Statements::CREATE, tally.objects_made > 0);
    add(Statements::DROP, tally.objects_gone > 0);
    add(Statements::REWRITE, rewritten);
    // What is made or dropped has definitions, too; by themselves they are an ALTER.
    let alone = tally.objects_made == 0 && tally.objects_gone == 0 && !rewritten && tally.database.is_empty();
    add(Statements::ALTER, alone && tally.definitions > 0 && ending.invalidates);
    kinds
}

/// Numbers of transactions go in a circle: later is what is less than half of it ahead.
const fn is_later(one: u32, other: u32) -> bool {
    one != other && one.wrapping_sub(other) < 1 << 31
}
