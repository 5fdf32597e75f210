//! Changed blocks, exactly.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::FileExt as _;

use strongroom_proto::control::OpenSnapshotRequest;
use strongroom_proto::csi::{
    BlockMetadata, BlockMetadataType, GetMetadataAllocatedRequest, GetMetadataDeltaRequest,
};
use tonic::Code;

use crate::ground::{Ground, MIB, block, new_volume};

const BLOCK: u64 = 4096;

/// The numbers of the blocks of 4 KiB that `pieces` cover.
fn blocks(pieces: &[BlockMetadata]) -> BTreeSet<u64> {
    pieces
        .iter()
        .flat_map(|piece| {
            let offset = u64::try_from(piece.byte_offset).unwrap();
            let end = offset + u64::try_from(piece.size_bytes).unwrap();
            offset / BLOCK..end.div_ceil(BLOCK)
        })
        .collect()
}

async fn delta(ground: &mut Ground, base: &str, target: &str, from: u64, most: i32) -> Vec<BlockMetadata> {
    let request = GetMetadataDeltaRequest {
        base_snapshot_id: base.into(),
        target_snapshot_id: target.into(),
        starting_offset: i64::try_from(from).unwrap(),
        max_results: most,
        ..Default::default()
    };
    let mut stream = ground.clients.snapshot_metadata.get_metadata_delta(request).await.unwrap().into_inner();
    let mut all = Vec::new();
    while let Some(piece) = stream.message().await.unwrap() {
        assert_eq!(piece.block_metadata_type(), BlockMetadataType::VariableLength);
        assert_eq!(piece.volume_capacity_bytes, i64::try_from(64 * MIB).unwrap());
        assert!(most == 0 || piece.block_metadata.len() <= usize::try_from(most).unwrap());
        all.extend(piece.block_metadata);
    }
    assert!(
        all.windows(2).all(|pair| pair[0].byte_offset + pair[0].size_bytes <= pair[1].byte_offset),
        "ascending"
    );
    all
}

/// A raw volume of 64 MiB, its device, and 100 random blocks written in two rounds with a snapshot after each.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_difference_of_two_snapshots_is_what_was_written_between() {
    let Some(mut ground) = Ground::new("changed blocks").await else { return };
    let mut request = new_volume("raw", 64);
    request.volume_capabilities = vec![block()];
    let id = ground
        .clients
        .controller
        .create_volume(request)
        .await
        .unwrap()
        .into_inner()
        .volume
        .unwrap()
        .volume_id;
    fs::create_dir_all(ground.path("stage/raw")).unwrap();
    fs::create_dir_all(ground.path("pods")).unwrap();
    let mut stage = ground.stage_request(&id, "raw");
    stage.volume_capability = Some(block());
    ground.clients.node.node_stage_volume(stage).await.unwrap();
    let mut publish = ground.publish_request(&id, "raw");
    publish.volume_capability = Some(block());
    let target = std::path::PathBuf::from(&publish.target_path);
    ground.clients.node.node_publish_volume(publish).await.unwrap();
    let device = fs::OpenOptions::new().read(true).write(true).open(&target).unwrap();
    let write = |numbers: &BTreeSet<u64>, byte: u8| {
        for number in numbers {
            device.write_all_at(&[byte; 4096], number * BLOCK).unwrap();
        }
        device.sync_all().unwrap();
    };
    // A small generator of its own: the numbers only have to be scattered.
    let mut seed = 12_345_u64;
    let mut scattered = |count: usize| -> BTreeSet<u64> {
        (0..count)
            .map(|_| {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                (seed >> 33) % (64 * MIB / BLOCK)
            })
            .collect()
    };
    let first = scattered(100);
    write(&first, 1);
    let base = ground.snapshot(&id, "base").await.snapshot_id;
    let second = scattered(100);
    write(&second, 2);
    let newer = ground.snapshot(&id, "newer").await.snapshot_id;

    assert_eq!(blocks(&delta(&mut ground, &base, &newer, 0, 0).await), second);
    assert_eq!(blocks(&delta(&mut ground, &base, &newer, 0, 3).await), second, "in small messages");
    assert!(delta(&mut ground, &base, &base, 0, 0).await.is_empty());
    let middle = 32 * MIB;
    let rest: BTreeSet<u64> = second.iter().copied().filter(|number| number * BLOCK >= middle).collect();
    assert_eq!(blocks(&delta(&mut ground, &base, &newer, middle, 0).await), rest, "taken up in the middle");
    assert!(delta(&mut ground, &base, &newer, 64 * MIB, 0).await.is_empty(), "at the end there is nothing");

    let request = GetMetadataAllocatedRequest { snapshot_id: base.clone(), ..Default::default() };
    let mut stream =
        ground.clients.snapshot_metadata.get_metadata_allocated(request).await.unwrap().into_inner();
    let mut all = Vec::new();
    while let Some(piece) = stream.message().await.unwrap() {
        all.extend(piece.block_metadata);
    }
    assert!(blocks(&all).is_superset(&first), "no block that holds data is left out");

    // The bytes are where the driver says.
    let request = OpenSnapshotRequest { snapshot_id: newer.clone() };
    let opened = ground.clients.driver.open_snapshot(request).await.unwrap().into_inner();
    let image = fs::File::open(&opened.path).unwrap();
    assert_eq!((opened.bytes, image.metadata().unwrap().len()), (64 * MIB, 64 * MIB));
    for number in first.union(&second) {
        let mut bytes = [0; 4096];
        image.read_exact_at(&mut bytes, number * BLOCK).unwrap();
        let expected = if second.contains(number) { 2 } else { 1 };
        assert!(bytes.iter().all(|byte| *byte == expected), "block {number}");
    }
    drop(device);
    ground.unpublish(&id, "raw").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_question_about_changes_that_makes_no_sense_is_refused() {
    let Some(mut ground) = Ground::new("refused questions about changes").await else { return };
    let (one, two) = (ground.volume("one", 64).await.volume_id, ground.volume("two", 64).await.volume_id);
    let (of_one, of_two) =
        (ground.snapshot(&one, "1").await.snapshot_id, ground.snapshot(&two, "2").await.snapshot_id);
    let unknown = "snap-00000000000000000000000000000000".to_owned();
    let cases: [(&str, &str, i64, i32, Code); 7] = [
        ("", &of_one, 0, 0, Code::InvalidArgument),
        (&of_one, "", 0, 0, Code::InvalidArgument),
        (&of_one, &of_two, 0, 0, Code::InvalidArgument),
        (&of_one, &of_one, 0, -1, Code::InvalidArgument),
        (&of_one, &unknown, 0, 0, Code::NotFound),
        (&of_one, &of_one, -1, 0, Code::OutOfRange),
        (&of_one, &of_one, i64::try_from(64 * MIB + 1).unwrap(), 0, Code::OutOfRange),
    ];
    for (base, target, starting_offset, max_results, code) in cases {
        let request = GetMetadataDeltaRequest {
            base_snapshot_id: base.into(),
            target_snapshot_id: target.into(),
            starting_offset,
            max_results,
            ..Default::default()
        };
        let status = ground.clients.snapshot_metadata.get_metadata_delta(request).await.unwrap_err();
        assert_eq!(status.code(), code, "{base} {target} {starting_offset} {max_results}: {status}");
    }
}
