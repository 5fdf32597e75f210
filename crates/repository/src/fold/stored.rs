//! The stored form of a fold: what a checkpoint holds.
//!
//! The pack table is the one large part, so it is not CBOR but rows of 37 bytes, sorted by pack:
//!
//! | bytes | what |
//! |---|---|
//! | 0..16 | pack id |
//! | 16..24 | suffix of its object |
//! | 24 | 0 data, 1 map |
//! | 25..33 | size of the object, little-endian |
//! | 33..37 | how many entries it had when it was new, little-endian |

use std::collections::{BTreeMap, BTreeSet};

use minicbor::Decoder;
use strongroom_model::{LogId, PackId};

use super::verified::{Moments, VerifiedPacks};
use super::{
    DomainState, Fold, ForgottenPoint, KeyState, LogState, OpenSession, PackState, PendingPlan, SealedPoint,
};
use crate::cbor::{Cbor, CborError, Enc, cbor_map, sure};
use crate::entry_runs::EntryRuns;
use crate::layout::{PackKind, PackObject};
use crate::pack::PackPlace;
use crate::point::Point;
use crate::record::RecordHash;

cbor_map!(OpenSession { 0 => agent, 1 => purpose, 2 => opened_at });
cbor_map!(KeyState { 0 => kind, 1 => hash, 2 => added_at, 3 => domain });
cbor_map!(DomainState { 0 => epoch, 1 => name, 2 => added_at });
cbor_map!(SealedPoint { 0 => id, 1 => domain, 2 => map, 3 => number, 4 => held, 5 => at, 6 => names });
cbor_map!(ForgottenPoint { 0 => id, 1 => map, 2 => number, 3 => at });
cbor_map!(PendingPlan {
    0 => number, 1 => planned_at, 2 => objects, 3 => holes, 4 => waits_for, 5 => revived, 6 => rewritten, 7 => replaced
});

/// A fold of another version is not read: the journal is folded from an older checkpoint, or from its beginning.
pub(crate) const FOLD_VERSION: u32 = 1;

const ROW: usize = 37;

/// What is stored, in the order in which it is stored.
struct StoredFold {
    version: u32,
    number: u64,
    hash: RecordHash,
    points: Vec<Point>,
    packs: PackTable,
    holes: BTreeMap<PackId, EntryRuns>,
    sessions: BTreeMap<u64, OpenSession>,
    plan: Option<PendingPlan>,
    keys: BTreeMap<[u8; 8], KeyState>,
    verified: Moments,
    damaged: Option<BTreeMap<PackId, EntryRuns>>,
    /// Absent when there is none, as in the first checkpoints.
    forgotten: Option<Vec<ForgottenPoint>>,
    /// Absent where no database's log is archived.
    logs: Option<BTreeMap<LogId, LogState>>,
    /// Both are absent unless the repository is shared.
    domains: Option<BTreeMap<u32, DomainState>>,
    sealed: Option<Vec<SealedPoint>>,
}
cbor_map!(StoredFold {
    0 => version, 1 => number, 2 => hash, 3 => points, 4 => packs, 5 => holes, 6 => sessions, 7 => plan, 8 => keys,
    9 => verified, 10 => damaged, 11 => forgotten, 12 => logs, 20 => domains, 21 => sealed
});

struct PackTable(Vec<(PackPlace, u32)>);

impl Cbor for PackTable {
    fn put(&self, e: &mut Enc) {
        let mut rows = Vec::with_capacity(self.0.len() * ROW);
        for (place, entries) in &self.0 {
            rows.extend_from_slice(place.object.pack.bytes());
            rows.extend_from_slice(&place.object.suffix);
            rows.push(u8::from(place.kind == PackKind::Map)); // Bundles of logs are never in this table.
            rows.extend_from_slice(&place.bytes.to_le_bytes());
            rows.extend_from_slice(&entries.to_le_bytes());
        }
        sure(e.bytes(&rows));
    }

    fn take(d: &mut Decoder<'_>) -> Result<Self, CborError> {
        let rows = d.bytes()?;
        if rows.len() % ROW != 0 {
            return Err(CborError::Value("the pack table ends within a row".into()));
        }
        let mut places = Vec::with_capacity(rows.len() / ROW);
        for row in rows.chunks_exact(ROW) {
            let array = "the row was cut to 37 bytes";
            let object = PackObject {
                pack: PackId::from_bytes(row[..16].try_into().expect(array)),
                suffix: row[16..24].try_into().expect(array),
            };
            let kind = match row[24] {
                0 => PackKind::Data,
                1 => PackKind::Map,
                kind => return Err(CborError::UnknownKind { what: "pack", kind: kind.into() }),
            };
            let bytes = u64::from_le_bytes(row[25..33].try_into().expect(array));
            let entries = u32::from_le_bytes(row[33..].try_into().expect(array));
            if places.last().is_some_and(|(last, _): &(PackPlace, u32)| last.object.pack >= object.pack) {
                return Err(CborError::Value("the pack table is not sorted".into()));
            }
            places.push((PackPlace { kind, object, bytes }, entries));
        }
        Ok(Self(places))
    }
}

impl Cbor for Fold {
    fn put(&self, e: &mut Enc) {
        let holes = self.packs.iter().filter(|(_, state)| !state.holes.is_empty());
        let stored = StoredFold {
            version: FOLD_VERSION,
            number: self.number,
            hash: self.hash,
            // What this key revealed of sealed points is for itself alone.
            points: self.points.values().filter(|p| !self.sealed.contains_key(&p.id)).cloned().collect(),
            packs: PackTable(self.packs.values().map(|state| (state.place, state.entries)).collect()),
            holes: holes.map(|(pack, state)| (*pack, state.holes.clone())).collect(),
            sessions: self.sessions.clone(),
            plan: self.plan.clone(),
            keys: self.keys.clone(),
            verified: self.verified.at.clone(),
            damaged: Some(self.verified.damaged.clone()).filter(|damaged| !damaged.is_empty()),
            forgotten: (!self.forgotten.is_empty()).then(|| self.forgotten.iter().cloned().collect()),
            logs: Some(self.logs.clone()).filter(|logs| !logs.is_empty()),
            domains: (!self.domains.is_empty()).then(|| self.domains.clone()),
            sealed: (!self.sealed.is_empty()).then(|| self.sealed.values().cloned().collect()),
        };
        stored.put(e);
    }

    fn take(d: &mut Decoder<'_>) -> Result<Self, CborError> {
        let mut stored = StoredFold::take(d)?;
        if stored.version != FOLD_VERSION {
            return Err(CborError::UnknownKind { what: "fold", kind: stored.version });
        }
        let mut packs = BTreeMap::new();
        for (place, entries) in stored.packs.0 {
            let holes = stored.holes.remove(&place.object.pack).unwrap_or_default();
            packs.insert(place.object.pack, PackState { place, entries, holes });
        }
        if !stored.holes.is_empty() {
            return Err(CborError::Value("a pack has holes and does not exist".into()));
        }
        let verified = VerifiedPacks { at: stored.verified, damaged: stored.damaged.unwrap_or_default() };
        if !verified.fits(&packs) {
            return Err(CborError::Value("a pack was verified and does not exist".into()));
        }
        let count = stored.points.len();
        let points: BTreeMap<_, _> = stored.points.into_iter().map(|point| (point.id, point)).collect();
        let ids: BTreeSet<_> = points.keys().collect();
        if ids.len() != count {
            return Err(CborError::Value("a point is there twice".into()));
        }
        let sealed = stored.sealed.unwrap_or_default();
        let count = sealed.len();
        let sealed: BTreeMap<_, _> = sealed.into_iter().map(|point| (point.id, point)).collect();
        if sealed.len() != count || sealed.keys().any(|id| points.contains_key(id)) {
            return Err(CborError::Value("a sealed point is there twice".into()));
        }
        Ok(Self {
            number: stored.number,
            hash: stored.hash,
            points,
            sealed,
            domains: stored.domains.unwrap_or_default(),
            packs,
            sessions: stored.sessions,
            plan: stored.plan,
            keys: stored.keys,
            verified,
            logs: stored.logs.unwrap_or_default(),
            forgotten: stored.forgotten.unwrap_or_default().into(),
        })
    }
}
