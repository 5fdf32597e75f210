//! From events to transactions, and what is told of them.

use super::event::{Event, kind};
use super::gtid::Gtid;
use super::rows::Table;
use super::statement::{Does, does};
use crate::postgres::Bytes;
use crate::{Changes, Commit, Ended, Entry, Position};

/// A transaction has rows of so many tables at most, as far as they are counted.
const MOST_TABLES: usize = 256;

/// What an event is in the row of transactions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// A part of a transaction that goes on.
    Within,
    /// The end of a transaction: its name, and what is told of it. A record.
    Transaction(Gtid, Entry),
    /// It belongs to no transaction. A record.
    Alone,
}

/// Understands events, one after the other.
#[derive(Debug, Default)]
pub struct Interpreter {
    group: Option<Group>,
    /// The stamp of the last transaction, or of the file's description.
    stamped: Option<jiff::Timestamp>,
}

#[derive(Debug)]
struct Group {
    start: Position,
    gtid: Gtid,
    at: jiff::Timestamp,
    /// It ends with the first statement.
    is_single: bool,
    is_prepared: bool,
    changes: Changes,
    tables: Vec<Table>,
}

impl Interpreter {
    /// Where the transaction under way begins.
    #[must_use]
    pub fn under_way(&self) -> Option<Position> {
        self.group.as_ref().map(|group| group.start)
    }

    /// What the next event is.
    pub fn event(&mut self, event: &Event<'_>) -> Step {
        // What the server does by itself when it starts after a crash, such as the end of a DROP, is stamped with 1970. It is not
        // earlier than what is before it, which is the description of the file at least. What is within a transaction may have been
        // stamped before its GTID was.
        let is_told = matches!(event.header.kind, kind::GTID | kind::FORMAT_DESCRIPTION);
        if is_told && event.header.seconds > 0 {
            self.stamped = Some(event.at());
        }
        if event.header.kind == kind::GTID {
            // One that did not end was cut off by a crash of the server: nothing of it was committed.
            self.group = Group::begin(event, self.stamped);
            return if self.group.is_some() { Step::Within } else { Step::Alone };
        }
        let between_files = matches!(
            event.header.kind,
            kind::FORMAT_DESCRIPTION | kind::GTID_LIST | kind::STOP | kind::ROTATE
        );
        if between_files {
            self.group = None;
        }
        let Some(group) = &mut self.group else { return Step::Alone };
        let Some(end) = group.take(event) else { return Step::Within };
        let Group { start, gtid, at, changes, is_prepared, .. } = *group;
        self.group = None;
        let transaction = gtid.into();
        let ended = Ended { start, end: event.end, at, transaction };
        let entry = match end {
            End::RolledBack => Entry::RolledBack(ended),
            End::Committed if is_prepared => Entry::Prepared(ended),
            End::Committed => Entry::Commit(Commit { start, end: event.end, at, transaction, changes }),
        };
        Step::Transaction(gtid, entry)
    }
}

enum End {
    Committed,
    RolledBack,
}

impl Group {
    fn begin(event: &Event<'_>, stamped: Option<jiff::Timestamp>) -> Option<Self> {
        let mut bytes = Bytes(event.body);
        let (sequence, domain, flags) = (bytes.u64()?, bytes.u32()?, bytes.u8()?);
        Some(Self {
            start: event.start,
            gtid: Gtid { domain, server: event.header.server, sequence },
            at: stamped.unwrap_or_else(|| event.at()),
            is_single: flags & 1 != 0,
            is_prepared: flags & 64 != 0,
            changes: Changes::default(),
            tables: Vec::new(),
        })
    }

    /// `Some`: the transaction ends with it.
    fn take(&mut self, event: &Event<'_>) -> Option<End> {
        let kind = event.header.kind;
        match kind {
            kind::XID | kind::XA_PREPARE => return Some(End::Committed),
            kind::INTVAR | kind::RAND | kind::USER_VAR | kind::ANNOTATE_ROWS => return None,
            kind::QUERY | kind::QUERY_COMPRESSED => match self.statement(event) {
                Does::Commit => return Some(End::Committed),
                Does::RollBack => return Some(End::RolledBack),
                _ => {}
            },
            kind::TABLE_MAP => {
                match Table::read(event.body).filter(|_| event.is_whole()) {
                    Some(table) if self.tables.len() < MOST_TABLES => self.tables.push(table),
                    _ => self.changes.partial = true,
                }
                return None;
            }
            _ if kind::ROWS_V1.contains(&kind) || kind::ROWS_V2.contains(&kind) => self.rows(event),
            _ if kind::ROWS_COMPRESSED.contains(&kind) => self.changes.partial = true,
            // Such as the blocks of LOAD DATA.
            _ => self.changes.partial = true,
        }
        self.is_single.then_some(End::Committed)
    }

    fn statement(&mut self, event: &Event<'_>) -> Does {
        let text = || {
            let mut bytes = Bytes(event.body);
            bytes.take(8)?;
            let database = usize::from(bytes.u8()?);
            bytes.u16()?;
            let settings = usize::from(bytes.u16()?);
            bytes.take(settings + database + 1)?;
            Some(bytes.0)
        };
        let Some(text) = text().filter(|_| event.header.kind == kind::QUERY) else {
            self.changes.partial = true;
            return Does::Other;
        };
        let does = does(text);
        match does {
            Does::Schema(statements) => self.changes.statements = self.changes.statements.and(statements),
            Does::Rows => self.changes.partial = true,
            Does::Commit | Does::RollBack | Does::Other => {}
        }
        does
    }

    fn rows(&mut self, event: &Event<'_>) {
        let is_second = kind::ROWS_V2.contains(&event.header.kind);
        let which = event.header.kind - if is_second { 30 } else { 23 };
        let found = self.tables.iter().rev().filter(|_| event.is_whole());
        let rows = found.filter_map(|table| table.count(event.body, is_second, which == 1)).next();
        let Some(rows) = rows else {
            self.changes.partial = true;
            return;
        };
        let counter = match which {
            0 => &mut self.changes.inserted,
            1 => &mut self.changes.updated,
            _ => &mut self.changes.deleted,
        };
        *counter = counter.saturating_add(rows);
    }
}
