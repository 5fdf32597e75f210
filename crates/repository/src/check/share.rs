//! Which packs are read this time: those that were verified longest ago first, those that never were before all.
//!
//! Every pack of the table is meant, not only what points need: dedup may refer to any of them tomorrow.

use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;
use strongroom_model::PackId;

use crate::fold::Fold;

/// How much data a check reads.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub enum ReadData {
    /// None: structure only.
    #[default]
    Nothing,
    /// All.
    All,
    /// This part of all bytes, from 0 to 1. At least one pack, so that a small share comes round as well.
    Share(f64),
    /// About so many bytes; at least one pack.
    Bytes(u64),
    /// So many packs.
    Packs(u64),
    /// What can be read in this time. A pack that was begun is ended.
    For(Duration),
}

/// How far the data of the repository is proved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Default)]
pub struct Proof {
    /// The packs that exist.
    pub packs: u64,
    /// Their bytes.
    pub total_bytes: u64,
    /// Those of them that were never read whole in their current object.
    pub never_packs: u64,
    /// Their bytes.
    pub never_bytes: u64,
    /// When that one was read that was read longest ago, of those that ever were.
    pub oldest_at: Option<Timestamp>,
    /// Packs with entries that are known to be damaged.
    pub damaged_packs: u64,
}

impl Proof {
    /// How far a journal says that the data is proved.
    #[must_use]
    pub fn of(fold: &Fold) -> Self {
        let mut proof = Self { damaged_packs: fold.verified.damaged().len() as u64, ..Self::default() };
        for (pack, state) in &fold.packs {
            let bytes = state.place.bytes;
            proof.packs += 1;
            proof.total_bytes = proof.total_bytes.saturating_add(bytes);
            match fold.verified.at(pack) {
                Some(at) => proof.oldest_at = Some(proof.oldest_at.map_or(at, |oldest| oldest.min(at))),
                None => {
                    proof.never_packs += 1;
                    proof.never_bytes = proof.never_bytes.saturating_add(bytes);
                }
            }
        }
        proof
    }
}

/// The packs to read, in the order in which to read them.
pub(super) fn chosen(fold: &Fold, read: ReadData) -> Vec<PackId> {
    let mut packs: Vec<(Option<Timestamp>, PackId, u64)> =
        fold.packs.iter().map(|(pack, state)| (fold.verified.at(pack), *pack, state.place.bytes)).collect();
    // `None`, never, is before every moment.
    packs.sort_unstable();
    let total: u64 = packs.iter().map(|(.., bytes)| bytes).sum();
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a share of all bytes needs no exactness, and `as` saturates"
    )]
    let quota = match read {
        ReadData::Nothing | ReadData::Packs(0) => return Vec::new(),
        ReadData::All | ReadData::For(_) | ReadData::Packs(_) => u64::MAX,
        ReadData::Share(share) => (total as f64 * share.clamp(0.0, 1.0)).ceil() as u64,
        ReadData::Bytes(bytes) => bytes,
    };
    if let ReadData::Packs(count) = read {
        packs.truncate(usize::try_from(count).unwrap_or(usize::MAX));
    }
    let mut taken = 0_u64;
    packs
        .into_iter()
        .take_while(|(.., bytes)| {
            let is_within = taken < quota.max(1);
            taken = taken.saturating_add(*bytes);
            is_within
        })
        .map(|(_, pack, _)| pack)
        .collect()
}
