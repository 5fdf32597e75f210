//! Sharing, order, bounds, and what a map costs.

use super::super::writer::WAITING_BYTES;
use super::*;
use crate::chunk::{ChunkHasher, Compressor};
use crate::pack::{EntryType, PackWriter, StoredPack};

/// Chunk n lies in entry n % 1000 of a pack for each thousand.
fn in_order(chunks: std::ops::Range<u64>) -> impl Iterator<Item = (u64, Option<EntryRef>)> {
    chunks.map(|chunk| {
        let pack = PackId::from_bytes(u128::from(chunk / 1000 + 1).to_be_bytes());
        (chunk, Some(EntryRef { pack, entry: u32::try_from(chunk % 1000).unwrap() }))
    })
}

#[tokio::test]
async fn a_delta_writes_only_the_path_to_what_changed() {
    let world = World::new();
    let chunks = 64 * FAN_OUT;
    let base = world.write(chunks, MapBase::Full(None), in_order(0..chunks)).await;
    let before = world.receipts.stored().len();
    let delta = world.write(chunks, MapBase::Delta(base.clone()), [(5 * FAN_OUT + 7, Some(at(9, 0)))]).await;
    let written: Vec<StoredPack> = world.receipts.stored();
    assert_eq!(written.len(), before + 1);
    let pack = world.receipts.get(&delta.root().at.pack).unwrap();
    assert_eq!(pack.entry_count(), 3, "one leaf, one node, one root");
    let changed: Vec<u64> = delta.diff(&base).await.unwrap().into_iter().flatten().collect();
    assert_eq!(changed, [5 * FAN_OUT + 7]);
    assert_eq!(base.diff(&base).await.unwrap(), []);
    assert_eq!(delta.diff_within(&base, 0..5 * FAN_OUT).await.unwrap(), []);
    assert_exact(&delta).await;
}

#[tokio::test]
async fn a_map_that_comes_out_as_its_base_is_the_base_and_nothing_is_written() {
    let world = World::new();
    let chunks = 3 * FAN_OUT + 5;
    let base = world.write(chunks, MapBase::Full(None), in_order(0..chunks)).await;
    let objects = world.store.objects().len();
    for (base_of, changes) in [
        (MapBase::Full(Some(base.clone())), in_order(0..chunks).collect::<Vec<_>>()),
        (MapBase::Delta(base.clone()), in_order(7..9).collect()),
        (MapBase::Delta(base.clone()), Vec::new()),
    ] {
        assert_eq!(world.write(chunks, base_of, changes).await.root(), base.root());
    }
    assert_eq!(world.store.objects().len(), objects);
}

#[tokio::test]
async fn a_terabyte_in_order_is_a_few_megabytes_of_map_and_reads_with_few_requests() {
    let world = World::new();
    let chunks = (1_u64 << 40) / u64::from(CHUNK_BYTES);
    let mut writer = world.writer(chunks, MapBase::Full(None));
    // One chunk in sixteen leaves is enough to make every leaf: the cost is per leaf.
    for leaf in 0..chunks / FAN_OUT {
        writer.set(leaf * FAN_OUT, Some(at(1, u32::try_from(leaf % 1000).unwrap()))).await.unwrap();
    }
    let written = writer.finish().await.unwrap();
    let bytes: u64 = world.receipts.stored().iter().map(StoredPack::bytes).sum();
    assert!(bytes < 4 << 20, "{bytes}");
    let reader = world.open(written.root).await;
    let before = world.store.requests();
    assert_eq!(reader.runs(0..u64::MAX).await.unwrap().len(), 16_384);
    let requests = world.store.requests() - before;
    assert!(requests < 40, "{requests}");
}

#[tokio::test]
async fn an_empty_volume_has_a_map() {
    let world = World::new();
    for chunks in [0, 1, 5000] {
        let reader = world.write(chunks, MapBase::Full(None), []).await;
        assert_eq!((reader.runs(0..chunks).await.unwrap().len(), reader.get(0).await.unwrap()), (0, None));
        assert_exact(&reader).await;
    }
}

#[tokio::test]
async fn chunks_out_of_order_or_outside_are_refused() {
    let world = World::new();
    let mut writer = world.writer(10, MapBase::Full(None));
    writer.set(5, Some(at(1, 1))).await.unwrap();
    for chunk in [5, 4, 10, u64::MAX] {
        assert!(matches!(
            writer.set(chunk, None).await,
            Err(MapError::Order { expected: 6, chunks: 10, .. })
        ));
    }
    let spec = MapSpec { volume_bytes: u64::MAX, chunk_bytes: 4096 };
    let writer = MapWriter::new(
        world.context.clone(),
        PackSettings::default(),
        Receipts::new(),
        spec,
        MapBase::Full(None),
    );
    assert!(matches!(writer, Err(MapError::TooLarge { .. })));
}

#[tokio::test]
async fn nothing_of_a_map_is_put_before_the_data_that_it_names() {
    let world = World::new();
    let mut data = PackWriter::new(
        world.context.clone(),
        PackKind::Data,
        PackSettings::default(),
        world.receipts.clone(),
    );
    let hasher = ChunkHasher::new(&world.context.keyring, 0);
    let mut compressor = Compressor::default();
    let mut map = world.writer(4 * FAN_OUT, MapBase::Full(None));
    for leaf in 0..4_u64 {
        let plain = bytes::Bytes::from(leaf.to_le_bytes().to_vec());
        let at = data.push(hasher.id(&plain), EntryType::Chunk, compressor.compress(plain)).await.unwrap();
        map.set(leaf * FAN_OUT, Some(at)).await.unwrap();
    }
    assert_eq!(map.waiting.len(), 3);
    let mut unfinished = world.writer(4 * FAN_OUT, MapBase::Full(None));
    unfinished.set(0, Some(data.next_at())).await.unwrap();
    assert!(matches!(unfinished.finish().await, Err(MapError::NotStored { .. })));
    assert!(world.store.objects().is_empty());
    data.finish().await.unwrap();
    let written = map.finish().await.unwrap();
    assert_exact(&world.open(written.root).await).await;
}

#[tokio::test]
async fn leaves_that_wait_for_too_long_make_the_data_writer_close_its_pack() {
    let world = World::new();
    let mut data = PackWriter::new(
        world.context.clone(),
        PackKind::Data,
        PackSettings::default(),
        world.receipts.clone(),
    );
    let hasher = ChunkHasher::new(&world.context.keyring, 0);
    let mut map = world.writer(1 << 20, MapBase::Full(None));
    let mut most = 0;
    for leaf in 0..800_u64 {
        let plain = bytes::Bytes::from(leaf.to_le_bytes().to_vec());
        let compressed = crate::chunk::Compressed::stored(plain.clone());
        let new = data.push(hasher.id(&plain), EntryType::Chunk, compressed).await.unwrap();
        map.set(leaf * FAN_OUT, Some(new)).await.unwrap();
        // The rest of the leaf was known: scattered, so that the leaf is large.
        for step in 1..FAN_OUT {
            let known = at(u8::try_from(step % 200).unwrap(), u32::try_from(step).unwrap());
            map.set(leaf * FAN_OUT + step, Some(known)).await.unwrap();
        }
        most = most.max(map.waiting_bytes);
    }
    assert!(most < 2 * WAITING_BYTES, "{most}");
    data.finish().await.unwrap();
    map.finish().await.unwrap();
}

#[tokio::test]
async fn the_walk_of_all_points_reads_each_shared_node_once() {
    let world = World::new();
    let chunks = 8 * FAN_OUT;
    let first = world.write(chunks, MapBase::Full(None), in_order(0..chunks)).await;
    let second = world.write(chunks, MapBase::Delta(first.clone()), [(3, Some(at(9, 4)))]).await;
    let mut needed = EntrySet::new();
    first.walk(&mut needed).await.unwrap();
    assert!(!needed.contains(at(9, 4)));
    second.walk(&mut needed).await.unwrap();
    assert!(
        needed.contains(at(9, 4)) && needed.contains(first.root().at) && needed.contains(second.root().at)
    );
    let mut alone = EntrySet::new();
    second.walk(&mut alone).await.unwrap();
    assert!(!alone.contains(first.root().at));
    let replaced = EntryRef { pack: PackId::from_bytes(1_u128.to_be_bytes()), entry: 3 };
    assert!(needed.contains(replaced) && !alone.contains(replaced));
}

#[tokio::test]
async fn a_root_that_is_no_root_is_refused() {
    let world = World::new();
    let map = world.write(10, MapBase::Full(None), [(0, Some(at(1, 1)))]).await;
    let source = Source {
        fetcher: PackFetcher::new(world.context.clone(), 1 << 20),
        receipts: world.receipts.clone(),
    };
    let leaf = MapRoot { at: EntryRef { entry: 0, ..map.root().at } };
    assert!(matches!(MapReader::open(Arc::new(source), leaf).await, Err(MapError::Malformed { .. })));
}
