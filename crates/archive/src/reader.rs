//! A database in a repository: what can be planned with, and reading what lies in bundles.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use strongroom_database::mariadb;
use strongroom_database::{
    Base, Catalogue, Commit, CommitIndex, Index, LineageId, LogRange, NamedPoint, Plan, Position, Rates,
    Timeline, TimelineBuilder, Wanted, plan,
};
use strongroom_model::{LogId, VolumeName};
use strongroom_repository::fold::LogState;
use strongroom_repository::record::BundleNote;
use strongroom_repository::{Bundle, Fold, Repository};
use tokio::runtime::Handle;

use crate::{ArchiveError, catalogue, logs, newest_log, on_volume};

/// How many indexes are kept: the planner comes back to the few that it asked for.
const KEPT_INDEXES: usize = 16;

/// Segments of a server that says nothing else.
const USUAL_SEGMENT: u64 = 16 << 20;

/// A database in a repository.
#[derive(Debug)]
pub struct DatabaseArchive {
    repository: Repository,
    database: String,
    catalogue: Catalogue,
    bundles: BTreeMap<String, (LogId, u32)>,
    histories: BTreeMap<LineageId, String>,
    engine: String,
    facts: BTreeMap<String, String>,
    segment_bytes: u64,
    read: Mutex<VecDeque<(String, Arc<Index>)>>,
}

impl DatabaseArchive {
    /// The name of the database that is meant.
    ///
    /// # Errors
    /// When there is none or several.
    pub fn choose(fold: &Fold, volume: &VolumeName, database: Option<&str>) -> Result<String, ArchiveError> {
        if let Some(name) = database {
            let known = logs(fold, name).next().is_some();
            return if known {
                Ok(name.to_owned())
            } else {
                Err(ArchiveError::NoDatabase { what: name.to_owned() })
            };
        }
        let names: Vec<String> = on_volume(fold, volume).into_iter().map(str::to_owned).collect();
        match <[String; 1]>::try_from(names) {
            Ok([name]) => Ok(name),
            Err(names) if names.is_empty() => {
                Err(ArchiveError::NoDatabase { what: format!("volume {volume}") })
            }
            Err(names) => Err(ArchiveError::SeveralDatabases { volume: volume.to_string(), names }),
        }
    }

    /// Everything that is known of a database, also of bundles that no record names yet.
    ///
    /// # Errors
    /// When the store fails, or histories contradict each other.
    pub async fn open(
        repository: &Repository,
        fold: &Fold,
        database: &str,
    ) -> Result<Arc<Self>, ArchiveError> {
        let newest = newest_log(fold, database);
        let newest = newest.ok_or_else(|| ArchiveError::NoDatabase { what: database.to_owned() })?;
        // A copy is read up to the record to which it is whole, and its newest bundles with it.
        let beyond = if repository.is_copy() {
            Vec::new()
        } else {
            repository.bundles_beyond(newest.opened.log, newest.next, newest.end).await?
        };
        let of_log = |log: &LogState| -> Vec<BundleNote> {
            if log.opened.log == newest.opened.log { beyond.clone() } else { Vec::new() }
        };
        let catalogue = catalogue(fold, database, &of_log)
            .map_err(|cause| ArchiveError::Histories { database: database.to_owned(), cause })?;
        let (mut bundles, mut histories) = (BTreeMap::new(), BTreeMap::new());
        for log in logs(fold, database) {
            let found = (log.next..).zip(of_log(log)).map(|(number, _)| number);
            for number in log.kept().map(|(number, _)| number).chain(found) {
                bundles.insert(format!("{}/{number}", log.opened.log), (log.opened.log, number));
            }
            if let Some(history) = &log.opened.history {
                histories.insert(LineageId(log.opened.lineage), history.clone());
            }
        }
        let segment = newest.opened.facts.get("segment-bytes").and_then(|bytes| bytes.parse().ok());
        Ok(Arc::new(Self {
            repository: repository.clone(),
            database: database.to_owned(),
            catalogue,
            bundles,
            histories,
            engine: newest.opened.engine.clone(),
            facts: newest.opened.facts.clone(),
            segment_bytes: segment.unwrap_or(USUAL_SEGMENT),
            read: Mutex::default(),
        }))
    }

    /// What people call it.
    #[must_use]
    pub fn database(&self) -> &str {
        &self.database
    }

    /// What can be planned with.
    #[must_use]
    pub const fn catalogue(&self) -> &Catalogue {
        &self.catalogue
    }

    /// What kind of database it is: `mariadb`, `postgresql`, `sqlite`.
    #[must_use]
    pub fn engine(&self) -> &str {
        &self.engine
    }

    /// All that its newest log says besides.
    pub fn facts(&self) -> impl Iterator<Item = (&str, &str)> {
        self.facts.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// What its newest log says besides, such as `version` or `path`.
    #[must_use]
    pub fn fact(&self, name: &str) -> Option<&str> {
        self.facts.get(name).map(String::as_str)
    }

    /// How large a segment of its log is.
    #[must_use]
    pub const fn segment_bytes(&self) -> u64 {
        self.segment_bytes
    }

    /// The engine's own accounts of the histories that left another.
    pub fn histories(&self) -> impl Iterator<Item = (LineageId, &str)> {
        self.histories.iter().map(|(lineage, history)| (*lineage, history.as_str()))
    }

    /// Reads a range of the log.
    ///
    /// # Errors
    /// When the store fails, or it is not what was written.
    pub async fn log(&self, range: &LogRange) -> Result<Bytes, ArchiveError> {
        self.bundle(range).await.map(|bundle| bundle.log)
    }

    async fn bundle(&self, range: &LogRange) -> Result<Bundle, ArchiveError> {
        let known = self.bundles.get(&range.place);
        let (log, number) = known.ok_or_else(|| ArchiveError::NoDatabase { what: range.place.clone() })?;
        Ok(self.repository.read_bundle(*log, *number, range.stored_bytes).await?)
    }

    /// What a range of the log says.
    ///
    /// # Errors
    /// As for [`Self::log`], or when its index is damaged.
    pub async fn index(&self, range: &LogRange) -> Result<Arc<Index>, ArchiveError> {
        let known = |read: &VecDeque<(String, Arc<Index>)>| {
            read.iter().find(|(place, _)| *place == range.place).map(|(_, index)| Arc::clone(index))
        };
        if let Some(index) = known(&self.read.lock().unwrap_or_else(PoisonError::into_inner)) {
            return Ok(index);
        }
        let bytes = self.bundle(range).await?.index;
        let read = if bytes.is_empty() {
            // Bytes that nobody understood say nothing.
            Index { lineage: range.lineage, entries: Vec::new() }
        } else {
            Index::read(&bytes).map_err(|cause| ArchiveError::Index { place: range.place.clone(), cause })?
        };
        let index = Arc::new(read);
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        if read.len() >= KEPT_INDEXES {
            read.pop_front();
        }
        read.push_back((range.place.clone(), Arc::clone(&index)));
        Ok(index)
    }

    /// The plan for what is wanted.
    ///
    /// # Errors
    /// A refusal with what is nearest, or why the archive cannot be read.
    pub async fn plan(self: &Arc<Self>, wanted: Wanted, rates: Rates) -> Result<Plan, ArchiveError> {
        self.plan_with(self.catalogue.clone(), wanted, rates).await
    }

    /// The plan for what is wanted, from this base and no other: for a copy that stands on it already.
    ///
    /// # Errors
    /// As for [`Self::plan`].
    pub async fn plan_from(
        self: &Arc<Self>,
        base: &Base,
        wanted: Wanted,
        rates: Rates,
    ) -> Result<Plan, ArchiveError> {
        let catalogue = Catalogue { bases: vec![base.clone()], ..self.catalogue.clone() };
        self.plan_with(catalogue, wanted, rates).await
    }

    async fn plan_with(
        self: &Arc<Self>,
        catalogue: Catalogue,
        wanted: Wanted,
        rates: Rates,
    ) -> Result<Plan, ArchiveError> {
        // The planner knows no waiting; so it runs where waiting hinders nobody.
        let (archive, handle) = (Arc::clone(self), Handle::current());
        let planning = tokio::task::spawn_blocking(move || {
            let index = Waiting { archive: &archive, handle };
            plan(&catalogue, &index, &wanted, &rates)
        });
        let mut plan = planning.await.map_err(|_| ArchiveError::Ending)?.map_err(ArchiveError::from)?;
        if self.engine == "mariadb" {
            // Positions leap from file to file; bytes do not.
            plan.replay_bytes = mariadb::bytes(&plan.log, plan.cut);
            let seconds = plan.base.bytes / rates.fetch.max(1) + plan.replay_bytes / rates.replay.max(1);
            plan.estimated = rates.least.saturating_add(Duration::from_secs(seconds));
        }
        Ok(plan)
    }

    /// What happened between two moments, in all histories.
    ///
    /// # Errors
    /// As for [`Self::index`].
    pub async fn timeline(&self, from: Timestamp, to: Timestamp) -> Result<Timeline, ArchiveError> {
        let mut timeline = TimelineBuilder::new(from, to);
        let mut done: BTreeMap<LineageId, Position> = BTreeMap::new();
        let mut ranges: Vec<_> = self.catalogue.log.iter().collect();
        ranges.sort_by_key(|range| (range.lineage, range.from));
        for range in ranges {
            // Nothing else has a time of its own; without commits a range is read where its neighbours would be.
            let outside = range.commits.is_some_and(|commits| commits.latest < from || commits.earliest > to);
            let quiet = range.commits.is_none() && range.named_points == 0;
            let begin = done.get(&range.lineage).copied().unwrap_or_default();
            if !outside && !quiet && range.to > begin {
                let index = self.index(range).await?;
                // Bundles of two logs of one history may overlap.
                index
                    .entries
                    .iter()
                    .filter(|entry| entry.end() > begin)
                    .for_each(|entry| timeline.add(entry));
            }
            done.insert(range.lineage, begin.max(range.to));
        }
        Ok(timeline.finish())
    }
}

/// The index for who does not know how to wait.
struct Waiting<'a> {
    archive: &'a DatabaseArchive,
    handle: Handle,
}

impl CommitIndex for Waiting<'_> {
    type Error = ArchiveError;

    fn commits(&self, range: &LogRange) -> Result<Vec<Commit>, ArchiveError> {
        Ok(self.handle.block_on(self.archive.index(range))?.commits())
    }

    fn named_points(&self, range: &LogRange) -> Result<Vec<NamedPoint>, ArchiveError> {
        Ok(self.handle.block_on(self.archive.index(range))?.named_points())
    }
}
