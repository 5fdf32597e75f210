//! What checks saw of the packs: when each was last read whole, and which entries cannot be had.
//!
//! No safety of writers or sweepers rests on it. It tells a check where to begin, people how old the oldest proof is, and
//! dedup what not to refer to. A pack that is rewritten, swept or new counts as never verified.
//!
//! Stored as rows of 24 bytes in one byte string, ascending: pack id 16, seconds since 1970 u64 little-endian.

use std::collections::BTreeMap;

use jiff::Timestamp;
use minicbor::Decoder;
use strongroom_model::PackId;

use super::PackState;
use crate::cbor::{Cbor, CborError, Enc, sure};
use crate::entry_runs::EntryRuns;
use crate::layout::PackObject;
use crate::pack::EntryRef;
use crate::record::Verified;

/// What checks saw of the packs. 24 bytes a pack that was verified.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct VerifiedPacks {
    /// When each was last read whole, in seconds since 1970, by the checker's clock.
    pub(super) at: Moments,
    /// What of them cannot be had; never empty.
    pub(super) damaged: BTreeMap<PackId, EntryRuns>,
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Moments(BTreeMap<PackId, u64>);

impl VerifiedPacks {
    /// When a pack was last read whole, whatever was seen; `None`: never, in its current object.
    #[must_use]
    pub fn at(&self, pack: &PackId) -> Option<Timestamp> {
        let seconds = i64::try_from(*self.at.0.get(pack)?).ok()?;
        Timestamp::from_second(seconds).ok()
    }

    /// Whether an entry is known to be damaged.
    #[must_use]
    pub fn is_damaged(&self, at: EntryRef) -> bool {
        self.damaged.get(&at.pack).is_some_and(|entries| entries.contains(at.entry))
    }

    /// What is known to be damaged, by pack.
    #[must_use]
    pub const fn damaged(&self) -> &BTreeMap<PackId, EntryRuns> {
        &self.damaged
    }

    /// Objects that are no longer the current ones of their packs say nothing.
    pub(super) fn enact(&mut self, seen: &Verified, time: Timestamp, packs: &BTreeMap<PackId, PackState>) {
        let seconds = u64::try_from(time.as_second()).unwrap_or(0);
        let is_current =
            |object: &PackObject| packs.get(&object.pack).is_some_and(|state| state.place.object == *object);
        for object in seen.whole.0.iter().filter(|object| is_current(object)) {
            self.at.0.insert(object.pack, seconds);
            self.damaged.remove(&object.pack);
        }
        for (object, entries) in seen.damaged.iter().filter(|(object, _)| is_current(object)) {
            self.at.0.insert(object.pack, seconds);
            if entries.is_empty() {
                self.damaged.remove(&object.pack);
            } else {
                self.damaged.insert(object.pack, entries.clone());
            }
        }
    }

    pub(super) fn forget(&mut self, pack: &PackId) {
        self.at.0.remove(pack);
        self.damaged.remove(pack);
    }

    /// Whether every pack that it speaks of exists.
    pub(super) fn fits(&self, packs: &BTreeMap<PackId, PackState>) -> bool {
        self.at.0.keys().chain(self.damaged.keys()).all(|pack| packs.contains_key(pack))
    }
}

const ROW: usize = 24;

impl Cbor for Moments {
    fn put(&self, e: &mut Enc) {
        let row = |(pack, seconds): (&PackId, &u64)| [&pack.bytes()[..], &seconds.to_le_bytes()].concat();
        sure(e.bytes(&self.0.iter().flat_map(row).collect::<Vec<u8>>()));
    }

    fn take(d: &mut Decoder<'_>) -> Result<Self, CborError> {
        let (rows, rest) = d.bytes()?.as_chunks::<ROW>();
        let cut = "a row was cut to 16 and 8 bytes";
        let row = |row: &[u8; ROW]| {
            let (pack, seconds) = row.split_at(16);
            (
                PackId::from_bytes(pack.try_into().expect(cut)),
                u64::from_le_bytes(seconds.try_into().expect(cut)),
            )
        };
        // What is not in order or is there twice comes out in another form, and is refused for that.
        if rest.is_empty() {
            Ok(Self(rows.iter().map(row).collect()))
        } else {
            Err(CborError::Value("the table of verified packs ends within a row".into()))
        }
    }

    fn absent() -> Option<Self> {
        Some(Self::default())
    }

    fn is_absent(&self) -> bool {
        self.0.is_empty()
    }
}
