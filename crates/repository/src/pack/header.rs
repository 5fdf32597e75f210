//! The 96 bytes that a pack begins with: the seal's header, and the pack's id.

use strongroom_model::PackId;

use crate::layout::PackKind;
use crate::seal::SealError;
use crate::seal::header::{HEADER_BYTES, Header};

pub(super) const MAGIC: &[u8; 8] = b"SRGMPACK";
pub(super) const PACK_HEADER_BYTES: usize = HEADER_BYTES + 16;

/// Beside the kind: entries are sealed to the data key of the epoch, and the salt is a fresh public key.
pub(super) const SEALED: u8 = 4;

/// The kind of a pack as the flags of its header say it, and as footers are bound to it.
pub(super) const fn flags(kind: PackKind) -> u8 {
    match kind {
        PackKind::Data => 1,
        PackKind::Map => 2,
        PackKind::Log => 3,
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PackHeader {
    pub(super) seal: Header,
    pub(super) kind: PackKind,
    pub(super) pack: PackId,
}

impl PackHeader {
    pub(super) fn encode(&self) -> [u8; PACK_HEADER_BYTES] {
        let mut bytes = [0; PACK_HEADER_BYTES];
        bytes[..HEADER_BYTES].copy_from_slice(&self.seal.encode());
        bytes[HEADER_BYTES..].copy_from_slice(self.pack.bytes());
        bytes
    }

    /// Whether its entries are sealed to the data key of the epoch.
    pub(super) const fn is_sealed(&self) -> bool {
        self.seal.flags & SEALED != 0
    }

    pub(super) fn parse(bytes: &[u8]) -> Result<Self, SealError> {
        let seal = Header::parse(MAGIC, bytes)?;
        let kind = match seal.flags {
            1 | 5 => PackKind::Data,
            2 => PackKind::Map,
            3 | 7 => PackKind::Log,
            other => return Err(SealError::Unknown { what: "pack kind", found: other.into() }),
        };
        let pack = bytes.get(HEADER_BYTES..PACK_HEADER_BYTES).ok_or(SealError::NotSealed)?;
        Ok(Self { seal, kind, pack: PackId::from_bytes(pack.try_into().expect("16 bytes were asked for")) })
    }
}
