//! Verifies a whole pack without any key.

use super::fetch::read;
use super::header::PackHeader;
use super::trailer::{HASHED_BYTES, TRAILER_BYTES, Trailer};
use super::{PackError, PackPlace};
use crate::layout::{PackKind, PackObject};
use crate::seal::SealError;
use crate::store::ObjectStore;

/// How much is read and held at a time.
const STEP_BYTES: u64 = 4 << 20;

/// What a scrub saw.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scrubbed {
    /// How many bytes were read.
    pub bytes: u64,
    /// How many entries the trailer counts.
    pub entries: u32,
}

/// Reads a whole pack of `bytes` bytes and compares their BLAKE3 with the trailer. Needs no key.
///
/// # Errors
/// When the object is missing, cannot be read, or is not what was written under this name.
pub async fn scrub(
    store: &dyn ObjectStore,
    kind: PackKind,
    object: PackObject,
    bytes: u64,
) -> Result<Scrubbed, PackError> {
    let place = PackPlace { kind, object, bytes };
    let damaged = |what: String| PackError::Damaged { object: place.name().to_string(), what };
    let body = bytes
        .checked_sub((TRAILER_BYTES - HASHED_BYTES) as u64)
        .ok_or_else(|| damaged(format!("it has only {bytes} bytes")))?;
    let mut hasher = blake3::Hasher::new();
    let mut offset = 0;
    while offset < body {
        let step = STEP_BYTES.min(body - offset);
        let part = read(store, place, offset, step).await?;
        if offset == 0 {
            let header = PackHeader::parse(&part).map_err(|cause| match cause {
                SealError::Unknown { what, found } => {
                    PackError::Unknown { object: place.name().to_string(), what: format!("{what} {found}") }
                }
                _ => damaged("it does not begin like a pack".to_owned()),
            })?;
            if header.pack != object.pack || header.kind != kind {
                return Err(damaged("it is another pack".to_owned()));
            }
        }
        hasher.update(&part);
        offset += step;
    }
    let end = read(store, place, bytes.saturating_sub(TRAILER_BYTES as u64), TRAILER_BYTES as u64).await?;
    let end = end.first_chunk().ok_or_else(|| damaged("its end is missing".to_owned()))?;
    let (trailer, hash) = Trailer::parse(end, bytes).map_err(damaged)?;
    if hasher.finalize() != hash {
        return Err(damaged("its bytes are not those that were written".to_owned()));
    }
    Ok(Scrubbed { bytes, entries: trailer.entries })
}
