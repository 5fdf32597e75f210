//! Finds what already exists locally, by the hash of each chunk.

use std::sync::Arc;

use strongroom_block_io::{BlockSource as _, Buffer};
use strongroom_repository::chunk::ChunkId;
use strongroom_repository::pack::{EntryType, Footer};

use crate::error::HydrateError;
use crate::survey::Local;
use crate::work::{Piece, Work};

/// What is read of the local content at once.
const READ_BYTES: usize = 1 << 20;

/// The chunks among `pieces` that the local content holds already, in order.
///
/// # Errors
/// When the local content cannot be read: a disk that cannot read is no place to restore to.
pub(crate) async fn equal(
    local: Local,
    work: &Work,
    footer: Arc<Footer>,
    pieces: &[Piece],
) -> Result<Vec<u64>, HydrateError> {
    let mut asked: Vec<(u64, usize, ChunkId)> = Vec::new();
    for piece in pieces {
        for (chunk, entry) in piece.chunks().zip(piece.entry..) {
            let content = work.content_bytes(chunk);
            if let (Some(row), Ok(length)) = (footer.row(entry), usize::try_from(content))
                && (row.entry_type == EntryType::Delta || u64::from(row.plain_bytes) == content)
                && chunk * work.chunk_bytes + content <= local.source.bytes()
            {
                asked.push((chunk, length, row.id));
            }
        }
    }
    asked.sort_unstable_by_key(|(chunk, ..)| *chunk);
    let chunk_bytes = work.chunk_bytes;
    let found = tokio::task::spawn_blocking(move || -> Result<Vec<u64>, HydrateError> {
        let mut buffer = Buffer::of(READ_BYTES.max(usize::try_from(chunk_bytes).unwrap_or(READ_BYTES)));
        let most = buffer.as_ref().len() as u64 / chunk_bytes;
        let mut equal = Vec::new();
        // Neighbours are read at once.
        for some in asked.chunk_by(|(one, ..), (next, ..)| one + 1 == *next && next % most != 0) {
            let length: usize = some.iter().map(|(_, length, _)| length).sum();
            let content = &mut buffer.bytes_mut()[..length];
            local.source.read_at(some[0].0 * chunk_bytes, content)?;
            let mut rest = &*content;
            for (chunk, length, id) in some {
                let (plain, after) = rest.split_at(*length);
                rest = after;
                if local.hasher.id(plain) == *id {
                    equal.push(*chunk);
                }
            }
        }
        Ok(equal)
    });
    found.await.expect("comparing does not panic")
}
