//! The footer: the sealed table of a pack's entries.
//!
//! It is a sealed blob ([`crate::seal`], kind 5) under a salt of its own, bound to pack id, object suffix and kind.
//!
//! | offset | bytes | field |
//! |---|---|---|
//! | 0 | 96 | copy of the pack's header |
//! | 96 | 4 | dedup domain, u32; 0 in map packs |
//! | 100 | 4 | how many entries, u32 |
//! | 104 | 48 each | number u32, stored length u32, plain length u32, type u8, codec u8, zero u16, id 32 |
//!
//! | … | … | in bundles of logs only: what is said of the bundle, CBOR (docs/format.md, "Logs") |
//!
//! Rows are in ascending order of number; a missing number is a hole. There are no offsets: the entries lie one after
//! another from byte 96 on, in the order of the rows, so no table can tell of entries that overlap.

use std::fmt;

use bytes::Bytes;
use strongroom_model::{Entropy, RepositoryId};

use super::entry::associated;
use super::header::{PACK_HEADER_BYTES, PackHeader};
use super::trailer::{TRAILER_BYTES, Trailer};
use super::{Delta, EntryRow, EntryType, MAX_ENTRY_BYTES, PackContext, PackError, PackPlace};
use crate::chunk::{ChunkHasher, ChunkId, Codec, decompress};
use crate::keys::{DataKey, Keyring};
use crate::layout::{PackKind, PackObject};
use crate::seal::key::{Opener, Purpose, TAG_BYTES};
use crate::seal::{self, BlobKind, SealError};

const HEAD_BYTES: usize = PACK_HEADER_BYTES + 8;
const ROW_BYTES: usize = 48;

/// The table of a pack's entries, opened, and the means to open them.
pub struct Footer {
    place: PackPlace,
    header: PackHeader,
    domain: u32,
    rows: Vec<EntryRow>,
    /// What is said of a bundle; empty in packs.
    description: Vec<u8>,
    repository: RepositoryId,
    /// `None`: the entries are sealed to a data key that this keyring lacks.
    opener: Option<Opener>,
    /// `None` in another domain's pack: the ids in it are not made with the keys at hand.
    hasher: Option<ChunkHasher>,
    /// The whole object, where reading its end has brought all of it.
    whole: Option<Bytes>,
}

impl Footer {
    /// Which object it is of.
    #[must_use]
    pub const fn place(&self) -> PackPlace {
        self.place
    }

    /// The dedup domain of its chunks.
    #[must_use]
    pub const fn domain(&self) -> u32 {
        self.domain
    }

    /// All rows, in order of number and of offset.
    #[must_use]
    pub fn rows(&self) -> &[EntryRow] {
        &self.rows
    }

    /// The row of an entry; `None` is a hole.
    #[must_use]
    pub fn row(&self, number: u32) -> Option<&EntryRow> {
        // Without holes, the number is the place.
        let guess = usize::try_from(number).ok()?;
        match self.rows.get(guess) {
            Some(row) if row.number == number => Some(row),
            _ => self.rows.binary_search_by_key(&number, |row| row.number).ok().map(|at| &self.rows[at]),
        }
    }

    pub(super) fn found(&self, number: u32) -> Result<&EntryRow, PackError> {
        self.row(number).ok_or_else(|| PackError::Hole { object: self.name(), entry: number })
    }

    /// What is said of a bundle of a log; empty in packs.
    pub(super) fn description(&self) -> &[u8] {
        &self.description
    }

    pub(super) const fn header(&self) -> &PackHeader {
        &self.header
    }

    /// Whether its entries can be opened with the keys at hand.
    #[must_use]
    pub const fn opens(&self) -> bool {
        self.opener.is_some()
    }

    /// The sealed bytes of an entry, where the whole object is at hand.
    pub(super) fn sealed(&self, row: &EntryRow) -> Option<Bytes> {
        let whole = self.whole.as_ref()?;
        let (start, end) = (usize::try_from(row.offset).ok()?, usize::try_from(row.end()).ok()?);
        (end <= whole.len()).then(|| whole.slice(start..end))
    }

    /// All bytes of the object, where reading its end has brought them.
    pub(crate) fn whole(&self) -> Option<Bytes> {
        self.whole.clone()
    }

    /// About how much memory it takes.
    pub(super) fn memory_bytes(&self) -> usize {
        size_of::<Self>()
            + self.rows.len() * size_of::<EntryRow>()
            + self.whole.as_ref().map_or(0, Bytes::len)
    }

    fn name(&self) -> String {
        self.place.name().to_string()
    }
}

impl fmt::Debug for Footer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Footer")
            .field("place", &self.place)
            .field("entries", &self.rows.len())
            .finish_non_exhaustive()
    }
}

/// What the end of an object tells.
pub(super) enum Tail {
    /// All of it.
    Footer(Box<Footer>),
    /// The footer is longer than what was read: read this many bytes from the end.
    Longer(u64),
}

/// Reads the footer from the last bytes of an object.
pub(super) fn parse_tail(context: &PackContext, place: PackPlace, tail: &Bytes) -> Result<Tail, PackError> {
    let object = || place.name().to_string();
    let damaged = |what: String| PackError::Damaged { object: object(), what };
    let end: &[u8; TRAILER_BYTES] =
        tail.last_chunk().ok_or_else(|| damaged(format!("it has only {} bytes", tail.len())))?;
    let (trailer, _) = Trailer::parse(end, place.bytes).map_err(damaged)?;
    let needed = u64::from(trailer.footer_bytes) + TRAILER_BYTES as u64;
    let Some(start) = usize::try_from(needed).ok().and_then(|needed| tail.len().checked_sub(needed)) else {
        let most = BlobKind::PackFooter.limit() + 4096;
        return if needed <= most {
            Ok(Tail::Longer(needed))
        } else {
            Err(damaged(format!("its footer would have {needed} bytes")))
        };
    };
    let sealed = &tail[start..tail.len() - TRAILER_BYTES];
    let refused = |cause: SealError| PackError::Sealed { object: object(), cause };
    let binding = binding(place.kind, place.object);
    let plain = seal::open(&context.keyring, context.repository, BlobKind::PackFooter, &binding, sealed)
        .map_err(refused)?;
    let header = PackHeader::parse(&plain).map_err(refused)?;
    if header.pack != place.object.pack || header.kind != place.kind {
        return Err(damaged("its footer is another pack's".to_owned()));
    }
    let rows = decode_rows(&plain, place.kind, trailer).map_err(|what| match what {
        Refused::Malformed(what) => damaged(what.to_owned()),
        Refused::Unknown(what) => PackError::Unknown { object: object(), what },
    })?;
    let opener = opener(&context.keyring, &header).map_err(refused)?;
    let domain = u32_at(&plain, PACK_HEADER_BYTES);
    let is_foreign = context.keyring.is_foreign(header.seal.epoch);
    Ok(Tail::Footer(Box::new(Footer {
        place,
        header,
        domain,
        description: plain[(HEAD_BYTES + rows.len() * ROW_BYTES).min(plain.len())..].to_vec(),
        rows,
        repository: context.repository,
        opener,
        hasher: (!is_foreign).then(|| hasher(&context.keyring, place.kind, domain)),
        whole: (tail.len() as u64 == place.bytes).then(|| tail.clone()),
    })))
}

/// What opens the entries of a pack; `None` where only an owner can.
fn opener(keyring: &Keyring, header: &PackHeader) -> Result<Option<Opener>, SealError> {
    let epoch = header.seal.epoch;
    if !header.is_sealed() {
        let master = keyring.master(epoch).ok_or(SealError::UnknownEpoch { epoch })?;
        return Opener::derive(Purpose::Pack, &header.seal, &master).map(Some);
    }
    match keyring.data_key(epoch).ok_or(SealError::UnknownEpoch { epoch })? {
        DataKey::Private(key) => Opener::agree(&header.seal, &key).map(Some),
        DataKey::Public(_) => Ok(None),
        // In an open epoch nothing is sealed to a public key.
        DataKey::Master | DataKey::Journal => Err(SealError::WrongKey),
    }
}

fn hasher(keyring: &Keyring, kind: PackKind, domain: u32) -> ChunkHasher {
    match kind {
        PackKind::Data => ChunkHasher::new(keyring, domain),
        PackKind::Map => ChunkHasher::of_maps(keyring),
        PackKind::Log => ChunkHasher::of_logs(keyring),
    }
}

/// Seals a footer for an object, under a fresh salt. What is said of a bundle stands behind the rows; of packs nothing is.
pub(super) fn seal_footer(
    context: &PackContext,
    entropy: &dyn Entropy,
    object: PackObject,
    header: &PackHeader,
    domain: u32,
    rows: &[EntryRow],
    description: &[u8],
) -> Bytes {
    let mut plain = Vec::with_capacity(HEAD_BYTES + rows.len() * ROW_BYTES);
    plain.extend_from_slice(&header.encode());
    plain.extend_from_slice(&domain.to_le_bytes());
    plain.extend_from_slice(&u32::try_from(rows.len()).expect("at most MAX_ENTRIES").to_le_bytes());
    for row in rows {
        for field in [row.number, row.stored_bytes, row.plain_bytes] {
            plain.extend_from_slice(&field.to_le_bytes());
        }
        plain.extend_from_slice(&[row.entry_type as u8, row.codec as u8, 0, 0]);
        plain.extend_from_slice(row.id.bytes());
    }
    plain.extend_from_slice(description);
    let binding = binding(header.kind, object);
    // A footer of another domain's pack, which a sweep writes anew, stays under that domain's keys.
    let (epoch, master) = context.keyring.sealing_for(header.seal.epoch);
    let (ring, repository) = (&context.keyring, context.repository);
    seal::seal_under(
        &master,
        epoch,
        ring.cipher(),
        repository,
        BlobKind::PackFooter,
        &binding,
        &plain,
        entropy,
    )
    .expect("16,384 rows of 48 bytes are far below a footer's limit")
}

/// Pack id, object suffix, kind: the footer belongs to this object and no other.
fn binding(kind: PackKind, object: PackObject) -> [u8; 25] {
    let mut bytes = [0; 25];
    bytes[..16].copy_from_slice(object.pack.bytes());
    bytes[16..24].copy_from_slice(&object.suffix);
    bytes[24] = super::header::flags(kind);
    bytes
}

enum Refused {
    Malformed(&'static str),
    Unknown(String),
}

fn decode_rows(plain: &[u8], kind: PackKind, trailer: Trailer) -> Result<Vec<EntryRow>, Refused> {
    use Refused::{Malformed, Unknown};
    let table = plain.get(HEAD_BYTES..).ok_or(Malformed("its footer is too short"))?;
    let count = u32_at(plain, PACK_HEADER_BYTES + 4);
    let rows_bytes = usize::try_from(count).ok().and_then(|count| count.checked_mul(ROW_BYTES));
    let fits = |bytes: &usize| table.len() == *bytes || (kind == PackKind::Log && table.len() > *bytes);
    let Some(rows_bytes) = rows_bytes.filter(fits).filter(|_| count == trailer.entries) else {
        return Err(Malformed("its footer and its trailer count differently"));
    };
    let table = &table[..rows_bytes];
    let mut rows: Vec<EntryRow> = Vec::with_capacity(table.len() / ROW_BYTES);
    let mut offset = PACK_HEADER_BYTES as u64;
    for bytes in table.chunks_exact(ROW_BYTES) {
        let row = EntryRow {
            number: u32_at(bytes, 0),
            offset,
            stored_bytes: u32_at(bytes, 4),
            plain_bytes: u32_at(bytes, 8),
            entry_type: EntryType::from_byte(bytes[12])
                .ok_or_else(|| Unknown(format!("entries of type {}", bytes[12])))?,
            codec: Codec::from_byte(bytes[13])
                .ok_or_else(|| Unknown(format!("entries of codec {}", bytes[13])))?,
            id: ChunkId::from_bytes(bytes[16..48].try_into().expect("32 of 48")),
        };
        if bytes[14..16] != [0, 0] {
            return Err(Unknown("marks on its entries".to_owned()));
        }
        if row.number >= super::ENTRY_LIMIT {
            return Err(Malformed("an entry's number is out of bounds"));
        }
        if rows.last().is_some_and(|last| last.number >= row.number) {
            return Err(Malformed("its entries are not in order"));
        }
        if row.entry_type.pack_kind() != kind {
            return Err(Malformed("it holds an entry that belongs to another kind of pack"));
        }
        let coded = (row.stored_bytes as usize)
            .checked_sub(TAG_BYTES)
            .ok_or(Malformed("an entry is shorter than its tag"))?;
        let fits = match row.codec {
            Codec::Stored => coded == row.plain_bytes as usize,
            Codec::Zstd => coded < row.plain_bytes as usize,
        };
        if !fits || row.plain_bytes > MAX_ENTRY_BYTES {
            return Err(Malformed("an entry's lengths do not fit each other"));
        }
        offset = row.end();
        rows.push(row);
    }
    if offset == trailer.footer_offset {
        Ok(rows)
    } else {
        Err(Malformed("its entries do not end where its footer begins"))
    }
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("4 bytes"))
}

/// What an entry holds.
#[derive(Debug, Clone)]
pub(crate) enum Content {
    /// The plain bytes, and their id is right.
    Whole(Bytes),
    /// A delta: authentic, but only [`assemble`] can tell whether the chunk is right.
    Delta(Delta),
}

/// Opens one entry that stands for itself: checks its seal, decompresses within bounds, and computes its id again.
///
/// # Errors
/// When the bytes are not those of this row, or it is a delta.
pub fn open_entry(footer: &Footer, row: &EntryRow, sealed: &[u8]) -> Result<Bytes, PackError> {
    match open_content(footer, row, sealed)? {
        Content::Whole(plain) => Ok(plain),
        Content::Delta(_) => {
            Err(damaged(footer, row, "it is a delta, which cannot be a base or part of a map"))
        }
    }
}

/// Opens one entry of any type.
///
/// # Errors
/// When the bytes are not those of this row.
pub(crate) fn open_content(footer: &Footer, row: &EntryRow, sealed: &[u8]) -> Result<Content, PackError> {
    let damaged = |what| damaged(footer, row, what);
    if sealed.len() != row.stored_bytes as usize {
        return Err(damaged("its length is not the one in the table"));
    }
    let associated = associated(
        footer.repository,
        footer.place.object.pack,
        row.number,
        row.stored_bytes,
        row.plain_bytes,
        row.entry_type,
        row.codec,
    );
    let opener = footer.opener.as_ref().ok_or_else(|| PackError::Sealed {
        object: footer.name(),
        cause: SealError::NoDataKey { epoch: footer.header.seal.epoch },
    })?;
    let coded = opener.open(row.number, &associated, sealed).ok_or_else(|| damaged("its seal is broken"))?;
    let plain: Bytes = decompress(row.codec, coded, row.plain_bytes as usize)
        .ok_or_else(|| damaged("it does not decompress"))?
        .into();
    if row.entry_type == EntryType::Delta {
        return Delta::decode(&plain).map(Content::Delta).map_err(damaged);
    }
    // The seal proves who wrote it; the id proves that it is what was asked for, whatever bug wrote it.
    if footer.hasher.as_ref().is_some_and(|hasher| hasher.id(&plain) != row.id) {
        return Err(damaged("its content has another id"));
    }
    Ok(Content::Whole(plain))
}

/// The chunk that a delta and its base make. `footer` and `row` are the delta's.
///
/// # Errors
/// When it is not the chunk that the row names.
pub(crate) fn assemble(
    footer: &Footer,
    row: &EntryRow,
    delta: &Delta,
    base: &[u8],
) -> Result<Bytes, PackError> {
    let chunk =
        delta.onto(base).ok_or_else(|| damaged(footer, row, "its base has another length than its chunk"))?;
    if footer.hasher.as_ref().is_none_or(|hasher| hasher.id(&chunk) == row.id) {
        Ok(chunk.into())
    } else {
        Err(damaged(footer, row, "it and its base make a content with another id"))
    }
}

fn damaged(footer: &Footer, row: &EntryRow, what: &'static str) -> PackError {
    PackError::EntryDamaged { object: footer.name(), entry: row.number, what }
}
