//! The 80 bytes that every sealed object begins with.
//!
//! | offset | bytes | field |
//! |---|---|---|
//! | 0 | 8 | magic |
//! | 8 | 2 | format version, u16 = 1 |
//! | 10 | 1 | cipher: 1 AES-256-GCM, 2 ChaCha20-Poly1305 |
//! | 11 | 1 | flags, by magic |
//! | 12 | 4 | epoch of the master key, u32; 0 in key slots |
//! | 16 | 32 | salt |
//! | 48 | 32 | commitment to the key |
//!
//! Magic and version come first, so that whatever the future brings can still be told apart by the oldest reader.

use super::{Cipher, SealError};

pub(crate) const HEADER_BYTES: usize = 80;
pub(crate) const VERSION: u16 = 1;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) magic: [u8; 8],
    pub(crate) cipher: Cipher,
    pub(crate) flags: u8,
    pub(crate) epoch: u32,
    pub(crate) salt: [u8; 32],
    pub(crate) commitment: [u8; 32],
}

impl Header {
    pub(crate) fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        bytes[..8].copy_from_slice(&self.magic);
        bytes[8..10].copy_from_slice(&VERSION.to_le_bytes());
        bytes[10] = self.cipher as u8;
        bytes[11] = self.flags;
        bytes[12..16].copy_from_slice(&self.epoch.to_le_bytes());
        bytes[16..48].copy_from_slice(&self.salt);
        bytes[48..].copy_from_slice(&self.commitment);
        bytes
    }

    /// Reads the header at the start of `bytes`.
    pub(crate) fn parse(magic: &[u8; 8], bytes: &[u8]) -> Result<Self, SealError> {
        let bytes = bytes.first_chunk::<HEADER_BYTES>().ok_or(SealError::NotSealed)?;
        if &bytes[..8] != magic {
            return Err(SealError::NotSealed);
        }
        let version = u16::from_le_bytes([bytes[8], bytes[9]]);
        if version != VERSION {
            return Err(SealError::Unknown { what: "format version", found: version.into() });
        }
        let cipher = Cipher::from_byte(bytes[10])
            .ok_or(SealError::Unknown { what: "cipher", found: bytes[10].into() })?;
        Ok(Self {
            magic: *magic,
            cipher,
            flags: bytes[11],
            epoch: u32::from_le_bytes([bytes[12], bytes[13], bytes[14], bytes[15]]),
            salt: bytes[16..48].try_into().expect("32 bytes of 80"),
            commitment: bytes[48..].try_into().expect("the last 32 of 80"),
        })
    }
}
