//! Reads packs, wherever they lie now.
//!
//! The journal's pack table says which object holds a pack; it may have changed since it was read. So a missing
//! object or a hole is looked up once more: the point was forgotten (stop, and say by which record), the pack
//! has another object (go on there), or neither: then it is damage. Footers are cached by object, so a
//! rewritten pack cannot be read through an old table.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use strongroom_model::{Failure, PackId, RecoveryPointId, Remedy};

use crate::layout::PackKind;
use crate::pack::{Entry, EntryRef, EntrySource, FetchError, Footer, Opened, PackPlace};
use crate::repository::Repository;
use crate::rules::{Rule, holds};

/// How often one request follows a pack that moves under it. Each move is a finished sweep, so two in one
/// request are rare.
const MOST_MOVES: usize = 4;

/// Reads entries of logical packs: follows the pack table, and on a missing object or a hole reads the journal
/// once more. Cheap to clone.
#[derive(Debug, Clone)]
pub struct PackReader {
    repository: Repository,
    point: Option<RecoveryPointId>,
}

/// The point that was being read is no more.
#[derive(Debug, thiserror::Error)]
#[error("{point} was forgotten while it was read{}", by(*.record))]
pub struct Forgotten {
    /// Which point.
    pub point: RecoveryPointId,
    /// The journal record that forgot it, where this process saw it.
    pub record: Option<u64>,
}

fn by(record: Option<u64>) -> String {
    record.map_or_else(String::new, |record| format!(", by journal record {record}"))
}

impl Failure for Forgotten {
    fn code(&self) -> &'static str {
        "point.forgotten"
    }
    fn remedy(&self) -> Remedy {
        Remedy::FixRequest
    }
    fn advice(&self) -> String {
        "Choose another point from `strongroom points list`; `strongroom points hold` keeps one from being forgotten.".to_owned()
    }
}

impl PackReader {
    pub(crate) const fn new(repository: Repository) -> Self {
        Self { repository, point: None }
    }

    /// A reader for the sake of one point: when that point is forgotten meanwhile, it says so.
    #[must_use]
    pub fn of_point(mut self, point: RecoveryPointId) -> Self {
        self.point = Some(point);
        self
    }

    /// Where a pack lies, as far as is known here.
    fn place(&self, at: PackId, entries: &[u32]) -> Option<PackPlace> {
        let fold = self.repository.known_fold();
        let state = fold.packs.get(&at)?;
        entries.iter().all(|entry| !state.holes.contains(*entry)).then_some(state.place)
    }

    /// Where a pack lies, after `missed` turned out not to hold it (any more).
    async fn place_again(
        &self,
        pack: PackId,
        entries: &[u32],
        missed: Option<PackPlace>,
    ) -> Result<Option<PackPlace>, FetchError> {
        let fold = self.repository.fold().await.map_err(|cause| FetchError::Other(Box::new(cause)))?;
        if let Some(point) = self.point.filter(|point| !fold.is_current(point)) {
            let record = self.repository.journal().forgotten_by(&point);
            return Err(FetchError::Other(Box::new(Forgotten { point, record })));
        }
        match self.place(pack, entries) {
            None if missed.is_none() => Err(FetchError::NotListed { pack }),
            place => Ok(place.filter(|place| Some(*place) != missed)),
        }
    }

    async fn first_place(&self, pack: PackId, entries: &[u32]) -> Result<PackPlace, FetchError> {
        match self.place(pack, entries) {
            Some(place) => Ok(place),
            None if !holds(Rule::ReaderRereads) => Err(FetchError::NotListed { pack }),
            None => self.place_again(pack, entries, None).await?.ok_or(FetchError::NotListed { pack }),
        }
    }

    /// The footer of a pack as it lies now.
    ///
    /// # Errors
    /// When the journal names no such pack, or it is missing or damaged.
    pub async fn footer(&self, pack: PackId) -> Result<Arc<Footer>, FetchError> {
        let mut place = self.first_place(pack, &[]).await?;
        let mut moves = 0;
        loop {
            match self.repository.inner.fetcher.footer(place).await {
                Err(error) if error.may_have_moved() && moves < MOST_MOVES && holds(Rule::ReaderRereads) => {
                    place = self.place_again(pack, &[], Some(place)).await?.ok_or(error)?;
                    moves += 1;
                }
                answer => return Ok(answer?),
            }
        }
    }

    /// Entries of one pack in ascending order of number; neighbours come with one request. Deltas come as the chunks that
    /// they stand for: what they are built on is fetched as well. All of the answer is in memory: ask for a few MiB at a
    /// time.
    ///
    /// # Errors
    /// When one of them cannot be read, or the base of one.
    pub async fn entries(&self, pack: PackId, numbers: &[u32]) -> Result<Vec<Entry>, FetchError> {
        let mut moves = 0;
        loop {
            let opened = self.opened(pack, numbers).await?;
            let from = self.place(pack, numbers);
            match self.assembled(opened).await {
                // Where a base is gone, its deltas may have become whole chunks: then their pack has moved.
                Err(error) if error.may_have_moved() && moves < MOST_MOVES => {
                    if self.place_again(pack, numbers, from).await?.is_none() {
                        return Err(error);
                    }
                    moves += 1;
                }
                answer => return answer,
            }
        }
    }

    /// Entries whose seals are opened, deltas as they are.
    async fn opened(&self, pack: PackId, numbers: &[u32]) -> Result<Vec<Opened>, FetchError> {
        let mut place = self.first_place(pack, numbers).await?;
        let mut moves = 0;
        loop {
            match self.repository.inner.fetcher.opened(place, numbers).await {
                Err(error) if error.may_have_moved() && moves < MOST_MOVES && holds(Rule::ReaderRereads) => {
                    place = self.place_again(pack, numbers, Some(place)).await?.ok_or(error)?;
                    moves += 1;
                }
                answer => return Ok(answer?),
            }
        }
    }

    /// What the entries stand for.
    async fn assembled(&self, opened: Vec<Opened>) -> Result<Vec<Entry>, FetchError> {
        let bases = self.bases(opened.iter().filter_map(Opened::base)).await?;
        let base = |at: EntryRef| bases.get(&at).map(|plain| &plain[..]).unwrap_or_default();
        opened
            .into_iter()
            .map(|entry| match entry.base() {
                None => Ok(entry.whole()?),
                Some(at) => Ok(entry.onto(base(at))?),
            })
            .collect()
    }

    /// The plain bytes of chunks that deltas are built on.
    pub(crate) async fn bases(
        &self,
        bases: impl Iterator<Item = EntryRef>,
    ) -> Result<BTreeMap<EntryRef, Bytes>, FetchError> {
        let mut wanted: BTreeMap<PackId, BTreeSet<u32>> = BTreeMap::new();
        for base in bases {
            wanted.entry(base.pack).or_default().insert(base.entry);
        }
        let mut found = BTreeMap::new();
        for (pack, numbers) in wanted {
            let numbers: Vec<u32> = numbers.into_iter().collect();
            for (entry, opened) in numbers.iter().zip(self.opened(pack, &numbers).await?) {
                found.insert(EntryRef { pack, entry: *entry }, opened.whole()?.plain);
            }
        }
        Ok(found)
    }
}

#[async_trait]
impl EntrySource for PackReader {
    async fn entry(&self, _kind: PackKind, at: EntryRef) -> Result<Entry, FetchError> {
        let mut entries = self.entries(at.pack, &[at.entry]).await?;
        entries.pop().ok_or(FetchError::NotListed { pack: at.pack })
    }
}
