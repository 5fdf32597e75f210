//! Second copies of the repository: bringing them up to date, and how far behind they are.
//!
//! How far a copy goes is read from the copy itself, never remembered: a copying that hangs shows by points that stay missing.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;
use strongroom_model::{Failure, Remedy, World, chain};
use strongroom_object_store::{PlaceError, probe};
use strongroom_repository::copy::{Chosen, CopyError, CopyReport, CopyState, copy_state};
use strongroom_repository::store::{ObjectStore, StoreError};
use strongroom_repository::{Fold, Point, Repository};
use strongroom_settings::RepositorySettings;

use crate::policy::Policies;
use crate::status::{Health, locks};

/// A second copy, as the configuration names it.
#[derive(Debug, Clone)]
pub struct Copy {
    /// What people call it.
    pub name: String,
    /// Where it lies.
    pub store: Arc<dyn ObjectStore>,
    /// How long a point may be missing in it.
    pub max_lag: Duration,
    /// Which points go there; `None`: all.
    pub policies: Option<Arc<Policies>>,
}

/// Why a copy is not brought up to date.
#[derive(Debug, thiserror::Error)]
pub enum CopyingError {
    /// The copying failed.
    #[error(transparent)]
    Copy(#[from] CopyError),
    /// The place makes no sense, or cannot be made.
    #[error(transparent)]
    Place(#[from] PlaceError),
    /// The store of a first copy could not be tried.
    #[error("trying the store of the copy at {location}")]
    Probe {
        /// Where.
        location: String,
        /// Why not.
        #[source]
        cause: StoreError,
    },
}

impl CopyingError {
    fn cause(&self) -> &dyn Failure {
        match self {
            Self::Copy(cause) => cause,
            Self::Place(cause) => cause,
            Self::Probe { cause, .. } => cause,
        }
    }
}

impl Failure for CopyingError {
    fn code(&self) -> &'static str {
        self.cause().code()
    }

    fn remedy(&self) -> Remedy {
        self.cause().remedy()
    }

    fn advice(&self) -> String {
        match self {
            Self::Probe { cause: StoreError::NoSuchPlace { .. }, .. } => {
                "Mount the disk or make the bucket; a folder is made by the first `strongroom repository copy`.".to_owned()
            }
            _ => self.cause().advice(),
        }
    }
}

/// How a copy is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CopyStatus {
    /// What people call it.
    pub copy: String,
    /// Where it lies.
    pub location: String,
    /// Healthy, or at risk.
    pub health: Health,
    /// The journal record up to which it is whole; null: there is none, or it cannot be read.
    pub until: Option<u64>,
    /// When it was last brought up to date.
    pub copied_at: Option<Timestamp>,
    /// Points that it lacks; null: unknown.
    pub points_behind: Option<usize>,
    /// How long the oldest of them has been missing; 0 when none is.
    pub behind_seconds: Option<u64>,
    /// How long that may be.
    pub max_lag_seconds: u64,
    /// Packs that could not be copied, since they are damaged in the repository.
    pub lacks: usize,
    /// What is wrong, one sentence each.
    pub problems: Vec<String>,
}

impl Copy {
    /// The copies that the settings name, with the policies that say what goes there.
    ///
    /// # Errors
    /// When a URL makes no sense.
    pub async fn all(
        settings: &RepositorySettings,
        policies: Option<&Arc<Policies>>,
        world: &World,
    ) -> Result<Vec<Self>, PlaceError> {
        let mut all = Vec::new();
        for copy in &settings.copies {
            let store = settings.of_copy(copy).open_counted(world).await?.store;
            let policies = policies.cloned();
            all.push(Self { name: copy.name.clone(), store, max_lag: copy.max_lag.get(), policies });
        }
        Ok(all)
    }

    /// Whether a point goes there.
    #[must_use]
    pub fn takes(&self, point: &Point) -> bool {
        let goes = |policies: &Arc<Policies>| {
            policies.goes_to(&self.name, point.volume.as_str(), &point.info.labels)
        };
        self.policies.as_ref().is_none_or(goes)
    }

    /// Brings it up to date, or begins it: then its store is tried first.
    ///
    /// # Errors
    /// When a store fails or the place is no copy of this repository. What was copied stays.
    pub async fn bring_up_to_date(
        &self,
        repository: &Repository,
        world: &World,
        progress: &(dyn Fn(u64, u64) + Send + Sync),
    ) -> Result<CopyReport, CopyingError> {
        let abilities = match copy_state(&*self.store).await {
            Ok(CopyState::Nothing) => {
                let location = self.store.location();
                let tried = probe::probe(&*self.store, world).await;
                Some(tried.map_err(|cause| CopyingError::Probe { location, cause })?)
            }
            Ok(_) => None,
            Err(error) => return Err(error.into()),
        };
        let takes = |point: &Point| self.takes(point);
        let rule = self.policies.as_ref().and_then(|policies| policies.rule_of(&self.name));
        let chosen = rule.map(|rule| Chosen { takes: &takes, rule });
        Ok(repository.copy_to(&self.store, abilities, chosen.as_ref(), progress).await?)
    }

    /// How it is: asks the copy, and compares with what the repository holds.
    pub async fn status(&self, repository: &Repository, fold: &Fold, now: Timestamp) -> CopyStatus {
        let state = copy_state(&*self.store).await.map_err(|error| chain(&error));
        let state = state.and_then(|state| match state {
            CopyState::Copy(head, _) if head.repository != repository.id() => {
                Err("it is a copy of another repository".to_owned())
            }
            CopyState::Copy(_, mark) => Ok(Some((mark.until, mark.copied_at, mark.lacks.len()))),
            CopyState::Nothing => Ok(None),
            CopyState::Promoted(_) => Err("it was promoted: it is a repository of its own now".to_owned()),
            CopyState::Own(_) => Err("a repository lies there that is no copy".to_owned()),
        });
        let mut status = self.assess(fold, state, now);
        // A copy that does not answer has said so.
        if status.until.is_some() {
            let problem = match repository.lock_state(&self.store).await {
                Ok(state) => state.as_ref().and_then(locks),
                Err(error) => Some(chain(&error)),
            };
            if let Some(problem) = problem {
                status.health = Health::AtRisk;
                status.problems.push(problem);
            }
        }
        status
    }

    /// The verdict: pure.
    fn assess(&self, fold: &Fold, state: Result<Option<Whole>, String>, now: Timestamp) -> CopyStatus {
        let mut status = CopyStatus {
            copy: self.name.clone(),
            location: self.store.location(),
            health: Health::Healthy,
            until: None,
            copied_at: None,
            points_behind: None,
            behind_seconds: None,
            max_lag_seconds: self.max_lag.as_secs(),
            lacks: 0,
            problems: Vec::new(),
        };
        let until = match state {
            Ok(Some((until, copied_at, lacks))) => {
                (status.until, status.copied_at, status.lacks) = (Some(until), Some(copied_at), lacks);
                until
            }
            Ok(None) => 0,
            Err(problem) => {
                status.health = Health::AtRisk;
                status.problems.push(problem);
                return status;
            }
        };
        let (points, seconds) = behind(fold, until, now);
        (status.points_behind, status.behind_seconds) = (Some(points), Some(seconds));
        if status.lacks > 0 {
            status.problems.push(format!(
                "{} packs are damaged or missing in the repository, and so in the copy",
                status.lacks
            ));
        }
        if seconds > status.max_lag_seconds {
            status.problems.push(match status.until {
                Some(_) => "it has fallen behind: the copying stalls".to_owned(),
                None => "it was never copied to".to_owned(),
            });
        }
        if !status.problems.is_empty() {
            status.health = Health::AtRisk;
        }
        status
    }
}

/// Up to which record, since when, and how many packs it lacks.
type Whole = (u64, Timestamp, usize);

/// How many points a copy lacks that goes up to a record, and for how many seconds the oldest of them.
#[must_use]
pub fn behind(fold: &Fold, until: u64, now: Timestamp) -> (usize, u64) {
    let missing = fold.points.values().filter(|point| point.number > until);
    let oldest = missing.clone().map(|point| point.info.published_at).min();
    let seconds = oldest.map_or(0, |at| now.duration_since(at).as_secs());
    (missing.count(), u64::try_from(seconds).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use strongroom_model::{PackId, RecoveryPointId};
    use strongroom_object_store::memory::MemoryStore;
    use strongroom_repository::map::MapRoot;
    use strongroom_repository::pack::EntryRef;

    use super::*;
    use crate::testing::info;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn fold_of(points: &[(u64, &str)]) -> Fold {
        let mut fold = Fold::default();
        for (number, published_at) in points {
            let mut id = [0; 16];
            id[..8].copy_from_slice(&number.to_be_bytes());
            let id = RecoveryPointId::from_bytes(id);
            let mut info = info(1);
            info.published_at = at(published_at);
            let map = MapRoot { at: EntryRef { pack: PackId::from_bytes([0; 16]), entry: 0 } };
            let volume = "v".parse().unwrap();
            let point = Point { id, volume, map, parent: None, number: *number, held: [].into(), info };
            fold.points.insert(id, point);
        }
        fold
    }

    fn copy() -> Copy {
        let store = Arc::new(MemoryStore::default());
        Copy { name: "offsite".into(), store, max_lag: Duration::from_secs(6 * 3600), policies: None }
    }

    #[test]
    fn a_copy_is_red_when_a_point_is_missing_for_too_long_and_not_when_nothing_is_new() {
        let fold = fold_of(&[
            (5, "2026-11-01T00:00:00Z"),
            (9, "2026-11-20T00:00:00Z"),
            (12, "2026-11-20T05:00:00Z"),
        ]);
        let whole = |until| Ok(Some((until, at("2026-11-02T00:00:00Z"), 0)));
        let old = copy().assess(&fold, whole(14), at("2026-12-20T00:00:00Z"));
        assert_eq!((old.health, old.points_behind), (Health::Healthy, Some(0)), "old, and nothing was new");
        let late = copy().assess(&fold, whole(6), at("2026-11-20T05:30:00Z"));
        assert_eq!((late.health, late.points_behind), (Health::Healthy, Some(2)));
        assert_eq!(late.behind_seconds, Some(5 * 3600 + 1800));
        let stalled = copy().assess(&fold, whole(6), at("2026-11-20T06:00:01Z"));
        assert_eq!((stalled.health, stalled.problems.len()), (Health::AtRisk, 1));
        let never = copy().assess(&fold, Ok(None), at("2026-11-20T06:00:01Z"));
        assert_eq!((never.health, never.points_behind, never.until), (Health::AtRisk, Some(3), None));
        let silent = copy().assess(&fold, Err("no answer".into()), at("2026-11-20T00:00:01Z"));
        assert_eq!((silent.health, silent.points_behind), (Health::AtRisk, None), "silence is a failure");
    }
}
