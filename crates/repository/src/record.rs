//! Journal records: what may be said, and how it is stored.
//!
//! A record is a CBOR map, sealed with its number bound to it (docs/format.md, "Journal"). A kind or a field
//! that is not known is refused: whoever decides on a journal that they understand only in part decides
//! wrongly.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use minicbor::Decoder;
use serde::Serialize;
use strongroom_model::{PackId, RecoveryPointId, RunId, VolumeName};

use crate::cbor::{Cbor, CborError, Enc, cbor_map, sure};
use crate::entry_runs::EntryRuns;
use crate::layout::{ObjectName, PackKind, PackObject};
use crate::map::MapRoot;
use crate::pack::PackPlace;
use crate::point::PointInfo;

mod domains;
mod log;
mod tested;
mod verified;

pub use domains::{DomainAdded, DomainRotated, PublishedInDomain};
pub use log::{
    BaseOfDatabase, BundleNote, CommitNote, CommitsNote, HeardNote, LogArchived, LogOpened, LogTrimmed,
};
pub use tested::{DatabaseTested, TestFailure};
pub use verified::{Objects, Verified};

/// BLAKE3 of a record's sealed bytes. Sealing is random, so it is the owner's token as well.
pub type RecordHash = [u8; 32];

/// What stands before the first record.
pub const GENESIS: RecordHash = [0; 32];

/// One record of the journal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Its number, counted from 1.
    pub number: u64,
    /// The hash of the record before it; [`GENESIS`] in the first.
    pub previous: RecordHash,
    /// The newest checkpoint that its author knew; 0 for none.
    pub checkpoint: u64,
    /// Who wrote it, for people.
    pub author: String,
    /// When, by the author's clock; for people only.
    pub time: Timestamp,
    /// Whether it was written in single-writer mode.
    pub single_writer: bool,
    /// What it says.
    pub event: Event,
}
cbor_map!(Record {
    0 => number, 1 => previous, 2 => checkpoint, 3 => author, 4 => time, 5 => single_writer, 6 => event
});

/// An object of a pack, with the folder it lies in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Placed {
    /// Data, map or log.
    pub kind: PackKind,
    /// The object.
    pub object: PackObject,
}

impl Placed {
    /// Its name in the store.
    #[must_use]
    pub fn name(&self) -> ObjectName {
        ObjectName::pack(self.kind, self.object)
    }
}

impl Serialize for Placed {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.name())
    }
}

impl From<PackPlace> for Placed {
    fn from(place: PackPlace) -> Self {
        Self { kind: place.kind, object: place.object }
    }
}

/// 25 bytes: the kind, the pack's id, the suffix.
impl Cbor for Placed {
    fn put(&self, e: &mut Enc) {
        let mut bytes = [0; 25];
        bytes[0] = match self.kind {
            PackKind::Data => 0,
            PackKind::Map => 1,
            PackKind::Log => 2,
        };
        bytes[1..17].copy_from_slice(self.object.pack.bytes());
        bytes[17..].copy_from_slice(&self.object.suffix);
        bytes.put(e);
    }
    fn take(d: &mut Decoder<'_>) -> Result<Self, CborError> {
        let bytes = <[u8; 25]>::take(d)?;
        let kind = match bytes[0] {
            0 => PackKind::Data,
            1 => PackKind::Map,
            2 => PackKind::Log,
            kind => return Err(CborError::UnknownKind { what: "pack", kind: kind.into() }),
        };
        let pack = PackId::from_bytes(bytes[1..17].try_into().expect("17 - 1 is 16"));
        let suffix = bytes[17..].try_into().expect("25 - 17 is 8");
        Ok(Self { kind, object: PackObject { pack, suffix } })
    }
}

/// A pack that a publish brings along.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NewPack {
    /// Where it lies.
    pub place: Placed,
    /// The size of the object.
    pub bytes: u64,
    /// How many entries it has, numbered from 0: what a sweep compares with what is needed.
    pub entries: u32,
}
cbor_map!(NewPack { 0 => place, 1 => bytes, 2 => entries });

/// What a record says. The numbers are the kinds in the stored form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// 1: a writer begins. The record's number is the session's id.
    Opened(Opened),
    /// 2: a writer ends.
    Closed(Closed),
    /// 3: a writer was shut out.
    Fenced(Fenced),
    /// 4: a recovery point exists from here on.
    Published(Box<Published>),
    /// 5: a recovery point is no more.
    Forgotten(Forgotten),
    /// 6: a recovery point may not be forgotten.
    Held(Hold),
    /// 7: a hold is taken off.
    Released(Hold),
    /// 8: what shall be removed, once nobody can need it any more.
    SweepPlanned(SweepPlanned),
    /// 9: a pack has a new object, without its holes.
    PackRewritten(PackRewritten),
    /// 10: the plan is done.
    SweepDone(SweepDone),
    /// 11: a key slot was made.
    KeyAdded(KeyAdded),
    /// 12: a key slot was taken away.
    KeyRemoved(KeyRemoved),
    /// 13: a point was restored.
    Restored(Restored),
    /// 14: a restore was tried for the sake of trying.
    RestoreTested(RestoreTested),
    /// 15: a person accepts that the journal lost its end.
    RollbackAccepted(RollbackAccepted),
    /// 16: packs were read whole, and what was seen.
    Verified(Verified),
    /// 17: a log of a database is archived from here on.
    LogOpened(Box<LogOpened>),
    /// 18: bundles of a log are stored.
    LogArchived(LogArchived),
    /// 19: bundles of a log are not needed any more.
    LogTrimmed(LogTrimmed),
    /// 20: the keys were rotated.
    KeysRotated(KeysRotated),
    /// 21: the repository is shared with one more domain.
    DomainAdded(DomainAdded),
    /// 22: a recovery point of a domain exists from here on.
    PublishedInDomain(Box<PublishedInDomain>),
    /// 23: the keys of a domain were rotated.
    DomainRotated(DomainRotated),
    /// 24: a database was brought back for the sake of proving that it can be.
    DatabaseTested(Box<DatabaseTested>),
}

macro_rules! events {
    ($($kind:literal => $variant:ident),* $(,)?) => {
        /// `{0: kind, 1: fields}`.
        impl Cbor for Event {
            fn put(&self, e: &mut Enc) {
                sure(e.map(2).and_then(|e| e.u32(0)));
                match self {
                    $(Self::$variant(fields) => {
                        sure(e.u32($kind).and_then(|e| e.u32(1)));
                        fields.put(e);
                    })*
                }
            }
            fn take(d: &mut Decoder<'_>) -> Result<Self, CborError> {
                let wrong = || CborError::Value("a record's event is not {0: kind, 1: fields}".into());
                if d.map()? != Some(2) || d.u32()? != 0 {
                    return Err(wrong());
                }
                let kind = d.u32()?;
                if d.u32()? != 1 {
                    return Err(wrong());
                }
                match kind {
                    $($kind => Cbor::take(d).map(Self::$variant),)*
                    _ => Err(CborError::UnknownKind { what: "record", kind }),
                }
            }
        }
    };
}
events!(
    1 => Opened, 2 => Closed, 3 => Fenced, 4 => Published, 5 => Forgotten, 6 => Held, 7 => Released,
    8 => SweepPlanned, 9 => PackRewritten, 10 => SweepDone, 11 => KeyAdded, 12 => KeyRemoved,
    13 => Restored, 14 => RestoreTested, 15 => RollbackAccepted, 16 => Verified,
    17 => LogOpened, 18 => LogArchived, 19 => LogTrimmed,
    20 => KeysRotated,
    21 => DomainAdded, 22 => PublishedInDomain, 23 => DomainRotated,
    24 => DatabaseTested,
);

impl<T: Cbor> Cbor for Box<T> {
    fn put(&self, e: &mut Enc) {
        (**self).put(e);
    }
    fn take(d: &mut Decoder<'_>) -> Result<Self, CborError> {
        T::take(d).map(Self::new)
    }
}

impl Event {
    /// The kind in words, as in the table of the protocol.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Opened(_) => "opened",
            Self::Closed(_) => "closed",
            Self::Fenced(_) => "fenced",
            Self::Published(_) => "published",
            Self::Forgotten(_) => "forgotten",
            Self::Held(_) => "held",
            Self::Released(_) => "released",
            Self::SweepPlanned(_) => "sweep planned",
            Self::PackRewritten(_) => "pack rewritten",
            Self::SweepDone(_) => "sweep done",
            Self::KeyAdded(_) => "key added",
            Self::KeyRemoved(_) => "key removed",
            Self::Restored(_) => "restored",
            Self::RestoreTested(_) => "restore tested",
            Self::RollbackAccepted(_) => "rollback accepted",
            Self::Verified(_) => "verified",
            Self::LogOpened(_) => "log opened",
            Self::LogArchived(_) => "log archived",
            Self::LogTrimmed(_) => "log trimmed",
            Self::KeysRotated(_) => "keys rotated",
            Self::DomainAdded(_) => "domain added",
            Self::PublishedInDomain(_) => "published in a domain",
            Self::DomainRotated(_) => "keys of a domain rotated",
            Self::DatabaseTested(_) => "restore of a database tested",
        }
    }
}

/// A writer begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opened {
    /// Whose session it is: only this agent may take it up again.
    pub agent: String,
    /// What for: `backup of db`, say.
    pub purpose: String,
}
cbor_map!(Opened { 0 => agent, 1 => purpose });

/// A writer ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Closed {
    /// Its session.
    pub session: u64,
}
cbor_map!(Closed { 0 => session });

/// A writer was shut out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fenced {
    /// Its session.
    pub session: u64,
    /// Why.
    pub reason: String,
}
cbor_map!(Fenced { 0 => session, 1 => reason });

/// A recovery point exists from here on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Published {
    /// The writer's session.
    pub session: u64,
    /// The point.
    pub point: RecoveryPointId,
    /// Of which volume.
    pub volume: VolumeName,
    /// Against which point the map was written.
    pub parent: Option<RecoveryPointId>,
    /// Where the map begins.
    pub map: MapRoot,
    /// The packs that this point brings along.
    pub packs: Vec<NewPack>,
    /// Packs that the pending plan names and this point needs: they stay.
    pub revives: BTreeSet<PackId>,
    /// Whether the session ends with it.
    pub last: bool,
    /// What the writer says about it.
    pub info: PointInfo,
}
cbor_map!(Published {
    0 => session, 1 => point, 2 => volume, 3 => parent, 4 => map, 5 => packs, 6 => revives, 7 => last, 8 => info
});

/// A recovery point is no more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Forgotten {
    /// The point.
    pub point: RecoveryPointId,
    /// By which rule or person.
    pub reason: String,
}
cbor_map!(Forgotten { 0 => point, 1 => reason });

/// A hold is put on, or taken off.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hold {
    /// The point.
    pub point: RecoveryPointId,
    /// The hold's name.
    pub hold: String,
}
cbor_map!(Hold { 0 => point, 1 => hold });

/// What shall be removed, once nobody can need it any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SweepPlanned {
    /// Objects to delete.
    pub objects: BTreeSet<Placed>,
    /// Entries to leave out when their pack is rewritten.
    pub holes: BTreeMap<PackId, EntryRuns>,
    /// The sessions open when this was planned.
    pub waits_for: BTreeSet<u64>,
}
cbor_map!(SweepPlanned { 0 => objects, 1 => holes, 2 => waits_for });

/// A pack has a new object, without its holes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackRewritten {
    /// The record of the plan.
    pub plan: u64,
    /// The new object, which names the pack.
    pub object: PackObject,
    /// The object it replaces.
    pub old: PackObject,
    /// The size of the new object.
    pub bytes: u64,
}
cbor_map!(PackRewritten { 0 => plan, 1 => object, 2 => old, 3 => bytes });

/// The plan is done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SweepDone {
    /// The record of the plan.
    pub plan: u64,
    /// Objects that the store keeps for now: a retention lock is on them.
    pub skipped: BTreeSet<Placed>,
}
cbor_map!(SweepDone { 0 => plan, 1 => skipped });

/// A key slot was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyAdded {
    /// The slot's name.
    pub slot: [u8; 8],
    /// What opens it: `passphrase`, `key-file`, `recipient`; and ` write-only` behind it where it grants no more.
    pub kind: String,
    /// BLAKE3 of the slot's object, so that damage to a slot shows without its key.
    pub hash: [u8; 32],
    /// In a shared repository: whose keys are in it; `None` the operator's, and in every other repository.
    pub domain: Option<u32>,
}
cbor_map!(KeyAdded { 0 => slot, 1 => kind, 2 => hash, 3 => domain });

/// What stands behind the kind of a slot that does not grant everything.
pub(crate) const WRITE_ONLY: &str = " write-only";
/// The same, where it opens the journal alone.
pub(crate) const JOURNAL_ONLY: &str = " journal";
/// The same, where it opens maps and tables of packs alone.
pub(crate) const STRUCTURE_ONLY: &str = " structure";

/// A key slot was taken away.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyRemoved {
    /// The slot's name.
    pub slot: [u8; 8],
}
cbor_map!(KeyRemoved { 0 => slot });

/// A new epoch seals from this record on, and the slots that hold it stand in the place of those that do not. It is the
/// first record that is sealed under the new epoch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeysRotated {
    /// The new epoch.
    pub epoch: u32,
    /// The slots that hold it.
    pub added: Vec<KeyAdded>,
    /// The slots that are no more.
    pub removed: BTreeSet<[u8; 8]>,
}
cbor_map!(KeysRotated { 0 => epoch, 1 => added, 2 => removed });

/// A point was restored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restored {
    /// The run.
    pub run: RunId,
    /// Which point.
    pub point: RecoveryPointId,
    /// Of which volume.
    pub volume: VolumeName,
    /// To where, for people.
    pub target: String,
    /// How many bytes were written.
    pub bytes: u64,
}
cbor_map!(Restored { 0 => run, 1 => point, 2 => volume, 3 => target, 4 => bytes });

/// A restore was tried for the sake of trying.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RestoreTested {
    /// Which point.
    pub point: RecoveryPointId,
    /// Whether it came back whole.
    pub passed: bool,
    /// What was seen.
    pub detail: String,
}
cbor_map!(RestoreTested { 0 => point, 1 => passed, 2 => detail });

/// A person accepts that the journal lost its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RollbackAccepted {
    /// The highest record that was once seen.
    pub number: u64,
    /// Its hash.
    pub hash: RecordHash,
    /// Why it was accepted.
    pub reason: String,
}
cbor_map!(RollbackAccepted { 0 => number, 1 => hash, 2 => reason });
