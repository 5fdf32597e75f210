//! Looking at packs: is the object there, is its table sound, does it have every needed entry, and are the
//! bytes right?
//!
//! With `read_data` each object is read once, whole: the key-less hash over all its bytes, then every needed
//! entry opened and its chunk id computed again.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use strongroom_model::{PackId, chain};

use super::needs::Needs;
use super::{Findings, Progress};
use crate::entry_runs::EntryRuns;
use crate::errors::JournalError;
use crate::layout::ObjectName;
use crate::pack::{self, Opened, PackError, PackFetcher, PackPlace};
use crate::repository::Repository;
use crate::store::{Deleted, ListPage, ObjectInfo, ObjectStore, StoreError, Upload};

/// Footers are small: many at once.
const FOOTERS_AT_ONCE: usize = 16;

/// Whole packs are 64 MiB and more: one, while the next is on its way.
const PACKS_AT_ONCE: usize = 2;

/// Larger objects are not held in memory; they are read by ranges, twice.
const MOST_IN_MEMORY: u64 = 96 << 20;

/// Entries that are opened together.
const ENTRIES_AT_ONCE: usize = 64;

/// What was seen of the packs.
#[derive(Debug, Default)]
pub(super) struct Examined {
    pub(super) packs: u64,
    pub(super) read_bytes: u64,
    /// Needed entries that cannot be had, by pack, and the object to blame.
    pub(super) lost: BTreeMap<PackId, (String, EntryRuns)>,
}

/// What is wrong with one pack.
#[derive(Debug)]
struct Wrong {
    object: String,
    what: String,
    lost: EntryRuns,
}

impl Repository {
    /// Looks at every pack that the points need.
    pub(super) async fn examine_packs(
        &self,
        needs: &Needs,
        read_data: bool,
        progress: Progress<'_>,
        findings: &mut Findings,
    ) -> Result<Examined, JournalError> {
        let fold = self.known_fold();
        let mut packs: Vec<PackId> =
            needs.entries.packs().chain(needs.packs.values().flatten().copied()).collect();
        packs.sort_unstable();
        packs.dedup();
        let size = |pack: &PackId| fold.packs.get(pack).map_or(0, |state| state.place.bytes);
        let total = if read_data { packs.iter().map(size).sum() } else { packs.len() as u64 };
        let at_once = if read_data { PACKS_AT_ONCE } else { FOOTERS_AT_ONCE };
        let mut examined = Examined { packs: packs.len() as u64, ..Examined::default() };
        let mut done = 0;
        let size = &size;
        let look = |pack: PackId| async move {
            let needed: Vec<u32> = needs.entries.entries(&pack).collect();
            (pack, size(&pack), self.examine(pack, &needed, read_data).await)
        };
        let mut answers = futures::stream::iter(packs).map(look).buffer_unordered(at_once);
        while let Some((pack, bytes, answer)) = answers.next().await {
            done += if read_data { bytes } else { 1 };
            progress(done, total);
            examined.read_bytes += if read_data { bytes } else { 0 };
            for wrong in answer? {
                findings.add(&wrong.object, wrong.what);
                if !wrong.lost.is_empty() {
                    let lost =
                        examined.lost.entry(pack).or_insert_with(|| (wrong.object, EntryRuns::default()));
                    lost.1.extend(&wrong.lost);
                }
            }
        }
        Ok(examined)
    }

    /// Looks at one pack, wherever it lies now.
    async fn examine(
        &self,
        pack: PackId,
        needed: &[u32],
        read_data: bool,
    ) -> Result<Vec<Wrong>, JournalError> {
        let mut last: Option<PackPlace> = None;
        loop {
            let fold = self.known_fold();
            let all = || needed.iter().copied().collect::<EntryRuns>();
            let Some(state) = fold.packs.get(&pack) else {
                let what = "the journal names no such pack".to_owned();
                return Ok(vec![Wrong { object: pack.to_string(), what, lost: all() }]);
            };
            let swept: EntryRuns =
                needed.iter().copied().filter(|entry| state.holes.contains(*entry)).collect();
            let place = state.place;
            let mut wrong = self.examine_place(place, needed, read_data).await;
            if !swept.is_empty() {
                let what = "entries that a point needs were swept".to_owned();
                wrong.push(Wrong { object: place.name().to_string(), what, lost: swept });
            }
            if wrong.is_empty() || last == Some(place) {
                return Ok(wrong);
            }
            // It may have been rewritten, or its points forgotten, while it was looked at.
            last = Some(place);
            let fold = self.fold().await?;
            match fold.packs.get(&pack) {
                Some(state) if state.place == place => return Ok(wrong),
                Some(_) => {}
                None => return Ok(Vec::new()),
            }
        }
    }

    async fn examine_place(&self, place: PackPlace, needed: &[u32], read_data: bool) -> Vec<Wrong> {
        let object = place.name().to_string();
        let all = || needed.iter().copied().collect::<EntryRuns>();
        let mut context = self.inner.context.clone();
        let mut wrong = Vec::new();
        if read_data {
            match self.load(place).await {
                Ok(Some(loaded)) => context.store = Arc::new(loaded),
                Ok(None) => {}
                Err(what) => return vec![Wrong { object, what, lost: all() }],
            }
            if let Err(error) =
                pack::scrub(context.store.as_ref(), place.kind, place.object, place.bytes).await
            {
                wrong.push(Wrong { object: object.clone(), what: chain(&error), lost: EntryRuns::default() });
            }
        }
        let fetcher = PackFetcher::new(context.clone(), 1 << 20);
        let footer = match fetcher.footer(place).await {
            Ok(footer) => footer,
            Err(error) => {
                wrong.push(Wrong { object, what: chain(&error), lost: all() });
                return wrong;
            }
        };
        let (there, missing): (Vec<u32>, Vec<u32>) =
            needed.iter().partition(|entry| footer.row(**entry).is_some());
        if !missing.is_empty() {
            let what = format!("its table lacks {} needed entries", missing.len());
            wrong.push(Wrong { object: object.clone(), what, lost: missing.into_iter().collect() });
        }
        if read_data {
            wrong.extend(self.open_all(&fetcher, place, &there).await.map(|(what, lost)| Wrong {
                object,
                what,
                lost,
            }));
        }
        wrong
    }

    /// The whole object, where it is not too large. `Err` says what is wrong.
    async fn load(&self, place: PackPlace) -> Result<Option<Loaded>, String> {
        let name = place.name();
        if place.bytes > MOST_IN_MEMORY {
            return Ok(None);
        }
        let info = self.store().head(&name).await.map_err(|cause| self.unread(&name, cause))?;
        if info.bytes != place.bytes {
            return Err(format!("{name} has {} bytes, {} were written", info.bytes, place.bytes));
        }
        let bytes = self.journal().get(&name).await.map_err(|cause| self.unread(&name, cause))?;
        Ok(Some(Loaded { name, bytes, info }))
    }

    fn unread(&self, name: &ObjectName, cause: StoreError) -> String {
        let object = name.to_string();
        match cause {
            StoreError::NotFound { .. } => chain(&PackError::Missing { object }),
            cause => chain(&PackError::Store { object, cause }),
        }
    }

    /// Opens every entry; what does not open is looked for one by one.
    async fn open_all(
        &self,
        fetcher: &PackFetcher,
        place: PackPlace,
        entries: &[u32],
    ) -> Option<(String, EntryRuns)> {
        let mut lost = EntryRuns::default();
        let mut what = None;
        for some in entries.chunks(ENTRIES_AT_ONCE) {
            if self.open_some(fetcher, place, some).await.is_ok() {
                continue;
            }
            for entry in some {
                if let Err(error) = self.open_some(fetcher, place, &[*entry]).await {
                    lost.insert_run(*entry, 1);
                    what.get_or_insert_with(|| chain(&error));
                }
            }
        }
        what.map(|what| (what, lost))
    }

    /// Opens entries, and puts deltas on their bases to see that their chunks come out.
    async fn open_some(
        &self,
        fetcher: &PackFetcher,
        place: PackPlace,
        entries: &[u32],
    ) -> Result<(), PackError> {
        let opened = fetcher.opened(place, entries).await?;
        let bases = self.reader().bases(opened.iter().filter_map(Opened::base)).await;
        // A base that cannot be read is damage of its own pack, and told there: the delta may be sound.
        let bases = bases.unwrap_or_default();
        for entry in opened {
            if let Some(base) = entry.base().and_then(|at| bases.get(&at)) {
                entry.onto(base)?;
            }
        }
        Ok(())
    }
}

/// One object that is in memory, for readers that want a store.
#[derive(Debug)]
struct Loaded {
    name: ObjectName,
    bytes: Bytes,
    info: ObjectInfo,
}

impl Loaded {
    fn refuse<T>(&self, name: &ObjectName) -> Result<T, StoreError> {
        let reason = format!("only {} is in memory", self.name);
        Err(StoreError::Rejected { location: self.location(), name: name.to_string(), reason })
    }
}

#[async_trait]
impl ObjectStore for Loaded {
    fn location(&self) -> String {
        "memory".to_owned()
    }

    async fn create(&self, name: &ObjectName, _body: Bytes) -> Result<(), StoreError> {
        self.refuse(name)
    }

    async fn put(&self, name: &ObjectName, _body: Bytes) -> Result<(), StoreError> {
        self.refuse(name)
    }

    async fn upload(&self, name: &ObjectName) -> Result<Box<dyn Upload>, StoreError> {
        self.refuse(name)
    }

    async fn get(&self, name: &ObjectName) -> Result<Bytes, StoreError> {
        if *name == self.name { Ok(self.bytes.clone()) } else { self.refuse(name) }
    }

    async fn get_range(&self, name: &ObjectName, start: u64, length: u64) -> Result<Bytes, StoreError> {
        let end = start.checked_add(length).and_then(|end| usize::try_from(end).ok());
        match (usize::try_from(start).ok(), end) {
            (Some(start), Some(end)) if end <= self.bytes.len() && *name == self.name => {
                Ok(self.bytes.slice(start..end))
            }
            _ => self.refuse(name),
        }
    }

    async fn head(&self, name: &ObjectName) -> Result<ObjectInfo, StoreError> {
        if *name == self.name { Ok(self.info) } else { self.refuse(name) }
    }

    async fn list(&self, _prefix: &str, _after: Option<&str>) -> Result<ListPage, StoreError> {
        Ok(ListPage::default())
    }

    async fn delete(&self, name: &ObjectName) -> Result<Deleted, StoreError> {
        self.refuse(name)
    }
}
