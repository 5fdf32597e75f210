//! Changed blocks: exactly what was written, and enough to rebuild one snapshot from the other.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;

use strongroom_proto::csi::{
    BlockMetadata, BlockMetadataType, GetMetadataAllocatedRequest, GetMetadataAllocatedResponse,
    GetMetadataDeltaRequest, GetMetadataDeltaResponse,
};

use crate::content;
use crate::machine::Machine;
use crate::requests::{self, Kind, MIB};
use crate::volume;

const BLOCK: u64 = 4096;
const SIZE: u64 = 64 * MIB;

/// What both calls stream.
struct Piece {
    kind: BlockMetadataType,
    capacity: i64,
    blocks: Vec<BlockMetadata>,
}

impl From<GetMetadataAllocatedResponse> for Piece {
    fn from(one: GetMetadataAllocatedResponse) -> Self {
        Self {
            kind: one.block_metadata_type(),
            capacity: one.volume_capacity_bytes,
            blocks: one.block_metadata,
        }
    }
}

impl From<GetMetadataDeltaResponse> for Piece {
    fn from(one: GetMetadataDeltaResponse) -> Self {
        Self {
            kind: one.block_metadata_type(),
            capacity: one.volume_capacity_bytes,
            blocks: one.block_metadata,
        }
    }
}

/// The ranges of a whole stream, after looking that it keeps the rules.
#[track_caller]
fn checked(pieces: Vec<impl Into<Piece>>, size: u64, most: usize) -> Vec<(u64, u64)> {
    let mut all: Vec<(u64, u64)> = Vec::new();
    assert!(!pieces.is_empty(), "also an empty list says how large the volume is");
    for piece in pieces {
        let piece: Piece = piece.into();
        assert_eq!(piece.kind, BlockMetadataType::VariableLength, "one type for the whole stream");
        assert_eq!(piece.capacity, i64::try_from(size).unwrap());
        assert!(most == 0 || piece.blocks.len() <= most, "{} in a message of {most}", piece.blocks.len());
        for block in piece.blocks {
            let (offset, bytes) =
                (u64::try_from(block.byte_offset).unwrap(), u64::try_from(block.size_bytes).unwrap());
            assert!(bytes > 0 && offset + bytes <= size, "{block:?}");
            if let Some((before, length)) = all.last() {
                assert!(before + length <= offset, "ascending and without overlap");
            }
            all.push((offset, bytes));
        }
    }
    all
}

#[track_caller]
fn delta(machine: &Machine, base: &str, target: &str, from: u64, most: usize) -> Vec<(u64, u64)> {
    let request = GetMetadataDeltaRequest {
        base_snapshot_id: base.to_owned(),
        target_snapshot_id: target.to_owned(),
        starting_offset: i64::try_from(from).unwrap(),
        max_results: i32::try_from(most).unwrap(),
        ..Default::default()
    };
    checked(machine.stream(request).unwrap(), SIZE, most)
}

#[track_caller]
fn allocated(machine: &Machine, id: &str, from: u64, most: usize) -> Vec<(u64, u64)> {
    let request = GetMetadataAllocatedRequest {
        snapshot_id: id.to_owned(),
        starting_offset: i64::try_from(from).unwrap(),
        max_results: i32::try_from(most).unwrap(),
        ..Default::default()
    };
    checked(machine.stream(request).unwrap(), SIZE, most)
}

/// The numbers of the blocks that `ranges` touch.
fn blocks(ranges: &[(u64, u64)]) -> BTreeSet<u64> {
    ranges.iter().flat_map(|(offset, bytes)| offset / BLOCK..(offset + bytes).div_ceil(BLOCK)).collect()
}

/// The bytes of a snapshot, read from a raw volume that begins with it.
fn bytes_of(machine: &Machine, snapshot: &str, name: &str) -> Vec<u8> {
    let mut request = requests::volume(name, Kind::Block, 64);
    request.volume_content_source = requests::snapshot_source(snapshot);
    let id = volume::create(machine, request).volume_id;
    let target = volume::publish(machine, &id, name, Kind::Block);
    let bytes = fs::read(target).unwrap();
    volume::unpublish(machine, &id, name);
    volume::delete(machine, &id);
    bytes
}

#[test]
fn the_blocks_that_differ_are_those_that_were_written() {
    let Some(mut machine) = Machine::new("changed blocks") else { return };
    let id = volume::small(&machine, "raw", Kind::Block);
    let target = volume::publish(&machine, &id, "raw", Kind::Block);
    let device = File::options().write(true).open(&target).unwrap();
    // Known ranges: whole blocks here and there, pieces of blocks, a long run, the first and the last block.
    let write = |ranges: &[(u64, u64)], seed: u64| {
        for (number, (offset, bytes)) in ranges.iter().enumerate() {
            let content =
                content::bytes(seed + u64::try_from(number).unwrap(), usize::try_from(*bytes).unwrap());
            device.write_all_at(&content, *offset).unwrap();
        }
        device.sync_all().unwrap();
    };
    let first: Vec<(u64, u64)> = (0..100).map(|number| (number * 37 % 1024 * 16 * BLOCK, BLOCK)).collect();
    write(&first, 100);
    let empty = [(0, 1), (5 * MIB, 3 * MIB), (20 * MIB + 1000, 5000), (33 * MIB, BLOCK), (SIZE - 10, 10)];
    let base = volume::snapshot(&machine, &id, "base").snapshot_id;
    write(&empty, 1000);
    let newer = volume::snapshot(&machine, &id, "newer").snapshot_id;

    let changed = delta(&machine, &base, &newer, 0, 0);
    assert_eq!(blocks(&changed), blocks(&empty), "exactly what was written between");
    assert!(
        delta(&machine, &base, &base, 0, 0).is_empty() && delta(&machine, &newer, &newer, 0, 0).is_empty()
    );
    assert!(blocks(&allocated(&machine, &base, 0, 0)).is_superset(&blocks(&first)));
    assert_eq!(
        blocks(&allocated(&machine, &base, 0, 0)),
        blocks(&first),
        "a raw volume holds what was written"
    );

    // The base with the changed ranges of the target is the target; nothing with the allocated ones is it, too.
    let (old, new) = (bytes_of(&machine, &base, "base"), bytes_of(&machine, &newer, "newer"));
    assert_ne!(old, new);
    let apply = |mut onto: Vec<u8>, ranges: &[(u64, u64)]| {
        for (offset, bytes) in ranges {
            let range = usize::try_from(*offset).unwrap()..usize::try_from(offset + bytes).unwrap();
            onto[range.clone()].copy_from_slice(&new[range]);
        }
        blake3::hash(&onto)
    };
    assert_eq!(apply(old, &changed), blake3::hash(&new));
    let zeros = vec![0; usize::try_from(SIZE).unwrap()];
    assert_eq!(apply(zeros, &allocated(&machine, &newer, 0, 0)), blake3::hash(&new));

    // Small messages, and taken up anywhere: the same blocks.
    for most in [1, 2, 7, 100_000] {
        assert_eq!(blocks(&delta(&machine, &base, &newer, 0, most)), blocks(&changed), "{most} in a message");
        assert_eq!(blocks(&allocated(&machine, &base, 0, most)), blocks(&first), "{most} in a message");
    }
    for from in [1, BLOCK, 6 * MIB, 6 * MIB + 1, 20 * MIB + 1000, SIZE - BLOCK, SIZE - 1, SIZE] {
        let rest: BTreeSet<u64> =
            blocks(&changed).into_iter().filter(|block| (block + 1) * BLOCK > from).collect();
        assert_eq!(blocks(&delta(&machine, &base, &newer, from, 2)), rest, "from {from}");
        let rest: BTreeSet<u64> =
            blocks(&first).into_iter().filter(|block| (block + 1) * BLOCK > from).collect();
        assert_eq!(blocks(&allocated(&machine, &base, from, 3)), rest, "from {from}");
    }
    // A caller that was cut off by a dead driver goes on where it stood, message by message.
    let mut collected = Vec::new();
    let mut from = 0;
    loop {
        let request = GetMetadataDeltaRequest {
            base_snapshot_id: base.clone(),
            target_snapshot_id: newer.clone(),
            starting_offset: i64::try_from(from).unwrap(),
            max_results: 1,
            ..Default::default()
        };
        let Some(first) =
            machine.stream(request).unwrap().into_iter().next().filter(|one| !one.block_metadata.is_empty())
        else {
            break;
        };
        let found = checked(vec![first], SIZE, 1);
        from = found[0].0 + found[0].1;
        collected.extend(found);
        machine.restart();
    }
    assert_eq!(blocks(&collected), blocks(&changed));
    drop(device);
    volume::unpublish(&machine, &id, "raw");
    machine.finish();
}

#[test]
fn the_changes_of_a_filesystem_rebuild_it() {
    let Some(machine) = Machine::new("changed blocks of filesystems") else { return };
    let id = volume::small(&machine, "db", Kind::Ext4);
    let target = volume::publish(&machine, &id, "db", Kind::Ext4);
    content::fill(&target, Kind::Ext4, 1);
    let base = volume::snapshot(&machine, &id, "base").snapshot_id;
    content::fill(&target, Kind::Ext4, 2);
    fs::remove_dir_all(target.join("folder 3")).unwrap();
    let newer = volume::snapshot(&machine, &id, "newer").snapshot_id;
    let changed = delta(&machine, &base, &newer, 0, 0);
    assert!(!changed.is_empty());
    let image = |id: &str| fs::read(image_of(&machine, id)).unwrap();
    let (mut rebuilt, new) = (image(&base), image(&newer));
    for (offset, bytes) in changed {
        let range = usize::try_from(offset).unwrap()..usize::try_from(offset + bytes).unwrap();
        rebuilt[range.clone()].copy_from_slice(&new[range]);
    }
    assert_eq!(blake3::hash(&rebuilt), blake3::hash(&new));
    volume::unpublish(&machine, &id, "db");
    machine.finish();
}

/// The file behind a snapshot, found by its id: the only file of the pool that is named so.
fn image_of(machine: &Machine, id: &str) -> std::path::PathBuf {
    let found: Vec<_> = fs::read_dir(machine.path("pool/snapshots"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.to_str().unwrap().contains(id))
        .collect();
    assert_eq!(found.len(), 1, "{found:?}");
    found[0].clone()
}
