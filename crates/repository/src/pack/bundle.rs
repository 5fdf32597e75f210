//! Bundles of logs: objects in the form of a pack, sealed and put in one piece.
//!
//! They differ from packs in their name, which is known before they are there; in what their footer says behind its rows, so that
//! whoever may not read data still knows what is archived; and in that they are never rewritten.

use bytes::Bytes;

use super::entry::associated;
use super::fetch::{read, read_footer};
use super::footer::{Tail, parse_tail, seal_footer};
use super::header::{MAGIC, PackHeader, SEALED, flags};
use super::trailer::Trailer;
use super::{EntryRow, EntryType, PackContext, PackError, PackPlace, open_entry};
use crate::chunk::{ChunkHasher, Compressor};
use crate::layout::{PackKind, PackObject};
use crate::seal::key::{Purpose, Sealer, TAG_BYTES};

/// A bundle that was read back whole.
#[derive(Debug)]
pub(crate) struct OpenedBundle {
    /// What its footer says of it.
    pub(crate) description: Vec<u8>,
    /// Its entries in their order.
    pub(crate) entries: Vec<(EntryType, Bytes)>,
}

/// Compresses and seals a bundle: 20 ms a MiB, so it is work for a thread that may take its time.
pub(crate) fn seal_bundle(
    context: &PackContext,
    object: PackObject,
    entries: &[(EntryType, Bytes)],
    description: &[u8],
) -> Bytes {
    let entropy = &*context.entropy;
    let (epoch, master, recipient) = context.keyring.sealing_data();
    let cipher = context.keyring.cipher();
    let kind = PackKind::Log;
    let (seal, mut sealer) = match recipient {
        Some(recipient) => Sealer::fresh_to(&recipient, MAGIC, cipher, flags(kind) | SEALED, epoch, entropy)
            .expect("a ring holds no data key that takes no seals"),
        None => Sealer::fresh(Purpose::Pack, MAGIC, cipher, flags(kind), epoch, &master, entropy),
    };
    let header = PackHeader { seal, kind, pack: object.pack };
    let hasher = ChunkHasher::of_logs(&context.keyring);
    let mut compressor = Compressor::new(Compressor::DEFAULT_LEVEL);
    let mut out = header.encode().to_vec();
    let mut rows = Vec::with_capacity(entries.len());
    for (entry_type, plain) in entries {
        let coded = compressor.compress(plain.clone());
        let offset = out.len() as u64;
        let stored_bytes =
            u32::try_from(coded.bytes.len() + TAG_BYTES).expect("entries of logs have at most some MiB");
        let associated = |number| {
            associated(
                context.repository,
                object.pack,
                number,
                stored_bytes,
                coded.plain_bytes,
                *entry_type,
                coded.codec,
            )
        };
        let number = sealer.seal(associated, &coded.bytes, &mut out);
        let (plain_bytes, codec, id) = (coded.plain_bytes, coded.codec, hasher.id(plain));
        rows.push(EntryRow { number, offset, stored_bytes, plain_bytes, entry_type: *entry_type, codec, id });
    }
    let footer = seal_footer(context, entropy, object, &header, 0, &rows, description);
    let trailer = Trailer::of(&rows, out.len() as u64, &footer);
    out.extend_from_slice(&footer);
    out.extend_from_slice(&trailer.encode());
    let hash = blake3::hash(&out);
    out.extend_from_slice(hash.as_bytes());
    out.into()
}

/// What the footer of a bundle says of it: needs no key to data.
pub(crate) async fn read_description(context: &PackContext, place: PackPlace) -> Result<Vec<u8>, PackError> {
    Ok(read_footer(context, place).await?.description().to_vec())
}

/// Reads and opens a bundle: one request.
pub(crate) async fn open_bundle(context: &PackContext, place: PackPlace) -> Result<OpenedBundle, PackError> {
    let object = || place.name().to_string();
    let whole = read(&*context.store, place, 0, place.bytes).await?;
    let Tail::Footer(footer) = parse_tail(context, place, &whole)? else {
        return Err(PackError::Damaged { object: object(), what: "its footer is longer than itself".into() });
    };
    let mut entries = Vec::with_capacity(footer.rows().len());
    for row in footer.rows() {
        let sealed = footer.sealed(row).ok_or_else(|| PackError::Damaged {
            object: object(),
            what: "an entry lies beyond its end".into(),
        })?;
        entries.push((row.entry_type, open_entry(&footer, row, &sealed)?));
    }
    Ok(OpenedBundle { description: footer.description().to_vec(), entries })
}
