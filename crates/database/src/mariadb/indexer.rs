//! The index of each stretch of a log, made while it comes in.

use super::event::kind;
use super::interpreter::{Interpreter, Step};
use super::reader::{LogReader, ReadError};
use crate::{Indexed, LineageId, Position, Stretch};

/// Reads MariaDB's log as it comes in, and makes the index of each stretch of it.
#[derive(Debug)]
pub struct Indexer {
    lineage: LineageId,
    reader: LogReader,
    interpreter: Interpreter,
    stretch: Stretch,
}

impl Indexer {
    /// Begins to read at the beginning of a file, or between two transactions.
    #[must_use]
    pub fn new(at: Position, lineage: LineageId) -> Self {
        let stretch = Stretch::new(lineage, at);
        Self { lineage, reader: LogReader::new(at), interpreter: Interpreter::default(), stretch }
    }

    /// Begins anywhere: what is under way there is passed over, one transaction at most.
    #[must_use]
    pub fn anywhere(at: Position, lineage: LineageId) -> Self {
        let mut indexer = Self::new(at, lineage);
        indexer.reader = LogReader::anywhere(at);
        indexer
    }

    /// Takes the bytes that come next, here or with the next file.
    ///
    /// # Errors
    /// When the log cannot be read on; what came before counts.
    pub fn push(&mut self, at: Position, bytes: &[u8]) -> Result<(), ReadError> {
        let (interpreter, stretch) = (&mut self.interpreter, &mut self.stretch);
        self.reader.push(at, bytes, |event| {
            let start = interpreter.under_way().unwrap_or(event.start);
            match interpreter.event(event) {
                Step::Within => {}
                Step::Transaction(_, entry) => {
                    stretch.record(start);
                    stretch.push(&entry);
                }
                // What every file begins and ends with is nothing to stop at.
                Step::Alone if event.header.kind == kind::GTID => {}
                Step::Alone => stretch.record(event.start),
            }
            Ok(())
        })
    }

    /// Where the first record begins that is not whole yet.
    #[must_use]
    pub fn whole_to(&self) -> Position {
        self.interpreter.under_way().unwrap_or_else(|| self.reader.boundary())
    }

    /// Ends the stretch where the reader is, and begins the next one there.
    pub fn cut(&mut self) -> Indexed {
        let next = Stretch::new(self.lineage, self.reader.position());
        let whole_to = self.whole_to();
        std::mem::replace(&mut self.stretch, next).finish(whole_to)
    }
}
