//! Finds what already exists locally, by the hash of each chunk.

use std::sync::Arc;

use strongroom_block_io::BlockSource as _;
use strongroom_repository::chunk::ChunkId;
use strongroom_repository::pack::{EntryType, Footer};

use crate::error::HydrateError;
use crate::survey::Local;
use crate::work::{Piece, Work};

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
        let mut buffer = Vec::new();
        let mut equal = Vec::new();
        for (chunk, length, id) in asked {
            buffer.resize(length, 0);
            local.source.read_at(chunk * chunk_bytes, &mut buffer)?;
            if local.hasher.id(&buffer) == id {
                equal.push(chunk);
            }
        }
        Ok(equal)
    });
    found.await.expect("comparing does not panic")
}
