//! Damage on purpose: each region of a pack, flipped, cut, exchanged.

use std::ops::Range;

use super::*;
use crate::chunk::Codec;
use crate::layout::ObjectName;

struct Stored {
    store: MemoryStore,
    context: PackContext,
    pack: StoredPack,
    chunks: Vec<Bytes>,
    bytes: Vec<u8>,
}

async fn stored() -> Stored {
    let store = MemoryStore::default();
    let context = context(&store, 2);
    let chunks: Vec<Bytes> = (0..4).map(|seed| content(seed, 600)).collect();
    let (_, mut packs) = write(&context, PackSettings::default(), &chunks).await.unwrap();
    let pack = packs.pop().unwrap();
    let bytes = store.objects()[pack.place().name().as_str()].to_vec();
    Stored { store, context, pack, chunks, bytes }
}

impl Stored {
    fn name(&self) -> ObjectName {
        self.pack.place().name()
    }

    async fn read(&self) -> Result<Vec<Bytes>, PackError> {
        let fetcher = PackFetcher::new(self.context.clone(), 1 << 20);
        let mut read = Vec::new();
        for number in 0..4 {
            read.push(fetcher.entry(self.pack.place(), number).await?.plain);
        }
        Ok(read)
    }

    async fn scrub(&self) -> Result<Scrubbed, PackError> {
        scrub(&*self.context.store, self.pack.kind(), self.pack.object(), self.pack.bytes()).await
    }

    fn regions(&self) -> Vec<(&'static str, Range<usize>)> {
        let end = self.bytes.len();
        let footer =
            usize::try_from(u64::from_le_bytes(self.bytes[end - 48..end - 40].try_into().unwrap())).unwrap();
        vec![
            ("header", 0..96),
            ("entries", 96..footer),
            ("footer", footer..end - 64),
            ("trailer", end - 64..end),
        ]
    }
}

#[tokio::test]
async fn every_flipped_bit_is_noticed_by_the_scrub_and_none_gives_wrong_bytes() {
    let stored = stored().await;
    assert_eq!(stored.scrub().await.unwrap(), Scrubbed { bytes: stored.pack.bytes(), entries: 4 });
    for (region, range) in stored.regions() {
        for byte in range {
            let mut bad = stored.bytes.clone();
            bad[byte] ^= 1 << (byte % 8);
            stored.store.damage(&stored.name(), bad);
            let scrubbed = stored.scrub().await;
            assert!(scrubbed.is_err(), "{region}: the scrub missed byte {byte}");
            match (region, stored.read().await) {
                // The header is repeated in the footer, and the hash is for the scrub: reading works without either.
                ("header" | "trailer", Ok(chunks)) => assert_eq!(chunks, stored.chunks),
                (_, Ok(_)) => panic!("{region}: reading missed byte {byte}"),
                (_, Err(error)) => assert!(error.to_string().contains(stored.name().as_str()), "{error}"),
            }
        }
    }
}

#[tokio::test]
async fn a_cut_a_longer_a_missing_and_an_exchanged_object_are_told_apart() {
    let stored = stored().await;
    for cut in [0, 1, 63, 64, 100, stored.bytes.len() - 1] {
        stored.store.damage(&stored.name(), stored.bytes[..cut].to_vec());
        for error in [stored.read().await.unwrap_err(), stored.scrub().await.unwrap_err()] {
            assert!(matches!(error, PackError::Damaged { .. }), "cut to {cut}: {error}");
        }
    }
    stored.store.damage(&stored.name(), [&stored.bytes[..], b"more"].concat());
    assert_eq!(stored.read().await.unwrap(), stored.chunks, "what stands behind the pack is never looked at");

    let other = PackContext { entropy: Arc::new(SeededEntropy::new(77)), ..stored.context.clone() };
    let (_, packs) = write(&other, PackSettings::default(), &stored.chunks).await.unwrap();
    let swapped = stored.store.objects()[packs[0].place().name().as_str()].clone();
    assert_eq!(swapped.len(), stored.bytes.len(), "the same content has the same size");
    stored.store.damage(&stored.name(), swapped);
    assert!(matches!(stored.read().await, Err(PackError::Sealed { .. })));
    assert!(stored.scrub().await.unwrap_err().to_string().contains("another pack"));

    let missing = MemoryStore::default();
    let context = PackContext { store: Arc::new(missing), ..stored.context.clone() };
    let error = read_footer(&context, stored.pack.place()).await.unwrap_err();
    assert!(matches!(error, PackError::Missing { .. }) && error.may_have_moved());
}

#[tokio::test]
async fn an_object_under_the_name_of_another_object_of_the_same_pack_is_noticed() {
    let stored = stored().await;
    let new = rewrite(&stored.context, stored.pack.place(), &[0].into()).await.unwrap();
    stored.store.damage(&new.place().name(), stored.bytes.clone());
    let place = PackPlace { bytes: stored.pack.bytes(), ..new.place() };
    assert!(matches!(read_footer(&stored.context, place).await, Err(PackError::Sealed { .. })));
}

#[tokio::test]
async fn a_row_cannot_be_used_for_other_bytes() {
    let stored = stored().await;
    let footer = read_footer(&stored.context, stored.pack.place()).await.unwrap();
    let sealed = |row: &EntryRow| footer.sealed(row).unwrap();
    let (first, second) = (footer.rows()[0], footer.rows()[1]);
    assert!(open_entry(&footer, &first, &sealed(&first)).is_ok());
    for wrong in [
        EntryRow { number: 1, ..first },
        EntryRow { plain_bytes: first.plain_bytes + 1, ..first },
        EntryRow { codec: if first.codec == Codec::Zstd { Codec::Stored } else { Codec::Zstd }, ..first },
        EntryRow { id: second.id, ..first },
        EntryRow { entry_type: EntryType::MapLeaf, ..first },
        EntryRow { entry_type: EntryType::Delta, ..first },
    ] {
        assert!(
            matches!(open_entry(&footer, &wrong, &sealed(&first)), Err(PackError::EntryDamaged { .. })),
            "{wrong:?}"
        );
    }
    assert!(open_entry(&footer, &second, &sealed(&first)).is_err());
    assert!(open_entry(&footer, &first, b"").is_err());
}

#[tokio::test]
async fn another_repositorys_key_opens_nothing() {
    let stored = stored().await;
    let keyring = Arc::new(Keyring::generate(&SeededEntropy::new(99)));
    let context = PackContext { keyring, ..stored.context.clone() };
    assert!(matches!(read_footer(&context, stored.pack.place()).await, Err(PackError::Sealed { .. })));
}
