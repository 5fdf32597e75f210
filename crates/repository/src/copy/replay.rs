//! What the journal says between two records: the records as they lie, and what became dead on the way.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use futures::StreamExt;

use crate::errors::JournalError;
use crate::fold::Fold;
use crate::journal::Journal;
use crate::layout::ObjectName;
use crate::record::{Event, Placed};

/// Records that are fetched side by side.
const RECORDS_AT_ONCE: usize = 16;

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

/// Reads records from `fold` on to `until`; `with` gets each one, sealed as it lies, in order.
pub(super) async fn replay<E: From<JournalError>>(
    journal: &Journal,
    fold: &mut Arc<Fold>,
    until: u64,
    mut with: impl AsyncFnMut(u64, Bytes) -> Result<(), E>,
) -> Result<Happened, E> {
    let mut happened = Happened::default();
    let get = |number: u64| async move {
        let name = ObjectName::journal(number);
        journal.get(&name).await.map_err(|cause| JournalError::Store { number, cause })
    };
    let mut records =
        futures::stream::iter(fold.number + 1..=until).map(|number| async move { (number, get(number).await) });
    let mut records = std::pin::pin!(records.by_ref().buffered(RECORDS_AT_ONCE));
    while let Some((number, sealed)) = records.next().await {
        let sealed = sealed?;
        let (record, hash) = journal.open_record(number, &sealed)?;
        happened.note(fold, &record.event);
        let kind = record.event.kind();
        Arc::make_mut(fold)
            .apply(&record, hash)
            .map_err(|cause| JournalError::Invalid { number, kind, cause })?;
        with(number, sealed).await?;
    }
    Ok(happened)
}
