//! Brings the sealed bytes of a pack from one store to another, and compares them with the trailer on the way.
//!
//! No key is needed. What is damaged never appears at the other side. At most two parts are in memory.

use bytes::Bytes;

use super::fetch::read;
use super::header::PackHeader;
use super::trailer::{HASHED_BYTES, TRAILER_BYTES, Trailer};
use super::{PackError, PackPlace};
use crate::store::{ObjectStore, PART_BYTES, StoreError};

/// Why a pack was not brought over.
#[derive(Debug)]
pub enum TransferError {
    /// It could not be read, or is not what was written.
    Source(PackError),
    /// It could not be written.
    Target(StoreError),
}

/// Brings one pack over.
///
/// # Errors
/// When it cannot be read, is damaged, or cannot be written; then there is no such object at `target`.
pub async fn transfer(
    source: &dyn ObjectStore,
    target: &dyn ObjectStore,
    place: PackPlace,
) -> Result<(), TransferError> {
    let name = place.name();
    let mut seen = Seen::new(place).map_err(TransferError::Source)?;
    let whole = PART_BYTES as u64;
    if place.bytes <= whole {
        let bytes = read(source, place, 0, place.bytes).await.map_err(TransferError::Source)?;
        seen.take(&bytes).and_then(|()| seen.compare()).map_err(TransferError::Source)?;
        return target.put(&name, bytes).await.map_err(TransferError::Target);
    }
    let upload = target.upload(&name).await.map_err(TransferError::Target)?;
    let brought = async {
        let (mut offset, mut number) = (0, 0);
        let mut sending: Option<Bytes> = None;
        while offset < place.bytes || sending.is_some() {
            // The next part comes while the one before goes.
            let length = whole.min(place.bytes - offset);
            let come = async {
                if length == 0 {
                    return Ok(None);
                }
                read(source, place, offset, length).await.map(Some).map_err(TransferError::Source)
            };
            let go = async {
                let Some(part) = sending.take() else { return Ok(()) };
                number += 1;
                upload.part(number - 1, part).await.map_err(TransferError::Target)
            };
            let (came, gone) = futures::future::join(come, go).await;
            gone?;
            sending = came?;
            if let Some(part) = &sending {
                seen.take(part).map_err(TransferError::Source)?;
                offset += length;
            }
        }
        seen.compare().map_err(TransferError::Source)?;
        upload.complete(number).await.map_err(TransferError::Target)?;
        match target.head(&name).await.map_err(TransferError::Target)?.bytes {
            bytes if bytes == place.bytes => Ok(()),
            bytes => Err(TransferError::Target(StoreError::Damaged {
                location: target.location(),
                name: name.to_string(),
                reason: format!("it has {bytes} bytes, {} were sent", place.bytes),
            })),
        }
    };
    let brought = brought.await;
    if brought.is_err() {
        // Nothing was completed, or nobody names it: what is left are parts that a lifecycle rule takes.
        let _ = upload.abort().await;
    }
    brought
}

/// What passed by so far.
struct Seen {
    place: PackPlace,
    hasher: blake3::Hasher,
    bytes: u64,
    end: Vec<u8>,
}

impl Seen {
    fn new(place: PackPlace) -> Result<Self, PackError> {
        if place.bytes < TRAILER_BYTES as u64 {
            let what = format!("it has only {} bytes", place.bytes);
            return Err(PackError::Damaged { object: place.name().to_string(), what });
        }
        Ok(Self { place, hasher: blake3::Hasher::new(), bytes: 0, end: Vec::new() })
    }

    fn damaged(&self, what: impl Into<String>) -> PackError {
        PackError::Damaged { object: self.place.name().to_string(), what: what.into() }
    }

    fn take(&mut self, part: &Bytes) -> Result<(), PackError> {
        if self.bytes == 0 {
            let header =
                PackHeader::parse(part).map_err(|_| self.damaged("it does not begin like a pack"))?;
            if header.pack != self.place.object.pack || header.kind != self.place.kind {
                return Err(self.damaged("it is another pack"));
            }
        }
        let hashed = self.place.bytes - (TRAILER_BYTES - HASHED_BYTES) as u64;
        let left = hashed.saturating_sub(self.bytes).min(part.len() as u64);
        self.hasher.update(&part[..usize::try_from(left).unwrap_or(part.len())]);
        self.bytes += part.len() as u64;
        self.end.extend_from_slice(&part[part.len().saturating_sub(TRAILER_BYTES)..]);
        let surplus = self.end.len().saturating_sub(TRAILER_BYTES);
        self.end.drain(..surplus);
        Ok(())
    }

    fn compare(&self) -> Result<(), PackError> {
        let end = self.end.first_chunk().ok_or_else(|| self.damaged("its end is missing"))?;
        let (_, hash) = Trailer::parse(end, self.place.bytes).map_err(|what| self.damaged(what))?;
        if self.bytes == self.place.bytes && self.hasher.finalize() == hash {
            Ok(())
        } else {
            Err(self.damaged("its bytes are not those that were written"))
        }
    }
}
