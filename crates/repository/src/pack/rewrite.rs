//! Copies what is still needed of a pack to a fresh object.

use std::collections::BTreeSet;
use std::sync::Arc;

use tokio::sync::Semaphore;

use super::fetch::{read, slice, spans};
use super::footer::seal_footer;
use super::object::ObjectWriter;
use super::trailer::Trailer;
use super::{EntryRow, PackContext, PackPlace, RewriteError, StoredPack, open_entry, read_footer};
use crate::layout::{ObjectName, PackObject};
#[cfg(test)]
use crate::rules::{Rule, holds};

/// Parts on the way beside the one that is filled and the span that is read: together at most 32 MiB.
const PARTS_IN_FLIGHT: usize = 2;

/// Copies the entries of a pack, but for `holes`, to a fresh object of the same pack: sealed bytes, salt and numbers
/// unchanged, and a footer sealed anew under a salt of its own.
///
/// Every copied entry is opened and checked on the way, so that damage is never given a fresh hash.
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
    for span in spans(&kept) {
        let (start, end) = (span[0].offset, span[span.len() - 1].end());
        let bytes = read(&*context.store, old, start, end - start).await?;
        for row in span {
            let sealed = slice(&bytes, row.offset - start, row.end() - start);
            open_entry(&footer, row, &sealed)?;
            rows.push(EntryRow { offset: out.len(), ..*row });
            plain_bytes += u64::from(row.plain_bytes);
            out.buffer.extend_from_slice(&sealed);
            out.settle().await?;
        }
    }
    let sealed = seal_footer(context, &*context.entropy, object, footer.header(), footer.domain(), &rows);
    let trailer = Trailer::of(&rows, out.len(), &sealed);
    out.buffer.extend_from_slice(&sealed);
    let bytes = out.close(trailer).await?.await?;
    let entries = rows.iter().map(|row| (row.number, row.id)).collect();
    Ok(StoredPack { object, kind: old.kind, bytes, entry_count: trailer.entries, plain_bytes, entries })
}
