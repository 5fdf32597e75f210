//! A recovery point: what a volume held at one moment.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use minicbor::Decoder;
use serde::Serialize;
use strongroom_model::{RecoveryPointId, SnapshotId, VolumeId, VolumeName};

use crate::cbor::{Cbor, CborError, Enc, cbor_map, sure};
use crate::map::MapRoot;
use crate::record::BaseOfDatabase;

/// A current recovery point, as the fold holds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Point {
    /// Its id.
    pub id: RecoveryPointId,
    /// Whose content it is.
    pub volume: VolumeName,
    /// Where its map begins.
    pub map: MapRoot,
    /// The point that its map was written against.
    pub parent: Option<RecoveryPointId>,
    /// The journal record that published it.
    pub number: u64,
    /// The names of its holds; while there is one it is not forgotten.
    pub held: BTreeSet<String>,
    /// What its writer says about it.
    pub info: PointInfo,
}
cbor_map!(Point { 0 => id, 1 => volume, 2 => map, 3 => parent, 4 => number, 5 => held, 6 => info });

/// What a writer says about a point. Nothing rests on it but what people and policies decide.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PointInfo {
    /// The moment of the content: when the snapshot was cut.
    pub taken_at: Timestamp,
    /// When it was published, by the writer's clock.
    pub published_at: Timestamp,
    /// The size of the volume.
    pub volume_bytes: u64,
    /// Where it was taken from.
    pub source: Source,
    /// The filesystem on it, where known: `ext4`, `xfs`.
    pub fs: Option<String>,
    /// The labels of the volume.
    pub labels: BTreeMap<String, String>,
    /// Who took it.
    pub agent: String,
    /// Bytes that were read and compared.
    pub scanned_bytes: u64,
    /// Bytes that differ from the parent.
    pub changed_bytes: u64,
    /// Bytes of chunks that the repository did not have.
    pub new_bytes: u64,
    /// Bytes that were sent to the store for it, compressed and sealed.
    pub sent_bytes: u64,
    /// From the cut to the publishing, in milliseconds.
    pub duration_ms: u64,
    /// Requests that were sent to the store for it.
    pub requests: u64,
    /// The database that lies on the volume, where its log is archived: what a restore to any second begins with.
    pub database: Option<BaseOfDatabase>,
}
cbor_map!(PointInfo {
    0 => taken_at, 1 => published_at, 2 => volume_bytes, 3 => source, 4 => fs, 5 => labels, 6 => agent,
    7 => scanned_bytes, 8 => changed_bytes, 9 => new_bytes, 10 => sent_bytes, 11 => duration_ms, 12 => requests,
    13 => database,
});

/// Where the bytes of a point were read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
pub enum Source {
    /// A snapshot of a volume of a driver.
    Driver {
        /// The node of the driver, as its operator named it.
        node: String,
        /// The volume there.
        volume: VolumeId,
        /// The snapshot. While it exists it is the base of the next incremental.
        snapshot: SnapshotId,
    },
    /// An image file or a block device.
    Image {
        /// Where it was.
        path: String,
    },
}

/// `{0: 0, 1: node, 2: volume, 3: snapshot}` or `{0: 1, 1: path}`.
impl Cbor for Source {
    fn put(&self, e: &mut Enc) {
        match self {
            Self::Driver { node, volume, snapshot } => {
                sure(e.map(4).and_then(|e| e.u32(0)).and_then(|e| e.u32(0)));
                sure(e.u32(1).and_then(|e| e.str(node)));
                sure(e.u32(2));
                volume.put(e);
                sure(e.u32(3));
                snapshot.put(e);
            }
            Self::Image { path } => {
                sure(e.map(2).and_then(|e| e.u32(0)).and_then(|e| e.u32(1)));
                sure(e.u32(1).and_then(|e| e.str(path)));
            }
        }
    }

    fn take(d: &mut Decoder<'_>) -> Result<Self, CborError> {
        let fields = crate::cbor::definite(d.map()?)?;
        let mut next = 0;
        let mut expect = |d: &mut Decoder<'_>| -> Result<(), CborError> {
            let key = d.u32()?;
            if key != next {
                return Err(CborError::UnknownField { what: "Source", key });
            }
            next += 1;
            Ok(())
        };
        expect(d)?;
        match (d.u32()?, fields) {
            (0, 4) => {
                expect(d)?;
                let node = String::take(d)?;
                expect(d)?;
                let volume = VolumeId::take(d)?;
                expect(d)?;
                Ok(Self::Driver { node, volume, snapshot: SnapshotId::take(d)? })
            }
            (1, 2) => {
                expect(d)?;
                Ok(Self::Image { path: String::take(d)? })
            }
            (0 | 1, _) => Err(CborError::Value("a source has the wrong number of fields".into())),
            (kind, _) => Err(CborError::UnknownKind { what: "source", kind }),
        }
    }
}
