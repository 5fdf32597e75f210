//! Points whose maps cannot be read: what they may need stays, and the sweep goes on with the rest.
//!
//! Where the root can be read, it names exactly the packs that the map needs: these stay whole. Where it cannot, the point
//! may need any pack that was in the table when it was published, its own new ones among them; a pack that a later record
//! published it cannot need. The journal says which these are. What is in no table (orphans), and objects that are no pack's
//! current one, are needed by no point at all.

use std::collections::{BTreeMap, BTreeSet};

use futures::{StreamExt, TryStreamExt};
use strongroom_model::{Failure, PackId, RecoveryPointId, Remedy, chain};

use crate::errors::{JournalError, SweepError};
use crate::map::{MapError, MapRoot};
use crate::record::Event;
use crate::repository::Repository;

/// How many records are fetched side by side.
const AT_ONCE: usize = 16;

/// When more records came since, no pack is known to be newer than the point: reading them costs more than a sweep may.
const MOST_RECORDS: u64 = 20_000;

/// What is known of points that cannot be read.
#[derive(Debug, Default)]
pub(super) struct Unreadable {
    points: BTreeMap<RecoveryPointId, String>,
    /// Packs that the roots of such points name.
    named: BTreeSet<PackId>,
    /// The newest such point without a root, and the packs that were published after it.
    without_root: Option<(u64, BTreeSet<PackId>)>,
}

/// Whether a map is damaged, rather than out of reach.
pub(super) fn is_damage(cause: &MapError) -> bool {
    matches!(cause, MapError::Malformed { .. }) || cause.remedy() == Remedy::FixData
}

impl Unreadable {
    /// Notes a point whose map cannot be read.
    pub(super) async fn add(
        &mut self,
        repository: &Repository,
        (point, map, number): (RecoveryPointId, MapRoot, u64),
        cause: &MapError,
    ) -> Result<(), SweepError> {
        self.points.insert(point, chain(cause));
        match repository.map_of(point, map).await {
            Ok(map) => self.named.extend(map.head().packs()),
            Err(cause) if is_damage(&cause) => {
                if self.without_root.as_ref().is_none_or(|(newest, _)| *newest < number) {
                    let newer = published_after(repository, number).await?;
                    self.without_root = Some((number, newer));
                }
            }
            Err(cause) => return Err(SweepError::Map { point, cause }),
        }
        Ok(())
    }

    /// Whether one of the points may need a pack that is in the table.
    pub(super) fn may_need(&self, pack: &PackId) -> bool {
        self.named.contains(pack)
            || self.without_root.as_ref().is_some_and(|(_, newer)| !newer.contains(pack))
    }

    /// The points, and why they cannot be read.
    pub(super) fn points(&self) -> BTreeMap<String, String> {
        self.points.iter().map(|(point, why)| (point.to_string(), why.clone())).collect()
    }
}

/// The packs that records after this number made known.
async fn published_after(repository: &Repository, number: u64) -> Result<BTreeSet<PackId>, JournalError> {
    let last = repository.known_fold().number;
    if last.saturating_sub(number) > MOST_RECORDS {
        return Ok(BTreeSet::new());
    }
    let fetch = |number| async move {
        match repository.journal().fetch(number).await? {
            Some((record, _)) => Ok(record.event),
            None => Err(JournalError::Hole { missing: number, later: last }),
        }
    };
    let mut events = futures::stream::iter(number + 1..=last).map(fetch).buffered(AT_ONCE);
    let mut packs = BTreeSet::new();
    while let Some(event) = events.try_next().await? {
        let new = match &event {
            Event::Published(published) => &published.packs,
            Event::PublishedInDomain(published) => &published.packs,
            _ => continue,
        };
        packs.extend(new.iter().map(|new| new.place.object.pack));
    }
    Ok(packs)
}
