//! Finds what already exists locally, by the hash of each chunk.

use std::sync::Arc;

use strongroom_block_io::{BlockIoError, BlockSource as _, Buffer};
use strongroom_repository::chunk::ChunkId;
use strongroom_repository::pack::{EntryType, Footer};

use crate::error::HydrateError;
use crate::survey::Local;
use crate::work::{Piece, Work};

/// What is read of the local content at once.
const READ_BYTES: usize = 1 << 20;

/// A chunk that may exist locally, where it would lie.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asked {
    pub(crate) chunk: u64,
    /// The entry that fills it.
    pub(crate) entry: u32,
    /// Its bytes in the volume.
    length: usize,
    id: ChunkId,
}

/// What of `pieces` can be asked for: chunks of entries that there are, within the local content. In the order of the volume.
pub(crate) fn asked(local: &Local, work: &Work, footer: &Footer, pieces: &[Piece]) -> Vec<Asked> {
    let mut asked = Vec::new();
    for piece in pieces {
        for (chunk, entry) in piece.chunks().zip(piece.entry..) {
            let content = work.content_bytes(chunk);
            if let (Some(row), Ok(length)) = (footer.row(entry), usize::try_from(content))
                && (row.entry_type == EntryType::Delta || u64::from(row.plain_bytes) == content)
                && chunk * work.chunk_bytes + content <= local.source.bytes()
            {
                asked.push(Asked { chunk, entry, length, id: row.id });
            }
        }
    }
    asked.sort_unstable_by_key(|asked| asked.chunk);
    asked
}

/// Reads chunks, neighbours at once, and hands over each with what lies there if that is what was asked for.
///
/// # Errors
/// When the local content cannot be read, or `seen` fails.
pub(crate) fn read_each(
    local: &Local,
    chunk_bytes: u64,
    asked: &[Asked],
    mut seen: impl FnMut(&Asked, Option<&[u8]>) -> Result<(), BlockIoError>,
) -> Result<(), BlockIoError> {
    let mut buffer = Buffer::of(READ_BYTES.max(usize::try_from(chunk_bytes).unwrap_or(READ_BYTES)));
    let most = buffer.as_ref().len() as u64 / chunk_bytes;
    for some in asked.chunk_by(|one, next| one.chunk + 1 == next.chunk && next.chunk % most != 0) {
        let length: usize = some.iter().map(|asked| asked.length).sum();
        let content = &mut buffer.bytes_mut()[..length];
        local.source.read_at(some[0].chunk * chunk_bytes, content)?;
        let mut rest = &*content;
        for asked in some {
            let (plain, after) = rest.split_at(asked.length);
            rest = after;
            seen(asked, (local.hasher.id(plain) == asked.id).then_some(plain))?;
        }
    }
    Ok(())
}

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
    let asked = asked(&local, work, &footer, pieces);
    let chunk_bytes = work.chunk_bytes;
    let found = tokio::task::spawn_blocking(move || -> Result<Vec<u64>, HydrateError> {
        let mut equal = Vec::new();
        read_each(&local, chunk_bytes, &asked, |asked, plain| {
            if plain.is_some() {
                equal.push(asked.chunk);
            }
            Ok(())
        })?;
        Ok(equal)
    });
    found.await.expect("comparing does not panic")
}
