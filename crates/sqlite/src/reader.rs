//! From records to the commit index.
//!
//! SQLite's log has pages, no statements. What a page says of the schema is on the first: a number that each change of the
//! schema raises, and how many pages are free. Where both rise together something was dropped, as a rule.

use strongroom_database::{
    Changes, Commit, Entry, Indexed, LineageId, Position, Statements, Stretch, TransactionId,
};

use crate::{HEADER_BYTES, Record, RecordError};

/// Reads a log from the beginning of a record on.
#[derive(Debug)]
pub struct Reader {
    lineage: LineageId,
    stretch: Stretch,
    /// What came and is no whole record yet; it begins at `position`.
    rest: Vec<u8>,
    position: Position,
    /// Where the first frame begins of the commit under way.
    begun: Option<Position>,
    first_page: Option<FirstPage>,
    statements: Statements,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct FirstPage {
    schema: u32,
    free: u32,
}

impl FirstPage {
    fn of(record: &Record<'_>) -> Option<Self> {
        let at = |at: usize| record.content.get(at..at + 4)?.try_into().ok().map(u32::from_be_bytes);
        if record.page == 1 { Some(Self { schema: at(40)?, free: at(36)? }) } else { None }
    }
}

impl Reader {
    /// Begins where a record does.
    #[must_use]
    pub fn new(start: Position, lineage: LineageId) -> Self {
        Self {
            lineage,
            stretch: Stretch::new(lineage, start),
            rest: Vec::new(),
            position: start,
            begun: None,
            first_page: None,
            statements: Statements::NONE,
        }
    }

    /// Takes the bytes that come next.
    ///
    /// # Errors
    /// When they are none.
    pub fn push(&mut self, at: Position, bytes: &[u8]) -> Result<(), RecordError> {
        if self.position.plus(self.rest.len() as u64) != at {
            return Err(RecordError);
        }
        // At most one record is kept: a header and 64 KiB.
        let held = std::mem::take(&mut self.rest);
        let joined = [&held[..], bytes].concat();
        let mut left = &joined[..];
        while let Some((record, behind)) = Record::take(left)? {
            self.record(&record);
            left = behind;
        }
        self.rest = left.to_vec();
        Ok(())
    }

    fn record(&mut self, record: &Record<'_>) {
        let start = *self.begun.get_or_insert(self.position);
        self.position = self.position.plus((HEADER_BYTES + record.content.len()) as u64);
        if let Some(page) = FirstPage::of(record)
            && let Some(before) = self.first_page.replace(page)
            && before.schema != page.schema
        {
            let dropped = if page.free > before.free { Statements::DROP } else { Statements::NONE };
            self.statements = self.statements.and(Statements::ALTER).and(dropped);
        }
        if record.pages_after > 0 {
            self.stretch.record(start);
            let statements = std::mem::take(&mut self.statements);
            self.stretch.push(&Entry::Commit(Commit {
                start,
                end: self.position,
                at: record.received_at,
                transaction: TransactionId::Number(record.commit),
                changes: Changes { statements, partial: true, ..Changes::default() },
            }));
            self.begun = None;
        }
    }

    /// Ends the stretch where it is, and begins the next there.
    pub fn cut(&mut self) -> Indexed {
        let whole_to = self.begun.unwrap_or(self.position);
        let next = Stretch::new(self.lineage, self.position);
        std::mem::replace(&mut self.stretch, next).finish(whole_to)
    }
}
