//! What the journal says between two records: the records as they lie, and what became dead on the way.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use bytes::Bytes;

use crate::errors::JournalError;
use crate::fold::Fold;
use crate::journal::Journal;
use crate::layout::ObjectName;
use crate::record::{Event, Placed};

/// Records that are fetched side by side.
const RECORDS_AT_ONCE: u64 = 16;

/// What happened between two records.
#[derive(Debug, Default)]
pub(super) struct Happened {
    /// Objects that a finished sweep made dead for ever. Sweeps name garbage too that was never copied.
    pub(super) dead: BTreeSet<Placed>,
    /// Key slots that were removed.
    pub(super) removed_slots: BTreeSet<[u8; 8]>,
}

impl Happened {
    /// What `event` makes dead, decided on the fold before it.
    fn note(&mut self, before: &Fold, event: &Event) {
        match event {
            Event::SweepDone(_) => self.dead.extend(before.deletable()),
            Event::KeyRemoved(removed) => {
                self.removed_slots.insert(removed.slot);
            }
            Event::KeyAdded(added) => {
                self.removed_slots.remove(&added.slot);
            }
            _ => {}
        }
    }
}

/// Walks through records, and folds them.
#[derive(Debug)]
pub(super) struct Replay<'a> {
    journal: &'a Journal,
    /// The state after the last record that was walked over.
    pub(super) fold: Arc<Fold>,
    pub(super) happened: Happened,
    until: u64,
    ahead: VecDeque<Bytes>,
}

impl<'a> Replay<'a> {
    /// From the record after `fold` to `until`.
    pub(super) fn new(journal: &'a Journal, fold: Arc<Fold>, until: u64) -> Self {
        Self { journal, fold, happened: Happened::default(), until, ahead: VecDeque::new() }
    }

    /// The next record, sealed as it lies; `None` at the end.
    pub(super) async fn next(&mut self) -> Result<Option<(u64, Bytes)>, JournalError> {
        let number = self.fold.number + 1;
        if number > self.until {
            return Ok(None);
        }
        if self.ahead.is_empty() {
            let last = self.until.min(number + RECORDS_AT_ONCE - 1);
            let fetched = (number..=last).map(|number| fetch(self.journal, number));
            self.ahead = futures::future::try_join_all(fetched).await?.into();
        }
        let Some(sealed) = self.ahead.pop_front() else { return Ok(None) };
        let (record, hash) = self.journal.open_record(number, &sealed)?;
        self.happened.note(&self.fold, &record.event);
        let kind = record.event.kind();
        Arc::make_mut(&mut self.fold).apply(&record, hash).map_err(|cause| JournalError::Invalid {
            number,
            kind,
            cause,
        })?;
        Ok(Some((number, sealed)))
    }
}

async fn fetch(journal: &Journal, number: u64) -> Result<Bytes, JournalError> {
    let name = ObjectName::journal(number);
    journal.get(&name).await.map_err(|cause| JournalError::Store { number, cause })
}
