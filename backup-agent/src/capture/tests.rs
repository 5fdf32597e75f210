//! Volumes go through the rooms and come back; and what happens when a room fails.
#![expect(clippy::cast_possible_truncation, reason = "the volumes of these tests fit into memory")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use proptest::prelude::*;
use strongroom_block_io::{BlockIoError, BlockSource, Fault, Faulty, MemoryVolume, Ranges};
use strongroom_model::ByteRange;
use strongroom_object_store::faulty::{Failing, Fault as StoreFault, Rule};
use strongroom_object_store::record::Verb;
use strongroom_repository::map::{MapReader, WrittenMap};
use strongroom_repository::store::ObjectStore as _;
use strongroom_repository::sweep::SweepOptions;
use strongroom_repository::{Draft, DraftMap, Point, PublishError};
use tokio_util::sync::CancellationToken;

use super::*;
use crate::testing::{Bench, CHUNK, info, noise};

fn listed(ranges: &[(usize, usize)]) -> Changes {
    let ranges: Vec<_> = ranges
        .iter()
        .map(|(start, length)| Ok(ByteRange::at(*start as u64, *length as u64).unwrap()))
        .collect();
    Box::new(ranges.into_iter())
}

struct Captured {
    map: WrittenMap,
    tally: Tally,
    sent_bytes: u64,
    session: Arc<Session>,
}

async fn try_capture(
    bench: &Bench,
    source: Arc<dyn BlockSource>,
    scope: Scope,
    cancel: CancellationToken,
) -> Result<Captured, CaptureError> {
    let session = Arc::new(bench.repository.open_session("test").await.unwrap());
    let meter = Arc::new(Meter::new());
    let before: u64 = session.receipts().stored().iter().map(|pack| pack.bytes()).sum();
    let map = capture(Capture {
        repository: bench.repository.clone(),
        session: Arc::clone(&session),
        source,
        scope,
        budget: Budget::new(0),
        meter: Arc::clone(&meter),
        cancel,
    })
    .await?;
    let after: u64 = session.receipts().stored().iter().map(|pack| pack.bytes()).sum();
    Ok(Captured { map, tally: meter.tally(), sent_bytes: after - before, session })
}

async fn captured(bench: &Bench, content: &[u8], scope: Scope) -> Captured {
    let source = Arc::new(MemoryVolume::with(content.to_vec()));
    try_capture(bench, source, scope, CancellationToken::new()).await.unwrap()
}

/// Makes a point of it.
async fn publish(bench: &Bench, captured: &Captured, parent: Option<Point>) -> Result<Point, PublishError> {
    let draft = Draft {
        volume: "v".parse().unwrap(),
        parent,
        map: DraftMap::Written(captured.map.clone()),
        info: info(captured.map.head.volume_bytes),
    };
    let published = captured.session.publish(draft, true).await?;
    Ok(bench.repository.fold().await.unwrap().points[&published.point].clone())
}

async fn map_of(bench: &Bench, point: &Point) -> MapReader {
    bench.repository.map(point).await.unwrap()
}

/// Noise, zeros, text that compresses, the same again, and an end off the grid.
fn mixture() -> Vec<u8> {
    let mut content = noise(1, 5 * CHUNK);
    content.extend(vec![0; 40 * CHUNK]);
    content.extend("all work and no play ".repeat(20_000).bytes());
    content.resize(content.len().next_multiple_of(CHUNK), 7);
    content.extend(noise(1, 5 * CHUNK));
    content.extend(noise(2, 12_345));
    content
}

#[tokio::test(flavor = "multi_thread")]
async fn a_volume_comes_back_bit_exact() {
    let bench = Bench::new().await;
    let content = mixture();
    let captured = captured(&bench, &content, Scope::Allocated(None)).await;
    let point = publish(&bench, &captured, None).await.unwrap();
    assert!(bench.restore_point(&point).await == content);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chunk_that_comes_twice_is_stored_once_and_zeros_not_at_all() {
    let bench = Bench::new().await;
    let content = mixture();
    let captured = captured(&bench, &content, Scope::Allocated(None)).await;
    let nonzero_twice = 5 * CHUNK;
    let zeros = 40 * CHUNK;
    assert_eq!(captured.tally.new_bytes as usize, content.len() - nonzero_twice - zeros);
    assert_eq!(captured.tally.scanned_bytes as usize, content.len() - zeros);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unchanged_volume_that_is_compared_has_the_map_of_its_parent_and_sends_nothing() {
    let bench = Bench::new().await;
    let content = mixture();
    let first = captured(&bench, &content, Scope::Allocated(None)).await;
    let point = publish(&bench, &first, None).await.unwrap();
    let second = captured(&bench, &content, Scope::Allocated(Some(map_of(&bench, &point).await))).await;
    assert_eq!(second.map.root, first.map.root);
    assert_eq!((second.tally.changed_bytes, second.tally.new_bytes, second.sent_bytes), (0, 0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delta_reads_only_what_changed_and_equals_a_full_capture() {
    let bench = Bench::new().await;
    let mut content = mixture();
    let point =
        publish(&bench, &captured(&bench, &content, Scope::Allocated(None)).await, None).await.unwrap();
    let parent = map_of(&bench, &point).await;

    content[3 * CHUNK + 5..3 * CHUNK + 9].copy_from_slice(b"diff");
    content[20 * CHUNK..21 * CHUNK].copy_from_slice(&noise(9, CHUNK));
    content[..CHUNK].fill(0);
    let changes = listed(&[(0, CHUNK), (3 * CHUNK, 4096), (20 * CHUNK, CHUNK)]);
    let delta = captured(&bench, &content, Scope::Delta(changes, parent.clone())).await;
    assert_eq!(delta.tally.scanned_bytes as usize, 3 * CHUNK);
    assert_eq!(delta.tally.changed_bytes as usize, 3 * CHUNK);
    // A chunk that is new, and one of which a block is.
    assert_eq!(delta.tally.new_bytes as usize, CHUNK + 4096 + 26);
    let second = publish(&bench, &delta, Some(point.clone())).await.unwrap();
    assert!(bench.restore_point(&second).await == content);
    assert!(bench.restore_point(&point).await == mixture(), "the point before is what it was");

    let full = captured(&bench, &content, Scope::Allocated(Some(map_of(&bench, &second).await))).await;
    assert_eq!(full.map.root, delta.map.root);
    let compared = captured(&bench, &content, Scope::Allocated(Some(parent))).await;
    assert_eq!(compared.tally.changed_bytes as usize, 3 * CHUNK);
    // Nobody but the map of its own parent knows a delta.
    assert_eq!(compared.tally.new_bytes as usize, CHUNK);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_deallocated_since_the_parent_counts_as_changed_and_reads_as_zeros() {
    let bench = Bench::new().await;
    let mut content = noise(3, 100 * CHUNK);
    let point =
        publish(&bench, &captured(&bench, &content, Scope::Allocated(None)).await, None).await.unwrap();
    content[10 * CHUNK..60 * CHUNK].fill(0);
    content[70 * CHUNK..].fill(0);
    let second = captured(&bench, &content, Scope::Allocated(Some(map_of(&bench, &point).await))).await;
    assert_eq!(second.tally.changed_bytes as usize, 80 * CHUNK);
    let second = publish(&bench, &second, Some(point)).await.unwrap();
    assert!(bench.restore_point(&second).await == content);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_volume_that_grew_or_shrank_off_the_grid_is_right_at_its_old_end() {
    let bench = Bench::new().await;
    let content = noise(4, 2 * CHUNK + 8192);
    let point =
        publish(&bench, &captured(&bench, &content, Scope::Allocated(None)).await, None).await.unwrap();
    let mut grown = content.clone();
    grown.resize(4 * CHUNK, 0);
    grown[3 * CHUNK..].copy_from_slice(&noise(5, CHUNK));
    let changes = listed(&[(3 * CHUNK, CHUNK)]);
    let second = captured(&bench, &grown, Scope::Delta(changes, map_of(&bench, &point).await)).await;
    let second = publish(&bench, &second, Some(point)).await.unwrap();
    assert!(bench.restore_point(&second).await == grown);
    let shrunk = &grown[..CHUNK + 4096];
    let third = captured(&bench, shrunk, Scope::Delta(listed(&[]), map_of(&bench, &second).await)).await;
    let third = publish(&bench, &third, Some(second)).await.unwrap();
    assert!(bench.restore_point(&third).await == shrunk);
}

#[tokio::test(flavor = "multi_thread")]
async fn content_that_is_stored_twice_does_not_make_an_unchanged_volume_differ() {
    let mut bench = Bench::new().await;
    let content = noise(6, 8 * CHUNK);
    let first =
        publish(&bench, &captured(&bench, &content, Scope::Allocated(None)).await, None).await.unwrap();
    // A machine without the index stores the same once more.
    bench.dir = tempfile::tempdir().unwrap();
    bench.reopen().await;
    let again = captured(&bench, &content, Scope::Allocated(None)).await;
    let _ = publish(&bench, &again, None).await.unwrap();
    let compared = captured(&bench, &content, Scope::Allocated(Some(map_of(&bench, &first).await))).await;
    assert_eq!(compared.map.root, first.map);
    assert_eq!(compared.tally.changed_bytes, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_error_is_the_answer_and_nothing_is_published() {
    let bench = Bench::new().await;
    let source = Faulty::new(MemoryVolume::with(noise(7, 40 * CHUNK)));
    source.add(Fault::Read(ByteRange::at(33 * CHUNK as u64, 1).unwrap()));
    let error =
        try_capture(&bench, Arc::new(source), Scope::Allocated(None), CancellationToken::new()).await.err();
    assert!(matches!(error, Some(CaptureError::Read(_))), "{error:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_of_changes_that_breaks_off_is_never_taken_for_all() {
    let bench = Bench::new().await;
    let content = noise(8, 40 * CHUNK);
    let point =
        publish(&bench, &captured(&bench, &content, Scope::Allocated(None)).await, None).await.unwrap();
    let broken = BlockIoError::Outside { name: "x".into(), offset: 0, length: 0, bytes: 0 };
    let changes: Changes =
        Box::new(listed(&[(0, CHUNK)]).chain(std::iter::once(Err(Box::new(broken) as ChangesError))));
    let source = Arc::new(MemoryVolume::with(content));
    let scope = Scope::Delta(changes, map_of(&bench, &point).await);
    let error = try_capture(&bench, source, scope, CancellationToken::new()).await.err();
    assert!(matches!(error, Some(CaptureError::Changes(_))), "{error:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_is_full_ends_the_capture_at_its_first_pack_and_at_its_first_map() {
    for (name, verb) in [("packs/", Verb::Put), ("maps/", Verb::Put), ("packs/", Verb::Part)] {
        let bench = Bench::new().await;
        bench.store.plan(Rule::every(verb, StoreFault::FailBefore(Failing::Full)).on(name));
        let chunks = if verb == Verb::Part { 200 } else { 20 };
        let source = Arc::new(MemoryVolume::with(noise(9, chunks * CHUNK)));
        let error = try_capture(&bench, source, Scope::Allocated(None), CancellationToken::new()).await.err();
        assert!(matches!(error, Some(CaptureError::Write(_) | CaptureError::Map(_))), "{name} {error:?}");
        assert_eq!(strongroom_model::Failure::code(&error.unwrap()), "store.full");
    }
}

/// Counts what is read and not yet placed, and takes its time, so that a capture can be caught in the middle.
#[derive(Debug)]
struct Watched {
    inner: MemoryVolume,
    meter: Arc<Meter>,
    most: Arc<AtomicU64>,
    pause: Duration,
}

impl BlockSource for Watched {
    fn bytes(&self) -> u64 {
        self.inner.bytes()
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<(), BlockIoError> {
        std::thread::sleep(self.pause);
        let ahead = (offset + buffer.len() as u64).saturating_sub(self.meter.position());
        self.most.fetch_max(ahead, Ordering::SeqCst);
        self.inner.read_at(offset, buffer)
    }

    fn allocated(&self) -> Ranges<'_> {
        self.inner.allocated()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_in_flight_stays_within_the_budget_however_slow_the_store_is() {
    let bench = Bench::new().await;
    bench.store.plan(Rule::every(Verb::Part, StoreFault::Delay(Duration::from_millis(30))));
    let (meter, most) = (Arc::new(Meter::new()), Arc::new(AtomicU64::new(0)));
    let inner = MemoryVolume::with(noise(10, 60 << 20));
    let source = Watched { inner, meter: Arc::clone(&meter), most: Arc::clone(&most), pause: Duration::ZERO };
    let session = Arc::new(bench.repository.open_session("test").await.unwrap());
    capture(Capture {
        repository: bench.repository.clone(),
        session,
        source: Arc::new(source),
        scope: Scope::Allocated(None),
        budget: Budget::new(0),
        meter,
        cancel: CancellationToken::new(),
    })
    .await
    .unwrap();
    // The least budget leaves 8 MiB for slabs, of which each pays twice.
    let most = most.load(Ordering::SeqCst);
    assert!((1 << 20..=4 << 20).contains(&most), "{most}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_capture_that_is_stopped_ends_soon() {
    let bench = Bench::new().await;
    let meter = Arc::new(Meter::new());
    let inner = MemoryVolume::with(noise(11, 60 << 20));
    let source = Watched { inner, meter, most: Arc::default(), pause: Duration::from_millis(200) };
    let cancel = CancellationToken::new();
    let stop = cancel.clone();
    tokio::spawn(async move {
        tokio::time::sleep(Duration::from_millis(500)).await;
        stop.cancel();
    });
    let begun = std::time::Instant::now();
    let error = try_capture(&bench, Arc::new(source), Scope::Allocated(None), cancel).await.err();
    assert!(matches!(error, Some(CaptureError::Cancelled)), "{error:?}");
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
}

/// Changes a block of 4 KiB in each of some chunks. Answers the ranges.
fn change_blocks(content: &mut [u8], chunks: &[usize], block: usize, seed: u64) -> Vec<(usize, usize)> {
    let ranges: Vec<_> = chunks.iter().map(|chunk| (chunk * CHUNK + block * 4096, 4096)).collect();
    for (start, length) in &ranges {
        content[*start..start + length].copy_from_slice(&noise(seed + *start as u64, *length));
    }
    ranges
}

async fn next_point(
    bench: &Bench,
    parent: &Point,
    content: &[u8],
    ranges: &[(usize, usize)],
) -> (Point, Tally, u64) {
    let scope = Scope::Delta(listed(ranges), map_of(bench, parent).await);
    let captured = captured(bench, content, scope).await;
    let point = publish(bench, &captured, Some(parent.clone())).await.unwrap();
    (point, captured.tally, captured.sent_bytes)
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_chunk_of_which_little_changed_only_the_changed_blocks_are_stored() {
    let bench = Bench::new().await;
    let mut content = noise(20, 64 * CHUNK);
    let captured = captured(&bench, &content, Scope::Allocated(None)).await;
    let first = publish(&bench, &captured, None).await.unwrap();
    let before = content.clone();
    let chunks: Vec<usize> = (0..64).step_by(2).collect();
    let mut last = first.clone();
    let mut points = vec![(first.clone(), before)];
    for (block, blocks) in [(3, 1), (9, 2), (15, 3)] {
        let ranges = change_blocks(&mut content, &chunks, block, 1000);
        let (point, tally, sent) = next_point(&bench, &last, &content, &ranges).await;
        // Each delta has all that differs from the base, and 26 bytes to say so.
        assert_eq!(tally.new_bytes, 32 * (blocks * 4096 + 26));
        assert!(sent < tally.new_bytes * 11 / 10 + 10_000, "{sent} bytes were sent");
        assert_eq!(tally.changed_bytes as usize, 32 * CHUNK);
        let deltas = map_of(&bench, &point).await.deltas(0..64).await.unwrap();
        assert!(deltas.iter().all(|delta| u64::from(delta.of.blocks.count()) == blocks));
        assert_eq!(deltas.len(), 32);
        points.push((point.clone(), content.clone()));
        last = point;
    }
    assert_eq!(bench.repository.stats().await.unwrap().deltas, 32);
    assert_eq!(bench.repository.stats().await.unwrap().delta_bytes, 32 * 3 * 4096);
    // A driver may list more than what changed, where it moved something: nothing is stored again.
    let everything = [(0, content.len())];
    let (same, tally, _) = next_point(&bench, &last, &content, &everything).await;
    assert_eq!((tally.new_bytes, tally.changed_bytes), (0, 0));
    assert_eq!(same.map, last.map);
    // A quarter: the whole chunk is stored, and the next change builds on that.
    let ranges = change_blocks(&mut content, &chunks, 0, 2000);
    let (point, tally, _) = next_point(&bench, &last, &content, &ranges).await;
    assert_eq!(tally.new_bytes as usize, 32 * CHUNK);
    assert!(map_of(&bench, &point).await.deltas(0..64).await.unwrap().is_empty());
    points.push((point.clone(), content.clone()));
    let ranges = change_blocks(&mut content, &chunks, 9, 3000);
    let (last, tally, _) = next_point(&bench, &point, &content, &ranges).await;
    assert_eq!(tally.new_bytes, 32 * (4096 + 26));
    points.push((last, content));
    for (point, content) in &points {
        assert!(bench.restore_point(point).await == *content);
    }
    assert!(bench.repository.check(true, &|_, _| {}).await.unwrap().is_whole());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chunk_that_is_changed_in_several_places_at_the_end_of_a_slab_comes_back() {
    let bench = Bench::new().await;
    let mut content = noise(21, 64 * CHUNK);
    let captured = captured(&bench, &content, Scope::Allocated(None)).await;
    let first = publish(&bench, &captured, None).await.unwrap();
    let chunks: Vec<usize> = (0..64).collect();
    let mut ranges = change_blocks(&mut content, &chunks, 3, 2000);
    ranges.extend(change_blocks(&mut content, &chunks, 9, 2000));
    ranges.sort_unstable();
    let (point, ..) = next_point(&bench, &first, &content, &ranges).await;
    assert!(bench.restore_point(&point).await == content);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_deltas_are_built_on_stays_when_its_own_point_goes() {
    let bench = Bench::new().await;
    let mut content = noise(21, 64 * CHUNK);
    let captured = captured(&bench, &content, Scope::Allocated(None)).await;
    let first = publish(&bench, &captured, None).await.unwrap();
    let ranges = change_blocks(&mut content, &(0..10).collect::<Vec<_>>(), 1, 1);
    let (second, ..) = next_point(&bench, &first, &content, &ranges).await;
    // Most of the volume is written anew: the first pack has little that is needed but as a base.
    let rest = noise(22, 54 * CHUNK);
    content[10 * CHUNK..].copy_from_slice(&rest);
    let (third, ..) = next_point(&bench, &second, &content, &[(10 * CHUNK, 54 * CHUNK)]).await;
    bench.repository.forget(first.id, "test").await.unwrap();
    bench.repository.forget(second.id, "test").await.unwrap();
    let options = SweepOptions { min_hole_ratio: 0.0001, ..SweepOptions::default() };
    let swept = bench.repository.sweep(&options).await.unwrap();
    assert!(swept.rewritten_packs >= 1, "{swept:?}");
    assert!(bench.restore_point(&third).await == content);
    assert!(bench.repository.check(true, &|_, _| {}).await.unwrap().is_whole());
    // And the next incremental goes on from there.
    let ranges = change_blocks(&mut content, &(0..10).collect::<Vec<_>>(), 2, 2);
    let (fourth, tally, _) = next_point(&bench, &third, &content, &ranges).await;
    assert_eq!(tally.new_bytes, 10 * (2 * 4096 + 26));
    bench.repository.forget(third.id, "test").await.unwrap();
    bench.repository.sweep(&options).await.unwrap();
    assert!(bench.restore_point(&fourth).await == content);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_base_is_named_with_the_points_that_lose_by_it() {
    let bench = Bench::new().await;
    let mut content = noise(23, 8 * CHUNK);
    let captured = captured(&bench, &content, Scope::Allocated(None)).await;
    let first = publish(&bench, &captured, None).await.unwrap();
    let ranges = change_blocks(&mut content, &[5], 1, 1);
    let (second, ..) = next_point(&bench, &first, &content, &ranges).await;
    let base = map_of(&bench, &first).await.place(5).await.unwrap().unwrap().at;
    assert_eq!(map_of(&bench, &second).await.place(5).await.unwrap().unwrap().delta_of.unwrap().base, base);
    let footer = bench.repository.reader().footer(base.pack).await.unwrap();
    let name = footer.place().name();
    let mut body = bench.memory.get(&name).await.unwrap().to_vec();
    body[usize::try_from(footer.row(base.entry).unwrap().offset).unwrap() + 100] ^= 1;
    bench.memory.damage(name.as_str(), Some(body.into()));
    let report = bench.repository.check(true, &|_, _| {}).await.unwrap();
    let chunk = ByteRange::at(5 * CHUNK as u64, CHUNK as u64).unwrap();
    let mut hurt: Vec<_> = report
        .damages
        .iter()
        .flat_map(|damage| &damage.loses)
        .map(|loss| (loss.point, loss.ranges.clone()))
        .collect();
    hurt.sort_by_key(|(point, _)| *point);
    let mut expected = vec![(first.id, vec![chunk]), (second.id, vec![chunk])];
    expected.sort_by_key(|(point, _)| *point);
    assert_eq!(hurt, expected, "{report:?}");
    assert!(report.damages.iter().all(|damage| damage.object == name.as_str()), "{report:?}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, max_shrink_iters: 20, ..ProptestConfig::default() })]
    #[test]
    fn any_history_of_deltas_and_full_captures_restores_every_point(
        steps in prop::collection::vec((any::<bool>(), prop_oneof![
            prop::collection::vec((0_usize..3_000_000, prop_oneof![1_usize..9_000, 1_usize..300_000], 0_u64..4), 0..6),
            // As a database writes: everywhere, and more than once in most chunks.
            prop::collection::vec((0_usize..3_000_000, 1_usize..9_000, 0_u64..4), 60..160),
        ]), 1..6),
    ) {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let bench = Bench::new().await;
            let mut content = vec![0; 3_300_000];
            let mut points: Vec<(Point, Vec<u8>)> = Vec::new();
            for (delta, writes) in steps {
                let mut touched = Vec::new();
                for (start, length, seed) in writes {
                    let fill = if seed == 0 { vec![0; length] } else { noise(seed, length) };
                    content[start..start + length].copy_from_slice(&fill);
                    touched.push((start, start + length));
                }
                touched.sort_unstable();
                let mut merged: Vec<(usize, usize)> = Vec::new();
                for (start, end) in touched {
                    match merged.last_mut() {
                        Some(last) if start <= last.1 => last.1 = last.1.max(end),
                        _ => merged.push((start, end)),
                    }
                }
                let ranges: Vec<_> = merged.iter().map(|(start, end)| (*start, end - start)).collect();
                let parent = points.last().map(|(point, _)| point.clone());
                let scope = match &parent {
                    Some(point) if delta => Scope::Delta(listed(&ranges), map_of(&bench, point).await),
                    Some(point) => Scope::Allocated(Some(map_of(&bench, point).await)),
                    None => Scope::Allocated(None),
                };
                let captured = captured(&bench, &content, scope).await;
                let point = publish(&bench, &captured, parent).await.unwrap();
                points.push((point, content.clone()));
            }
            for (point, content) in &points {
                assert!(bench.restore_point(point).await == *content);
            }
        });
    }
}
