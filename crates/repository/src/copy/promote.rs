//! Making a copy a repository of its own, for when the first one is lost.
//!
//! `promoted.json` is created once and is never taken back; whoever still copies sees it and stops. Before it is there the
//! journal is put in order: writers of the lost repository are shut out, and where records had arrived beyond what the head
//! names, points whose packs did not arrive are forgotten, and packs that are not there are planned to go, so that no
//! new backup refers to them.

use std::collections::BTreeSet;
use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use strongroom_model::{PackId, RecoveryPointId, RepositoryId, World};

use super::CopyError;
use super::run::{CopyState, copy_state, listed_packs};
use crate::errors::{OpenError, SweepError};
use crate::fold::Fold;
use crate::head::{CopyMark, HeadError};
use crate::keys::Unlock;
use crate::layout::ObjectName;
use crate::map::MapRoot;
use crate::record::{Event, Fenced, Placed};
use crate::repository::{OpenOptions, Repository, create_owned};
use crate::store::{ObjectStore, StoreError};
use crate::sweep::SweepOptions;

const MAGIC: &str = "strongroom promoted copy";

/// What is written down about points and sessions that end here.
const REASON: &str = "the copy was promoted";

/// `promoted.json`: created once, and then the place is no copy any more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Promoted {
    /// Says what it is.
    pub magic: String,
    /// The repository's id.
    pub repository: RepositoryId,
    /// The last record of the copy when it was promoted; what follows is a history of its own.
    pub until: u64,
    /// When, by the clock of who did it.
    pub promoted_at: Timestamp,
    /// By which agent.
    pub promoted_by: String,
    /// Random; tells this history from any other of the same repository.
    pub owner: String,
}

impl Promoted {
    fn encode(&self) -> Vec<u8> {
        let mut bytes = serde_json::to_vec_pretty(self).expect("it has only string keys");
        bytes.push(b'\n');
        bytes
    }

    /// Reads the stored form.
    ///
    /// # Errors
    /// When it is not ours.
    pub fn parse(bytes: &[u8]) -> Result<Self, HeadError> {
        let promoted: Self = serde_json::from_slice(bytes)
            .map_err(|error| HeadError::NotOurs(format!("promoted.json: {error}")))?;
        let is_owner = promoted.owner.len() == 32 && promoted.owner.bytes().all(|b| b.is_ascii_hexdigit());
        if promoted.magic == MAGIC && is_owner {
            Ok(promoted)
        } else {
            Err(HeadError::NotOurs("promoted.json is not ours".to_owned()))
        }
    }
}

/// What a promotion did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Default)]
pub struct PromoteReport {
    /// It was promoted before; nothing was done.
    pub was_promoted: bool,
    /// The record up to which the copy was whole.
    pub until: u64,
    /// Points that it holds.
    pub points: u64,
    /// Sessions of writers of the lost repository, shut out.
    pub fenced: BTreeSet<u64>,
    /// Points beyond `until` whose packs had not all arrived, and points that were not chosen for this copy: they are forgotten.
    pub forgotten: BTreeSet<RecoveryPointId>,
    /// Packs that the journal names and that never arrived.
    pub missing_packs: u64,
}

/// Why a copy was not promoted. Until the very end it stays the copy that it was.
#[derive(Debug, thiserror::Error)]
pub enum PromoteError {
    /// It cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// It is no copy, or its store fails.
    #[error(transparent)]
    Copy(#[from] CopyError),
    /// Its journal cannot be put in order.
    #[error(transparent)]
    Sweep(#[from] SweepError),
    /// Its store cannot do what writers need.
    #[error("the store at {location} cannot create objects only when they are absent")]
    NoWriters {
        /// Where.
        location: String,
    },
}

impl PromoteError {
    fn cause(&self) -> Option<&dyn strongroom_model::Failure> {
        match self {
            Self::Open(cause) => Some(cause),
            Self::Copy(cause) => Some(cause),
            Self::Sweep(cause) => Some(cause),
            Self::NoWriters { .. } => None,
        }
    }
}

impl strongroom_model::Failure for PromoteError {
    fn code(&self) -> &'static str {
        self.cause().map_or("copy.no-writers", strongroom_model::Failure::code)
    }

    fn remedy(&self) -> strongroom_model::Remedy {
        self.cause().map_or(strongroom_model::Remedy::FixSurroundings, strongroom_model::Failure::remedy)
    }

    fn advice(&self) -> String {
        self.cause().map_or_else(
            || "Restores work from it as it is. To back up again, copy it with `strongroom repository copy --to` into another store and promote that copy.".to_owned(),
            strongroom_model::Failure::advice,
        )
    }
}

impl Repository {
    /// Makes the copy in `store` a repository of its own. Nothing may copy into it at that time: that copying would stop with
    /// an error, harmlessly. Run again after an interruption, it goes on.
    ///
    /// # Errors
    /// When there is no copy, the key is wrong, the store cannot serve writers, or the store or the journal fails.
    pub async fn promote(
        store: Arc<dyn ObjectStore>,
        world: World,
        unlock: &Unlock,
        agent: &str,
    ) -> Result<PromoteReport, PromoteError> {
        let location = store.location();
        let mark = match copy_state(&*store).await? {
            CopyState::Copy(head, _) if !head.abilities.several_writers() => {
                return Err(PromoteError::NoWriters { location });
            }
            CopyState::Copy(_, mark) => Some(mark),
            CopyState::Promoted(_) => None,
            CopyState::Own(_) => return Err(CopyError::NotACopy { location }.into()),
            CopyState::Nothing => return Err(OpenError::NoRepository { location }.into()),
        };
        let options = OpenOptions { agent: agent.to_owned(), ..OpenOptions::default() };
        let Some(mark) = mark else {
            let opened = Self::open(store, world, unlock, options).await?;
            let fold = opened.known_fold();
            return Ok(PromoteReport {
                was_promoted: true,
                until: fold.number,
                points: fold.points.len() as u64,
                ..PromoteReport::default()
            });
        };
        let opened = Self::open_to_promote(store, world, unlock, options).await?;
        opened.promote_from(&mark).await
    }

    async fn promote_from(&self, mark: &CopyMark) -> Result<PromoteReport, PromoteError> {
        let mut report = PromoteReport { until: mark.until, ..PromoteReport::default() };
        let fold = self.fold().await.map_err(CopyError::from)?;
        for session in fold.sessions.keys() {
            let event = Event::Fenced(Fenced { session: *session, reason: REASON.to_owned() });
            let is_open = |fold: &Fold| fold.sessions.contains_key(session);
            let fenced = self.journal().append(|fold| is_open(fold).then(|| event.clone())).await;
            if fenced.map_err(CopyError::from)?.is_some() {
                report.fenced.insert(*session);
            }
        }
        if fold.number > mark.until || mark.chosen.is_some() {
            self.put_in_order(mark, &fold, &mut report).await?;
        }
        let fold = self.known_fold();
        report.points = fold.points.len() as u64;
        let mut owner = [0; 16];
        self.inner.world.entropy.fill(&mut owner);
        let promoted = Promoted {
            magic: MAGIC.to_owned(),
            repository: self.id(),
            until: fold.number,
            promoted_at: self.inner.world.clock.now(),
            promoted_by: self.journal().agent.clone(),
            owner: hex::encode(owner),
        };
        let name = ObjectName::promoted();
        match create_owned(&**self.store(), &name, promoted.encode().into()).await {
            // Somebody else promoted it in that moment: then it is done.
            Ok(()) | Err(StoreError::Exists { .. }) => {}
            Err(cause) => return Err(CopyError::Target { object: name.to_string(), cause }.into()),
        }
        if fold.plan.is_some() {
            self.sweep(&SweepOptions { max_rewrite_bytes: 0, ..SweepOptions::default() }).await?;
        }
        Ok(report)
    }

    /// Records had arrived that the head does not name: a copying was broken off between them. All packs of the moment to
    /// which it would have led are there, but not those that were swept in between. Or a rule chose what goes there: then
    /// points of which something is absent never were here.
    async fn put_in_order(
        &self,
        mark: &CopyMark,
        fold: &Fold,
        report: &mut PromoteReport,
    ) -> Result<(), PromoteError> {
        let there = listed_packs(&**self.store()).await?;
        let missing: BTreeSet<PackId> = fold
            .packs
            .iter()
            .filter(|(_, state)| !there.contains_key(&Placed::from(state.place)))
            // Damaged where it came from: that is a point's loss, not its absence.
            .filter(|(_, state)| !mark.lacks.contains(&state.place.name().to_string()))
            .map(|(pack, _)| *pack)
            .collect();
        report.missing_packs = missing.len() as u64;
        if missing.is_empty() {
            return Ok(());
        }
        self.learn_domains().await.map_err(SweepError::from)?;
        for (id, root) in fold.maps() {
            let is_newer = fold.map_of(&id).is_some_and(|(_, number)| number > mark.until);
            let is_doubtful = mark.chosen.is_some() || is_newer;
            if !is_doubtful || self.is_whole(id, root, &missing).await {
                continue;
            }
            // In a shared repository they are released as they stand in the journal.
            let held = fold.sealed.get(&id).map(|point| &point.held);
            for hold in held.or_else(|| fold.points.get(&id).map(|point| &point.held)).into_iter().flatten() {
                self.release(id, hold).await.map_err(CopyError::from)?;
            }
            self.forget(id, REASON).await.map_err(CopyError::from)?;
            report.forgotten.insert(id);
        }
        // A pack that the table names counts as stored: without this plan a later backup might refer to one that is not there.
        self.plan_what_is_not_needed().await?;
        Ok(())
    }

    async fn is_whole(&self, point: RecoveryPointId, root: MapRoot, missing: &BTreeSet<PackId>) -> bool {
        if missing.contains(&root.at.pack) {
            return false;
        }
        let Ok(map) = self.map_of(point, root).await else { return false };
        map.head().packs().iter().all(|pack| !missing.contains(pack))
    }
}
