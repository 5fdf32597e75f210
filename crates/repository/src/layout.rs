//! Where everything lies: the only place that makes names of objects.
//!
//! ```text
//! strongroom.json                                  head
//! promoted.json                                    a copy that has become a repository of its own
//! keys/<slot>                                      key slots
//! journal/<20 digits>                              journal records
//! journal/checkpoints/<20 digits>                  the journal folded up to there
//! packs/<2 hex>/<32 hex>.<16 hex>                  data packs: <first byte of id>/<pack id>.<random suffix>
//! maps/<2 hex>/<32 hex>.<16 hex>                   map packs
//! index/<32 hex>                                   runs of the dedup index
//! logs/<2 hex>/<32 hex>.<16 hex>                   bundles of database logs: log id and number
//! sessions/<20 digits>                             signs of life of open sessions
//! probe/<32 hex>/<text>                            what the store can really do
//! ```
//!
//! Names are made of ids that we drew ourselves, never of anything a person typed, so no name can escape its folder.

use std::fmt;

use strongroom_model::{Entropy, LogId, PackId};

/// The name of an object below the repository's prefix: lower-case letters, digits, `.`, `-` and `/`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectName(String);

impl ObjectName {
    /// The name as the store sees it, below its prefix.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The plain head object.
    #[must_use]
    pub fn head() -> Self {
        Self("strongroom.json".into())
    }

    /// What makes a copy a repository of its own.
    #[must_use]
    pub fn promoted() -> Self {
        Self("promoted.json".into())
    }

    /// A key slot. `slot` is drawn at random when the slot is made.
    #[must_use]
    pub fn key_slot(slot: [u8; 8]) -> Self {
        Self(format!("keys/{}", hex::encode(slot)))
    }

    /// Journal record `number`, counted from 1.
    #[must_use]
    pub fn journal(number: u64) -> Self {
        Self(format!("journal/{number:020}"))
    }

    /// The checkpoint that folds records `1..=number`.
    #[must_use]
    pub fn checkpoint(number: u64) -> Self {
        Self(format!("journal/checkpoints/{number:020}"))
    }

    /// Where the bytes of a pack lie.
    #[must_use]
    pub fn pack(kind: PackKind, object: PackObject) -> Self {
        let id = object.pack.hex();
        Self(format!("{}/{}/{id}.{}", kind.folder(), &id[..2], hex::encode(object.suffix)))
    }

    /// One run of the dedup index.
    #[must_use]
    pub fn index_run(run: [u8; 16]) -> Self {
        Self(format!("index/{}", hex::encode(run)))
    }

    /// The sign of life of an open session.
    #[must_use]
    pub fn session(session: u64) -> Self {
        Self(format!("sessions/{session:020}"))
    }

    /// An object of a probe. `text` is ours and short.
    #[must_use]
    pub fn probe(probe: [u8; 16], text: &str) -> Self {
        Self(format!("probe/{}/{text}", hex::encode(probe)))
    }

    /// A name in the store of another program, for reading what it left there: one to three steps of our letters.
    #[must_use]
    pub fn foreign(name: &str) -> Option<Self> {
        let letter = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'z' | b'.' | b'-');
        let step = |step: &str| !step.is_empty() && !step.starts_with('.') && step.bytes().all(letter);
        (name.len() <= 128 && name.split('/').count() <= 3 && name.split('/').all(step))
            .then(|| Self(name.to_owned()))
    }

    /// What a listed name is, where it is one of ours.
    #[must_use]
    pub fn parse(name: &str) -> Option<(Self, ObjectKind)> {
        let kind = ObjectKind::parse(name)?;
        Some((Self(name.to_owned()), kind))
    }
}

impl fmt::Display for ObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for ObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Data and map packs are never mixed: what describes volumes is small and wants to stay quick to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PackKind {
    /// Chunks of volumes.
    Data,
    /// Nodes and roots of maps.
    Map,
    /// A bundle of a database's log. It is no pack of the pack table: journal records of its log name it.
    Log,
}

impl PackKind {
    /// The folder of packs of this kind.
    #[must_use]
    pub const fn folder(self) -> &'static str {
        match self {
            Self::Data => "packs",
            Self::Map => "maps",
            Self::Log => "logs",
        }
    }
}

/// One object that holds a pack's bytes. Every upload attempt that could differ in bytes has a suffix of its own, so no
/// late PUT overwrites and no late DELETE hits anything that lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PackObject {
    /// The logical pack.
    pub pack: PackId,
    /// What makes this object's name its own.
    pub suffix: [u8; 8],
}

impl PackObject {
    /// A fresh object for `pack`.
    #[must_use]
    pub fn fresh(pack: PackId, entropy: &dyn Entropy) -> Self {
        let mut suffix = [0; 8];
        entropy.fill(&mut suffix);
        Self { pack, suffix }
    }

    /// The object of bundle `number` of a log, counted from 1: its name is known before it is there, and names stand in the
    /// order of numbers. It is created and never replaced, so no two contents share a name.
    #[must_use]
    pub const fn bundle(log: LogId, number: u32) -> Self {
        Self { pack: PackId::from_bytes(*log.bytes()), suffix: (number as u64).to_be_bytes() }
    }
}

/// What kind of thing a name stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ObjectKind {
    /// `strongroom.json`
    Head,
    /// `promoted.json`
    Promoted,
    /// `keys/…`
    KeySlot([u8; 8]),
    /// `journal/…`
    Journal(u64),
    /// `journal/checkpoints/…`
    Checkpoint(u64),
    /// `packs/…`, `maps/…` and `logs/…`
    Pack(PackKind, PackObject),
    /// `index/…`
    IndexRun([u8; 16]),
    /// `sessions/…`
    Session(u64),
    /// `probe/…`
    Probe,
}

impl ObjectKind {
    fn parse(name: &str) -> Option<Self> {
        if name == "strongroom.json" {
            return Some(Self::Head);
        }
        if name == "promoted.json" {
            return Some(Self::Promoted);
        }
        let (folder, rest) = name.split_once('/')?;
        match folder {
            "keys" => Some(Self::KeySlot(bytes(rest)?)),
            "journal" => match rest.strip_prefix("checkpoints/") {
                Some(digits) => Some(Self::Checkpoint(number(digits)?)),
                None => Some(Self::Journal(number(rest)?)),
            },
            "packs" => Some(Self::Pack(PackKind::Data, pack_object(rest)?)),
            "maps" => Some(Self::Pack(PackKind::Map, pack_object(rest)?)),
            "logs" => Some(Self::Pack(PackKind::Log, pack_object(rest)?)),
            "index" => Some(Self::IndexRun(bytes(rest)?)),
            "sessions" => Some(Self::Session(number(rest)?)),
            "probe" => Some(Self::Probe),
            _ => None,
        }
    }
}

fn number(digits: &str) -> Option<u64> {
    (digits.len() == 20 && digits.bytes().all(|digit| digit.is_ascii_digit()))
        .then(|| digits.parse().ok())
        .flatten()
}

fn bytes<const N: usize>(digits: &str) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    (digits.bytes().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'))
        && hex::decode_to_slice(digits, &mut bytes).is_ok())
    .then_some(bytes)
}

fn pack_object(rest: &str) -> Option<PackObject> {
    let (shelf, file) = rest.split_once('/')?;
    let (id, suffix) = file.split_once('.')?;
    (id.starts_with(shelf) && shelf.len() == 2).then_some(())?;
    Some(PackObject { pack: PackId::from_bytes(bytes(id)?), suffix: bytes(suffix)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_parsed_back_to_what_it_stands_for() {
        let object = PackObject { pack: PackId::from_bytes([7; 16]), suffix: [9; 8] };
        for (name, kind) in [
            (ObjectName::head(), ObjectKind::Head),
            (ObjectName::promoted(), ObjectKind::Promoted),
            (ObjectName::key_slot([1; 8]), ObjectKind::KeySlot([1; 8])),
            (ObjectName::journal(7), ObjectKind::Journal(7)),
            (ObjectName::checkpoint(256), ObjectKind::Checkpoint(256)),
            (ObjectName::pack(PackKind::Data, object), ObjectKind::Pack(PackKind::Data, object)),
            (ObjectName::pack(PackKind::Map, object), ObjectKind::Pack(PackKind::Map, object)),
            (ObjectName::pack(PackKind::Log, object), ObjectKind::Pack(PackKind::Log, object)),
            (ObjectName::index_run([2; 16]), ObjectKind::IndexRun([2; 16])),
            (ObjectName::session(3), ObjectKind::Session(3)),
        ] {
            assert_eq!(ObjectName::parse(name.as_str()), Some((name, kind)));
        }
    }

    #[test]
    fn a_name_of_another_program_leads_nowhere_else() {
        assert_eq!(ObjectName::foreign("data/ab/abcd").unwrap().as_str(), "data/ab/abcd");
        for wrong in ["", "/a", "a//b", "../a", "a/..", "a/.b", "A", "a/b/c/d", "a b"] {
            assert_eq!(ObjectName::foreign(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn what_is_not_ours_is_not_taken_for_ours() {
        for foreign in
            ["", "a", "journal/7", "packs/00/../../etc", "packs/07/0707", "keys/zz", "index/AB", "JOURNAL/1"]
        {
            assert_eq!(ObjectName::parse(foreign), None, "{foreign}");
        }
    }
}
