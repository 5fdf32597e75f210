//! Looks at every byte of a pack, range after range: its entries, and the hash of its trailer.

use std::sync::Arc;

use bytes::Bytes;

use super::trailer::{HASHED_BYTES, TRAILER_BYTES, Trailer};
use super::{EntryRow, Footer, PackContext, PackError, PackPlace, open_content};

/// Takes the ranges of a pack in order, and says which entries are not what the footer says.
#[derive(Debug)]
pub struct WholeReader {
    footer: Arc<Footer>,
    hasher: Box<blake3::Hasher>,
    /// The last bytes, once they came.
    end: Option<[u8; TRAILER_BYTES]>,
    /// A range is missing, so the hash cannot be compared.
    spoilt: bool,
}

impl WholeReader {
    /// A reader that saw nothing yet.
    #[must_use]
    pub fn new(footer: Arc<Footer>) -> Self {
        Self { footer, hasher: Box::default(), end: None, spoilt: false }
    }

    /// The ranges to ask for: all of the object, cut between entries, each of at least one entry and else at most `most`
    /// bytes. The last ends with the object.
    pub fn ranges(footer: &Footer, most: u64) -> impl Iterator<Item = (u64, u64, Vec<EntryRow>)> + use<> {
        let mut ranges: Vec<(u64, u64, Vec<EntryRow>)> = Vec::new();
        let mut last = (0, 0, Vec::new());
        for row in footer.rows() {
            if row.end() - last.0 > most && !last.2.is_empty() {
                let next = (row.offset, 0, Vec::new());
                ranges.push(std::mem::replace(&mut last, next));
            }
            last.1 = row.end();
            last.2.push(*row);
        }
        last.1 = footer.place().bytes;
        ranges.push(last);
        ranges.into_iter()
    }

    /// Looks at the next range, which begins at `from`; `rows` are its entries. Takes a while: call it where blocking is
    /// allowed.
    pub fn look(&mut self, from: u64, rows: &[EntryRow], bytes: &Bytes) -> Vec<(u32, PackError)> {
        let total = self.footer.place().bytes;
        let to = from + bytes.len() as u64;
        let hashed = total.saturating_sub((TRAILER_BYTES - HASHED_BYTES) as u64).clamp(from, to) - from;
        self.hasher.update(&bytes[..usize::try_from(hashed).unwrap_or(usize::MAX).min(bytes.len())]);
        if to == total {
            self.end = bytes.last_chunk().copied();
        }
        let mut wrong = Vec::new();
        for row in rows {
            let sealed =
                super::fetch::slice(bytes, row.offset.saturating_sub(from), row.end().saturating_sub(from));
            if let Err(error) = open_content(&self.footer, row, &sealed) {
                wrong.push((row.number, error));
            }
        }
        wrong
    }

    /// A range could not be had: the hash of the whole will not be compared.
    pub const fn spoil(&mut self) {
        self.spoilt = true;
    }

    /// After the last range: whether all bytes together are those that were written.
    ///
    /// # Errors
    /// When they are not.
    pub fn finish(self) -> Result<(), PackError> {
        if self.spoilt {
            return Ok(());
        }
        let place = self.footer.place();
        let damaged = |what: String| PackError::Damaged { object: place.name().to_string(), what };
        let end = self.end.ok_or_else(|| damaged("its end is missing".to_owned()))?;
        let (_, hash) = Trailer::parse(&end, place.bytes).map_err(damaged)?;
        if self.hasher.finalize() == hash {
            Ok(())
        } else {
            Err(damaged("its bytes are not those that were written".to_owned()))
        }
    }
}

/// Bytes of a pack's object.
///
/// # Errors
/// When the object is missing or has another size, or the store fails.
pub async fn read_range(
    context: &PackContext,
    place: PackPlace,
    start: u64,
    length: u64,
) -> Result<Bytes, PackError> {
    super::fetch::read(&*context.store, place, start, length).await
}
