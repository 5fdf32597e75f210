//! Damaged or missing packs that a copy has whole: they are put back under their names.
//!
//! Names of pack objects are used once and objects never change, so the bytes of a copy are the right ones. That they are is
//! proved before anything is written: every entry of the copy's object is opened with the repository's keys and compared with
//! its id, and on the way over all bytes are compared with the hash at their end. What lay there is damaged, so nothing is
//! lost by replacing it.
//!
//! A sweep may free the pack in the same moment. Then what is put back is an object that no pack's current place is, and goes
//! with the leftovers of a later sweep.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Serialize;
use strongroom_model::chain;

use super::data::{Budget, read_whole};
use super::{Damage, Progress};
use crate::errors::JournalError;
use crate::layout::{ObjectKind, ObjectName};
use crate::pack::{PackContext, PackPlace, TransferError, transfer};
use crate::record::{Event, Verified};
use crate::repository::Repository;
use crate::store::ObjectStore;

/// Packs that are noted together: one record, of far fewer than it may name.
const BATCH: usize = 256;

/// A pack that can be had from a copy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PutBack {
    /// Which object.
    pub object: String,
    /// What is wrong with the one that is here.
    pub what: String,
    /// The copy that has it whole.
    pub from: String,
    /// Its bytes.
    pub bytes: u64,
    #[serde(skip)]
    place: PackPlace,
}

/// What became of them.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    pub(super) done: u64,
    pub(super) failed: BTreeMap<String, String>,
}

impl Repository {
    /// Of what is damaged, what a copy has whole.
    pub(super) async fn whole_elsewhere(
        &self,
        damages: &[Damage],
        copies: &[Arc<dyn ObjectStore>],
        progress: Progress<'_>,
    ) -> Vec<PutBack> {
        if copies.is_empty() {
            return Vec::new();
        }
        let fold = self.known_fold();
        let budget = Budget::new();
        let mut found = Vec::new();
        let packs: Vec<(&Damage, PackPlace)> = damages
            .iter()
            .filter_map(|damage| {
                let (_, ObjectKind::Pack(_, object)) = ObjectName::parse(&damage.object)? else {
                    return None;
                };
                let place = fold.packs.get(&object.pack)?.place;
                (place.object == object).then_some((damage, place))
            })
            .collect();
        let total = packs.len() as u64;
        for (done, (damage, place)) in packs.into_iter().enumerate() {
            progress(done as u64, total);
            // What is whole here cannot be mended by the same bytes.
            if self.is_whole_at(self.store(), place, &budget).await {
                continue;
            }
            for copy in copies {
                if self.is_whole_at(copy, place, &budget).await {
                    let (object, what) = (damage.object.clone(), damage.what.clone());
                    found.push(PutBack { object, what, from: copy.location(), bytes: place.bytes, place });
                    break;
                }
            }
        }
        found
    }

    async fn is_whole_at(&self, store: &Arc<dyn ObjectStore>, place: PackPlace, budget: &Budget) -> bool {
        let own = &self.inner.context;
        let context = PackContext {
            store: Arc::clone(store),
            keyring: Arc::clone(&own.keyring),
            repository: own.repository,
            entropy: Arc::clone(&own.entropy),
        };
        let (footer, seen) = read_whole(&context, place, budget).await;
        footer.is_some() && seen.what.is_none() && !seen.is_unclear
    }

    /// Puts them back, and notes in the journal that they are whole again.
    pub(super) async fn put_back(
        &self,
        packs: &[PutBack],
        copies: &[Arc<dyn ObjectStore>],
        progress: Progress<'_>,
    ) -> Result<Outcome, JournalError> {
        let budget = Budget::new();
        let (mut outcome, mut whole) = (Outcome::default(), Verified::default());
        let total = packs.iter().map(|pack| pack.bytes).sum();
        let mut done = 0;
        for pack in packs {
            let brought = match copies.iter().find(|copy| copy.location() == pack.from) {
                None => Err(format!("{} was not opened", pack.from)),
                Some(copy) => match transfer(&**copy, &**self.store(), pack.place).await {
                    Err(TransferError::Source(error)) => Err(chain(&error)),
                    Err(TransferError::Target(error)) => Err(chain(&error)),
                    Ok(()) if self.is_whole_at(self.store(), pack.place, &budget).await => Ok(()),
                    Ok(()) => Err("it was put back, and is damaged again".to_owned()),
                },
            };
            match brought {
                Ok(()) => {
                    whole.whole.0.insert(pack.place.object);
                    outcome.done += 1;
                    if whole.len() >= BATCH {
                        self.journal().say(Event::Verified(std::mem::take(&mut whole))).await?;
                    }
                }
                Err(why) => drop(outcome.failed.insert(pack.object.clone(), why)),
            }
            done += pack.bytes;
            progress(done, total);
        }
        if !whole.is_empty() {
            self.journal().say(Event::Verified(whole)).await?;
        }
        Ok(outcome)
    }
}
