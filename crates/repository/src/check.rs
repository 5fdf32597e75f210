//! Looking whether everything is there and right.
//!
//! Damage is a result, not an error: every object that is missing or wrong is named, with the points, volumes
//! and byte ranges that lose data by it, and the check goes on. Only a journal that cannot be read stops it.
//! Nothing here writes.

mod audit;
mod bundles;
mod data;
mod holds;
mod index_runs;
mod losses;
mod needs;
mod notes;
mod objects;
mod packs;
mod put_back;
mod rebuild;
mod repair;
mod share;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use serde::Serialize;
use strongroom_model::{ByteRange, PackId, RecoveryPointId, VolumeName};

pub use holds::LeftHold;
pub use objects::Orphans;
pub use put_back::PutBack;
pub use repair::{PointLoss, RepairPlan, RepairReport};
pub use share::{Proof, ReadData};

use crate::chunk::BLOCK_BYTES;
use crate::errors::JournalError;
use crate::fold::Fold;
use crate::keys::Grants;
use crate::layout::PackKind;
use crate::map::MapError;
use crate::point::Point;
use crate::repository::Repository;
use needs::Needs;
use notes::Notes;

/// How many chunks of a map are looked at together.
const WINDOW: u64 = 1 << 20;

/// Told of progress: done and total, in bytes or records.
pub type Progress<'a> = &'a (dyn Fn(u64, u64) + Send + Sync);

/// What to check.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CheckOptions {
    /// Which data is read.
    pub read: ReadData,
    /// Whether all maps are walked and all footers compared with them. Without it: what is read, and that the other
    /// objects are there with their sizes.
    pub structure: bool,
    /// Whether what is read is noted in the journal, so that the next share goes on from there and dedup avoids what is
    /// damaged.
    pub record: bool,
    /// How many packs are noted together. 256: of 16 GiB of data one record.
    pub batch: usize,
}

impl Default for CheckOptions {
    fn default() -> Self {
        Self { read: ReadData::Nothing, structure: true, record: false, batch: 256 }
    }
}

/// What a check saw.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Default)]
pub struct CheckReport {
    /// Points looked at.
    pub points: u64,
    /// Packs looked at.
    pub packs: u64,
    /// Packs read whole.
    pub read_packs: u64,
    /// Bytes read of data.
    pub read_bytes: u64,
    /// How far the data is proved after this check.
    pub proof: Proof,
    /// Objects that no pack's current place is: of writers at work, or garbage for the next sweep.
    pub orphans: Orphans,
    /// Holds of restores that may have been killed.
    pub holds: Vec<LeftHold>,
    /// Why what was read is not noted in the journal, if it is not.
    pub not_noted: Option<String>,
    /// What is wrong, worst first.
    pub damages: Vec<Damage>,
}

impl CheckReport {
    /// Whether nothing is wrong.
    #[must_use]
    pub const fn is_whole(&self) -> bool {
        self.damages.is_empty()
    }
}

/// One damaged or missing object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Damage {
    /// Which object.
    pub object: String,
    /// What is wrong with it.
    pub what: String,
    /// What is lost by it.
    pub loses: Vec<Loss>,
}

/// What a point loses.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Loss {
    /// The point.
    pub point: RecoveryPointId,
    /// Of which volume.
    pub volume: VolumeName,
    /// Which bytes of the volume, neighbours joined.
    pub ranges: Vec<ByteRange>,
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.object, self.what)
    }
}

/// How much there is of what.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Default)]
pub struct Stats {
    /// Current points.
    pub points: u64,
    /// Volumes with points.
    pub volumes: u64,
    /// What the newest points of all volumes would restore to, in bytes.
    pub volume_bytes: u64,
    /// Chunks of the newest points that were stored as deltas: as the few blocks in which they differ from another chunk.
    pub deltas: u64,
    /// The bytes of those blocks.
    pub delta_bytes: u64,
    /// Data packs.
    pub data_packs: u64,
    /// Bytes in data packs.
    pub data_bytes: u64,
    /// Map packs.
    pub map_packs: u64,
    /// Bytes in map packs.
    pub map_bytes: u64,
    /// Bundles of databases' logs.
    pub log_bundles: u64,
    /// Bytes in bundles of logs.
    pub log_bytes: u64,
    /// Journal records.
    pub records: u64,
    /// Open sessions.
    pub open_sessions: u64,
}

/// What a rebuild of the index did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Default)]
pub struct RebuildReport {
    /// Packs whose footers were read.
    pub packs: u64,
    /// Entries found.
    pub entries: u64,
    /// Packs whose footers could not be read.
    pub unreadable: u64,
}

/// What an audit saw.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Default)]
pub struct AuditReport {
    /// Records read.
    pub records: u64,
    /// Checkpoints compared.
    pub checkpoints: u64,
    /// Checkpoints that do not say what the journal says.
    pub wrong_checkpoints: Vec<u64>,
    /// The newest checkpoint that does; 0 for none.
    pub newest_checkpoint: u64,
    /// The hash of the last record, in hexadecimal.
    pub hash: String,
}

/// What the steps of a check gather: damage by object.
#[derive(Debug, Default)]
struct Findings {
    damages: BTreeMap<String, Damage>,
}

impl Findings {
    /// Notes damage; of one object the first that was seen is told.
    fn add(&mut self, object: &str, what: String) -> &mut Damage {
        let new = || Damage { object: object.to_owned(), what, loses: Vec::new() };
        self.damages.entry(object.to_owned()).or_insert_with(new)
    }
}

/// What belongs in a copy of some points: all maps, and the data that those need.
fn belonging(fold: &Fold, needs: &Needs) -> BTreeSet<PackId> {
    let maps =
        fold.packs.iter().filter(|(_, state)| state.place.kind == PackKind::Map).map(|(pack, _)| *pack);
    maps.chain(needs.packs.iter().copied()).chain(needs.entries.packs()).collect()
}

impl Repository {
    /// [`Self::check_with`] all structure, and with `read_data` all data; notes nothing.
    ///
    /// # Errors
    /// Only when the journal cannot be read.
    pub async fn check(&self, read_data: bool, progress: Progress<'_>) -> Result<CheckReport, JournalError> {
        let read = if read_data { ReadData::All } else { ReadData::Nothing };
        self.check_with(&CheckOptions { read, ..CheckOptions::default() }, progress).await
    }

    /// Checks that everything that current points need is there, and that every byte that is read is what was stored; where
    /// all is read, then also old journal records, checkpoints and index runs. Damage is in the report, not an error.
    /// `progress` counts packs, or where data is read their bytes.
    ///
    /// # Errors
    /// Only when the journal cannot be read.
    pub async fn check_with(
        &self,
        options: &CheckOptions,
        progress: Progress<'_>,
    ) -> Result<CheckReport, JournalError> {
        self.check_points(options, None, progress).await
    }

    /// [`Self::check_with`] in a copy that has the points of some volumes only: the others, and packs that only they need, are
    /// not looked for.
    ///
    /// # Errors
    /// Only when the journal cannot be read.
    pub async fn check_chosen(
        &self,
        options: &CheckOptions,
        takes: &(dyn Fn(&Point) -> bool + Send + Sync),
        progress: Progress<'_>,
    ) -> Result<CheckReport, JournalError> {
        let is_chosen = self.inner.head.copy.as_ref().is_some_and(|mark| mark.chosen.is_some());
        // What is left out shows only by what points need.
        let options = CheckOptions { structure: options.structure || is_chosen, ..*options };
        self.check_points(&options, is_chosen.then_some(takes), progress).await
    }

    async fn check_points(
        &self,
        options: &CheckOptions,
        takes: Option<&(dyn Fn(&Point) -> bool + Send + Sync)>,
        progress: Progress<'_>,
    ) -> Result<CheckReport, JournalError> {
        let mut fold = self.fold().await?;
        self.journal().confirm_end().await?;
        if let Some(takes) = takes {
            let fold = Arc::make_mut(&mut fold);
            fold.points.retain(|id, point| {
                let goes = takes(point);
                if !goes {
                    fold.sealed.remove(id);
                }
                goes
            });
        }
        let mut findings = Findings::default();
        if self.domain() == 0
            && self.grants() == Grants::Everything
            && let Err(error) = self.learn_domains().await
        {
            findings.add("keys/", strongroom_model::chain(&error));
        }
        let needs =
            if options.structure { self.gather_needs(&fold, &mut findings).await } else { Needs::default() };
        let only = takes.map(|_| belonging(&fold, &needs));
        let mut notes = Notes::new(options);
        let mut examined =
            self.examine_packs(&needs, only.as_ref(), options, progress, &mut findings, &mut notes).await?;
        let orphans = self.survey_objects(options, only.as_ref(), &mut findings, &mut examined).await;
        self.examine_bundles(&fold, takes.is_some(), options, &mut findings, &mut notes).await;
        self.find_losses(&needs, &examined, &mut findings).await?;
        self.check_keys(&fold, &mut findings).await;
        if options.read == ReadData::All && options.structure {
            self.check_journal(&fold, &mut findings).await?;
            self.check_index_runs(&mut findings).await;
        }
        let holds = self.left_holds().await;
        let mut damages: Vec<Damage> = findings.damages.into_values().collect();
        damages.sort_by_key(|damage| (std::cmp::Reverse(damage.lost_bytes()), damage.object.clone()));
        Ok(CheckReport {
            points: self.checkable(&fold).count() as u64,
            packs: examined.packs,
            read_packs: examined.read_packs,
            read_bytes: examined.read_bytes,
            proof: Proof::of(&self.known_fold()),
            orphans,
            holds,
            not_noted: notes.trouble,
            damages,
        })
    }

    /// How much there is of what. Reads the maps of the newest points; of one that cannot be read the deltas do not count.
    ///
    /// # Errors
    /// When the journal cannot be read.
    pub async fn stats(&self) -> Result<Stats, JournalError> {
        let fold = self.fold().await?;
        let volumes = fold.volumes();
        let points: Vec<&Point> = volumes.iter().filter_map(|volume| fold.points_of(volume).pop()).collect();
        let newest = points.iter().map(|point| point.info.volume_bytes);
        let mut stats = Stats {
            points: fold.points.len() as u64,
            volumes: volumes.len() as u64,
            volume_bytes: newest.sum(),
            records: fold.number,
            open_sessions: fold.sessions.len() as u64,
            ..Stats::default()
        };
        let own = self.own_packs(&points).await;
        for (_, pack) in fold.packs.iter().filter(|(id, _)| own.as_ref().is_none_or(|own| own.contains(*id)))
        {
            let (packs, bytes) = match pack.place.kind {
                PackKind::Data => (&mut stats.data_packs, &mut stats.data_bytes),
                PackKind::Map => (&mut stats.map_packs, &mut stats.map_bytes),
                PackKind::Log => (&mut stats.log_bundles, &mut stats.log_bytes),
            };
            *packs += 1;
            *bytes += pack.place.bytes;
        }
        for bundle in fold.bundles() {
            stats.log_bundles += 1;
            stats.log_bytes += bundle.bytes;
        }
        for point in points {
            if let Err(error) = self.count_deltas(point, &mut stats).await {
                let cause = strongroom_model::chain(&error);
                tracing::warn!(point = %point.id, cause, "the map of a point cannot be read; run `strongroom repository check`");
            }
        }
        Ok(stats)
    }

    /// Of a domain, the packs that the newest points need: how much others have is not said. `None`: all there are.
    async fn own_packs(&self, points: &[&Point]) -> Option<BTreeSet<PackId>> {
        if self.domain() == 0 {
            return None;
        }
        let mut own = BTreeSet::new();
        for point in points {
            if let Ok(map) = self.map(point).await {
                own.extend(map.head().packs());
            }
        }
        Some(own)
    }

    async fn count_deltas(&self, point: &Point, stats: &mut Stats) -> Result<(), MapError> {
        let map = self.map(point).await?;
        let chunks = map.head().chunks();
        let mut at = 0;
        while at < chunks {
            let window = at..chunks.min(at + WINDOW);
            at = window.end;
            for delta in map.deltas(window).await? {
                stats.deltas += 1;
                stats.delta_bytes += u64::from(delta.of.blocks.count()) * u64::from(BLOCK_BYTES);
            }
        }
        Ok(())
    }
}

impl Damage {
    fn lost_bytes(&self) -> u64 {
        self.loses.iter().flat_map(|loss| &loss.ranges).map(ByteRange::len).sum()
    }
}
