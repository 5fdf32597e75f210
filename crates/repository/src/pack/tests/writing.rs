//! Writing, and reading back.

use proptest::prelude::*;

use super::*;
use crate::chunk::Compressed;
use crate::store::PART_BYTES;

#[tokio::test]
async fn what_was_pushed_comes_back_and_a_small_pack_is_one_put_and_one_read() {
    let store = MemoryStore::default();
    let context = context(&store, 2);
    let chunks: Vec<Bytes> = (0..3).map(|seed| content(seed, 4096)).collect();
    let (places, packs) = write(&context, PackSettings::default(), &chunks).await.unwrap();
    assert_eq!((packs.len(), store.requests()), (1, 1));
    assert_eq!(store.objects()[packs[0].place().name().as_str()].len() as u64, packs[0].bytes());
    let expected: Vec<_> = places.iter().copied().zip(chunks.iter().cloned()).collect();
    read_all(&context, &packs, &expected).await.unwrap();
    assert_eq!(store.requests(), 2, "a small pack comes whole with its footer");
    let listed: Vec<_> = packs[0].entries().collect();
    let pushed: Vec<_> = chunks.iter().map(|chunk| id_of(&context, chunk)).zip(places).collect();
    assert_eq!(listed, pushed);
}

#[tokio::test]
async fn packs_end_at_their_target_and_large_ones_go_in_parts() {
    let store = MemoryStore::default();
    let context = context(&store, 2);
    let noise: Vec<Bytes> = (0..9)
        .map(|seed: u64| {
            let mut bytes = vec![0; 2 << 20];
            blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
            bytes.into()
        })
        .collect();
    let settings = PackSettings { target_bytes: 12 << 20, parts_in_flight: 2, domain: 0 };
    let (places, packs) = write(&context, settings, &noise).await.unwrap();
    let mut sizes: Vec<u64> = packs.iter().map(StoredPack::bytes).collect();
    sizes.sort_unstable();
    assert_eq!(sizes.len(), 2);
    assert!(sizes[1] >= 12 << 20 && sizes[1] < 13 << 20 && sizes[0] < 8 << 20, "{sizes:?}");
    // Large: begin, two parts, complete, look at the size. Small: one put.
    assert_eq!(store.requests(), 6);
    let expected: Vec<_> = places.into_iter().zip(noise).collect();
    read_all(&context, &packs, &expected).await.unwrap();
}

#[tokio::test]
async fn an_entry_larger_than_a_part_and_one_of_no_bytes_come_back() {
    let store = MemoryStore::default();
    let context = context(&store, 2);
    let mut large = vec![0; 2 * PART_BYTES + 7];
    blake3::Hasher::new().finalize_xof().fill(&mut large);
    let chunks = [Bytes::from(large), Bytes::new(), Bytes::from_static(b"x")];
    let (places, packs) = write(&context, PackSettings::default(), &chunks).await.unwrap();
    let expected: Vec<_> = places.into_iter().zip(chunks).collect();
    read_all(&context, &packs, &expected).await.unwrap();
}

#[tokio::test]
async fn a_pack_of_very_many_entries_is_closed_and_its_long_footer_takes_a_second_read() {
    let store = MemoryStore::default();
    let context = context(&store, 2);
    let chunks: Vec<Bytes> = (0..=MAX_ENTRIES).map(|n| Bytes::copy_from_slice(&n.to_le_bytes())).collect();
    let (places, packs) = write(&context, PackSettings::default(), &chunks).await.unwrap();
    assert_eq!(packs.iter().map(StoredPack::entry_count).sum::<u32>(), MAX_ENTRIES + 1);
    assert_eq!((packs.len(), places[MAX_ENTRIES as usize].entry), (2, 0));
    let before = store.requests();
    let big = packs.iter().find(|pack| pack.entry_count() == MAX_ENTRIES).unwrap();
    let footer = read_footer(&context, big.place()).await.unwrap();
    assert_eq!((footer.rows().len(), store.requests() - before), (MAX_ENTRIES as usize, 2));
}

#[tokio::test]
async fn the_next_place_is_known_before_the_entry_and_pending_entries_are_found() {
    let store = MemoryStore::default();
    let context = context(&store, 2);
    let receipts = Receipts::new();
    let settings = PackSettings { target_bytes: 10_000, ..PackSettings::default() };
    let mut writer = PackWriter::new(context.clone(), PackKind::Data, settings, receipts.clone());
    for seed in 0..20 {
        let chunk = content(seed, 4096);
        let id = id_of(&context, &chunk);
        let next = writer.next_at();
        assert_eq!(writer.push(id, EntryType::Chunk, Compressed::stored(chunk)).await.unwrap(), next);
        assert!(writer.pending(&id) == Some(next) || receipts.get(&next.pack).is_some());
    }
    writer.flush().await.unwrap();
    assert!((0..20).all(|seed| writer.pending(&id_of(&context, &content(seed, 4096))).is_none()));
    let stored = receipts.stored();
    assert_eq!(stored.len(), 7);
    assert!(stored.iter().all(|receipt| !receipts.is_under_way(&receipt.pack())));
    let note = StoredPack::from_note(&stored[0].to_note()).unwrap();
    assert_eq!(note, stored[0]);
    assert!((0..60).all(|at| {
        let mut torn = stored[0].to_note();
        torn[at] ^= 1;
        StoredPack::from_note(&torn).is_err()
    }));
}

#[tokio::test]
async fn a_store_that_takes_nothing_stops_the_writer_before_it_holds_too_much() {
    use futures::FutureExt as _;
    let store = MemoryStore::default();
    let context = context(&store, 2);
    let settings = PackSettings { parts_in_flight: 2, ..PackSettings::default() };
    let mut writer = PackWriter::new(context.clone(), PackKind::Data, settings, Receipts::new());
    let mut pushed = 0;
    // Nothing here yields, so no upload makes a step: the store takes nothing.
    let error = loop {
        let mut noise = vec![0; 1 << 20];
        blake3::Hasher::new().update(&[pushed]).finalize_xof().fill(&mut noise);
        let noise = Bytes::from(noise);
        match writer
            .push(id_of(&context, &noise), EntryType::Chunk, Compressed::stored(noise.clone()))
            .now_or_never()
        {
            Some(Ok(_)) => pushed += 1,
            None => break writer.flush().await.unwrap_err(),
            Some(Err(error)) => panic!("{error}"),
        }
    };
    assert!((22..25).contains(&pushed), "{pushed} MiB for 2 parts on the way and one that fills");
    assert!(matches!(error, WriteError::BrokenOff), "who gave up waiting cannot go on: {error}");
}

#[tokio::test]
async fn a_failing_store_gives_no_receipt_and_the_writer_says_so_for_ever() {
    for writes in 0..5 {
        let store = MemoryStore::default();
        let context = context(&store, 2);
        store.fail_after(writes);
        let receipts = Receipts::new();
        let mut writer =
            PackWriter::new(context.clone(), PackKind::Data, PackSettings::default(), receipts.clone());
        let mut error = None;
        for seed in 0..20 {
            let mut noise = vec![0; 1 << 20];
            blake3::Hasher::new().update(&[seed]).finalize_xof().fill(&mut noise);
            let noise = Bytes::from(noise);
            if let Err(failed) =
                writer.push(id_of(&context, &noise), EntryType::Chunk, Compressed::stored(noise)).await
            {
                error = Some(failed);
                break;
            }
        }
        let failed = writer.flush().await.unwrap_err();
        assert!(matches!(failed, WriteError::Store { .. }), "{failed:?} after {error:?}");
        assert!(writer.flush().await.is_err());
        assert_eq!((receipts.stored().len(), store.objects().len()), (0, 0));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn any_chunks_come_back(lengths in prop::collection::vec(0_usize..5000, 1..60), target in 500_u64..60_000, domain: u32) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let store = MemoryStore::default();
            let context = context(&store, 3);
            let chunks: Vec<Bytes> = lengths.iter().enumerate().map(|(seed, bytes)| content(seed as u64, *bytes)).collect();
            let settings = PackSettings { target_bytes: target, parts_in_flight: 1, domain };
            let (places, packs) = write(&context, settings, &chunks).await.unwrap();
            let expected: Vec<_> = places.into_iter().zip(chunks).collect();
            read_all(&context, &packs, &expected).await.unwrap();
            for pack in &packs {
                scrub(&*context.store, pack.kind(), pack.object(), pack.bytes()).await.unwrap();
            }
        });
    }
}
