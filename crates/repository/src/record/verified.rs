//! What a check with `--read-data` leaves in the journal: which objects were read whole, and what was seen of them.
//!
//! It names objects and not packs: what was seen of an object says nothing of the one that a sweep puts in its place.
//! The moment is that of the record.

use std::collections::{BTreeMap, BTreeSet};

use minicbor::Decoder;

use crate::cbor::{Cbor, CborError, Enc, cbor_map, sure};
use crate::entry_runs::EntryRuns;
use crate::layout::PackObject;

/// Packs were read whole, and what was seen.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Verified {
    /// Objects whose every byte is what was written.
    pub whole: Objects,
    /// Objects that are not, and which of their entries cannot be had.
    pub damaged: BTreeMap<PackObject, EntryRuns>,
}
cbor_map!(Verified { 0 => whole, 1 => damaged });

impl Verified {
    /// How many objects it names.
    #[must_use]
    pub fn len(&self) -> usize {
        self.whole.0.len() + self.damaged.len()
    }

    /// Whether it names none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Objects, as one byte string of 24 bytes each (pack id 16, suffix 8), ascending, none twice: a record is a third of what an
/// array of byte strings would be read as, and is copied as a block.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Objects(pub BTreeSet<PackObject>);

const ROW: usize = 24;

impl Cbor for Objects {
    fn put(&self, e: &mut Enc) {
        let rows: Vec<u8> = self
            .0
            .iter()
            .flat_map(|object| object.pack.bytes().iter().chain(&object.suffix))
            .copied()
            .collect();
        sure(e.bytes(&rows));
    }

    fn take(d: &mut Decoder<'_>) -> Result<Self, CborError> {
        let (rows, rest) = d.bytes()?.as_chunks::<ROW>();
        let objects: BTreeSet<PackObject> = rows.iter().map(object).collect();
        // What is not in order or is there twice comes out in another form, and is refused for that.
        if rest.is_empty() {
            Ok(Self(objects))
        } else {
            Err(CborError::Value("a list of objects ends within one".into()))
        }
    }
}

fn object(row: &[u8; ROW]) -> PackObject {
    let (pack, suffix) = row.split_at(16);
    let cut = "a row was cut to 16 and 8 bytes";
    PackObject {
        pack: strongroom_model::PackId::from_bytes(pack.try_into().expect(cut)),
        suffix: suffix.try_into().expect(cut),
    }
}
