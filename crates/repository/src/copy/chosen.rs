//! A copy that gets the points of some volumes only: which packs of data belong in it.
//!
//! Journal, keys and maps are copied whole; they are small, and without them nobody could tell what is missing. Of the packs of
//! data those go along that a chosen point needs, and of logs of databases those of which a chosen point is a base. Which these are is read from the roots of the points' maps, one small
//! read each, and while the rule stays the same only for points that are new. What is in a copy already stays there until
//! the repository frees it, also where the rule has become narrower.
//!
//! The rule itself names volumes, so the head, which anybody who holds the bucket can read, has only a keyed hash of it:
//! enough to see that it changed.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use strongroom_model::{Failure as _, PackId, Remedy, chain};

use super::CopyError;
use super::run::{Copying, at_target, listed_packs};
use crate::fold::Fold;
use crate::head::CopyMark;
use crate::keys::Keyring;
use crate::layout::PackKind;
use crate::pack::PackPlace;
use crate::point::Point;
use crate::record::Placed;
use crate::store::StoreError;

/// What the hash of a rule is derived for.
const CONTEXT: &str = "strongroom 2026 rule by which a copy gets points v1";

/// Which points a copy gets.
pub struct Chosen<'a> {
    /// Whether it gets this one. Must decide by volume and labels alone, which never change.
    pub takes: &'a (dyn Fn(&Point) -> bool + Send + Sync),
    /// The rule in words: other words, another rule.
    pub rule: String,
}

impl fmt::Debug for Chosen<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Chosen").field("rule", &self.rule).finish_non_exhaustive()
    }
}

impl Chosen<'_> {
    /// What the head says of the rule.
    pub(super) fn mark(&self, keyring: &Keyring) -> String {
        let mut hasher = blake3::Hasher::new_derive_key(CONTEXT);
        hasher.update(keyring.identity()).update(self.rule.as_bytes());
        hasher.finalize().to_hex()[..32].to_owned()
    }
}

/// The packs that belong in a copy and are not there.
pub(super) struct Wanted {
    pub(super) places: Vec<PackPlace>,
    pub(super) listed: BTreeMap<Placed, u64>,
    /// The map of a chosen point is damaged, so nobody knows what else it needs: the next run looks at all of them again.
    pub(super) is_unsure: bool,
}

impl Copying<'_> {
    /// What is to be brought where a rule chooses, or did until now. `None`: a sweep was faster.
    pub(super) async fn wanted_by_rule(
        &self,
        had: &Fold,
        goal: &Fold,
        before: Option<&CopyMark>,
    ) -> Result<Option<Wanted>, CopyError> {
        let listed = listed_packs(&**self.target).await?;
        let mut needed: BTreeSet<PackId> = BTreeSet::new();
        let mut is_unsure = false;
        if let Some(chosen) = self.chosen {
            self.source.learn_domains().await?;
            let same = before.is_some_and(|mark| mark.chosen.as_ref() == self.mark_of_rule().as_ref());
            for (id, root) in goal.maps() {
                let is_new = goal.map_of(&id).is_some_and(|(_, number)| number > had.number);
                // What this key cannot name no rule leaves out: the points of other domains go along.
                let goes = goal.points.get(&id).is_none_or(|point| (chosen.takes)(point));
                if !goes || (same && !is_new) {
                    continue;
                }
                match self.source.map_of(id, root).await {
                    Ok(map) => needed.extend(map.head().packs()),
                    Err(error) => {
                        if !self.source.fold().await?.is_current(&id) {
                            return Ok(None);
                        }
                        if error.remedy() != Remedy::FixData {
                            return Err(CopyError::Map { point: id, cause: error });
                        }
                        tracing::error!(point = %id, error = chain(&error), "the map of a point is damaged: its packs are not copied");
                        is_unsure = true;
                    }
                }
            }
        }
        let lacked: BTreeSet<&str> = before.iter().flat_map(|mark| &mark.lacks).map(String::as_str).collect();
        let mut places = Vec::new();
        for (pack, state) in &goal.packs {
            let place = state.place;
            if listed.get(&Placed::from(place)) == Some(&place.bytes) {
                continue;
            }
            let belongs = self.chosen.is_none()
                || place.kind == PackKind::Map
                || needed.contains(pack)
                || lacked.contains(place.name().as_str())
                || match had.packs.get(pack) {
                    // A sweep wrote it anew: it goes where it was.
                    Some(old) if old.place != place => self.is_there(old.place).await?,
                    _ => false,
                };
            if belongs {
                places.push(place);
            }
        }
        places.extend(self.wanted_bundles(goal, &listed));
        Ok(Some(Wanted { places, listed, is_unsure }))
    }

    /// The bundles that belong there and are not: those of every history of a database of which a chosen point is a base. A log
    /// without a base restores nothing; what was left out comes along with the first one.
    fn wanted_bundles(&self, goal: &Fold, listed: &BTreeMap<Placed, u64>) -> Vec<PackPlace> {
        let bases =
            goal.points.values().filter(|point| self.chosen.is_none_or(|chosen| (chosen.takes)(point)));
        let logs = bases.filter_map(|point| goal.logs.get(&point.info.database.as_ref()?.log));
        let databases: BTreeSet<&str> = logs.map(|log| log.opened.identity.as_str()).collect();
        let belongs = |place: &PackPlace| {
            self.chosen.is_none()
                || goal
                    .log_of(&Placed::from(*place))
                    .is_some_and(|log| databases.contains(&*log.opened.identity))
        };
        let is_there = |place: &PackPlace| listed.get(&Placed::from(*place)) == Some(&place.bytes);
        goal.bundles().filter(|place| !is_there(place)).filter(belongs).collect()
    }

    /// Asked, not looked up: a listing may leave something out.
    async fn is_there(&self, place: PackPlace) -> Result<bool, CopyError> {
        match self.target.head(&place.name()).await {
            Ok(info) => Ok(info.bytes == place.bytes),
            Err(StoreError::NotFound { .. }) => Ok(false),
            Err(cause) => Err(at_target(&place.name(), cause)),
        }
    }

    /// What the head is to say of the rule.
    pub(super) fn mark_of_rule(&self) -> Option<String> {
        self.chosen.map(|chosen| chosen.mark(&self.source.inner.context.keyring))
    }
}
