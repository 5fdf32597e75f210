//! Copies what is still needed of a pack to a fresh object.

use std::collections::BTreeSet;
use std::sync::Arc;

use tokio::sync::Semaphore;

use super::fetch::{read, slice, spans};
use super::footer::seal_footer;
use super::header::PACK_HEADER_BYTES;
use super::object::ObjectWriter;
use super::trailer::Trailer;
use super::{
    EntryRow, EntryType, Footer, PackContext, PackError, PackPlace, RewriteError, StoredPack, open_content,
    read_footer,
};
use crate::layout::{ObjectName, PackObject};
#[cfg(test)]
use crate::rules::{Rule, holds};

/// Parts on the way beside the one that is filled and the span that is read: together at most 32 MiB.
const PARTS_IN_FLIGHT: usize = 2;

/// Copies the entries of a pack, but for `holes`, to a fresh object of the same pack: sealed bytes, salt and numbers
/// unchanged, and a footer sealed anew under a salt of its own.
///
/// Every copied entry is opened and checked on the way, so that damage is never given a fresh hash. Where the keys at hand
/// cannot open them, the whole old object is read and compared with its own hash instead.
///
/// # Errors
/// When the old object cannot be read or is damaged (nothing appears then), or the new one cannot be written.
pub async fn rewrite(
    context: &PackContext,
    old: PackPlace,
    holes: &BTreeSet<u32>,
) -> Result<StoredPack, RewriteError> {
    let footer = read_footer(context, old).await?;
    let kept: Vec<EntryRow> =
        footer.rows().iter().filter(|row| !holes.contains(&row.number)).copied().collect();
    let object = PackObject::fresh(old.object.pack, &*context.entropy);
    #[cfg(test)]
    let object =
        if holds(Rule::FreshObjectNames) { object } else { crate::testing::next_generation(old.object) };
    let slots = Arc::new(Semaphore::new(PARTS_IN_FLIGHT));
    let mut out = ObjectWriter::new(Arc::clone(&context.store), ObjectName::pack(old.kind, object), slots);
    out.buffer.extend_from_slice(&footer.header().encode());
    let mut rows = Vec::with_capacity(kept.len());
    let mut plain_bytes = 0;
    let mut hasher = OldHash::begin(context, old, &footer).await?;
    // To hash all of it, all of it is read.
    let read_rows = if hasher.is_some() { footer.rows() } else { &kept };
    for span in spans(read_rows) {
        let (start, end) = (span[0].offset, span[span.len() - 1].end());
        let bytes = read(&*context.store, old, start, end - start).await?;
        if let Some(hasher) = &mut hasher {
            hasher.0.update(&bytes);
        }
        for row in span.iter().filter(|row| !holes.contains(&row.number)) {
            let sealed = slice(&bytes, row.offset - start, row.end() - start);
            if hasher.is_none() {
                open_content(&footer, row, &sealed)?;
            }
            rows.push(EntryRow { offset: out.len(), ..*row });
            plain_bytes += u64::from(row.plain_bytes);
            out.buffer.extend_from_slice(&sealed);
            out.settle().await?;
        }
    }
    if let Some(hasher) = hasher {
        hasher.compare(context, old, &footer).await?;
    }
    let sealed =
        seal_footer(context, &*context.entropy, object, footer.header(), footer.domain(), &rows, &[]);
    let trailer = Trailer::of(&rows, out.len(), &sealed);
    out.buffer.extend_from_slice(&sealed);
    let bytes = out.close(trailer).await?.await?;
    let chunks = rows.iter().filter(|row| row.entry_type != EntryType::Delta);
    let entries = chunks.map(|row| (row.number, row.id)).collect();
    Ok(StoredPack { object, kind: old.kind, bytes, entry_count: trailer.entries, plain_bytes, entries })
}

/// The hash of an old object whose entries cannot be opened here.
struct OldHash(blake3::Hasher);

impl OldHash {
    /// `None` when the entries can be opened.
    async fn begin(
        context: &PackContext,
        old: PackPlace,
        footer: &Footer,
    ) -> Result<Option<Self>, RewriteError> {
        if footer.opens() {
            return Ok(None);
        }
        let mut hasher = blake3::Hasher::new();
        hasher.update(&read(&*context.store, old, 0, PACK_HEADER_BYTES as u64).await?);
        Ok(Some(Self(hasher)))
    }

    /// Compares with the hash at the end of the object, after all entries went in.
    async fn compare(
        mut self,
        context: &PackContext,
        old: PackPlace,
        footer: &Footer,
    ) -> Result<(), RewriteError> {
        let end = footer.rows().last().map_or(PACK_HEADER_BYTES as u64, EntryRow::end);
        let tail = read(&*context.store, old, end, old.bytes.saturating_sub(end)).await?;
        let (hashed, hash) = tail.split_at(tail.len().saturating_sub(32));
        self.0.update(hashed);
        if self.0.finalize().as_bytes() == hash {
            return Ok(());
        }
        let what = "its bytes have another hash than its end says".to_owned();
        Err(PackError::Damaged { object: old.name().to_string(), what }.into())
    }
}
