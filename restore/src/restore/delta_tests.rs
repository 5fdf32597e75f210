//! Chunks that were stored as deltas come back as any; and what is lost with their bases.

use std::ops::Range;

use strongroom_model::RecoveryPointId;

use crate::chunk_set::ChunkSet;
use crate::request::{Request, TargetRequest};
use crate::testing::{Bench, noise, to_file};
use crate::touched::Touched;
use crate::work::{Scope, Work};

const CHUNK: usize = 65_536;

/// A volume and three later states of it, in which ever more chunks are deltas, some of them of several generations.
async fn history(chunks: usize) -> (Bench, Vec<(RecoveryPointId, Vec<u8>)>) {
    let bench = Bench::of_chunks(CHUNK).await;
    let mut content = noise(1, chunks * CHUNK + 10_000);
    let mut points = vec![(bench.publish("a", &content).await, content.clone())];
    for generation in 1..4 {
        for chunk in (0..=chunks).filter(|chunk| (chunk + generation) % 5 < 2) {
            // The last chunk has 10 000 bytes: two blocks and a short one.
            let at =
                chunk * CHUNK + if chunk == chunks { 8192 } else { (chunk * 7 + generation) % 16 * 4096 };
            let end = (at + 4096).min(content.len());
            content[at..end].copy_from_slice(&noise(generation as u64 * 1000 + chunk as u64, end - at));
        }
        points.push((bench.publish("a", &content).await, content.clone()));
    }
    (bench, points)
}

#[tokio::test(flavor = "multi_thread")]
async fn points_of_deltas_come_back_bit_by_bit_as_they_were_planned() {
    let (bench, points) = history(200).await;
    for (point, content) in &points {
        let path = bench.path(&point.to_string());
        let (restore, _) = bench.restore().await;
        let mut prepared = restore.plan(&to_file(*point, &path)).await.unwrap();
        let report = restore.execute(&mut prepared).await.unwrap();
        assert!(std::fs::read(&path).unwrap() == *content);
        let (plan, done) = (&prepared.plan, &report.hydrated);
        assert_eq!(done.written_bytes, plan.totals.write_bytes);
        assert_eq!((done.requests, done.fetched_bytes), (plan.totals.requests, plan.totals.fetch_bytes));
        // Bases come along with their neighbours: nothing is fetched twice.
        let whole = content.len() as u64;
        assert!(done.fetched_bytes < whole + whole / 4, "{} of {whole} bytes", done.fetched_bytes);
    }
    let stats = bench.repository.stats().await.unwrap();
    assert!(stats.deltas > 100, "{stats:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_over_an_older_state_fetches_what_differs() {
    let (bench, points) = history(200).await;
    let path = bench.path("disk.img");
    bench.to_file(points[2].0, &path).await.unwrap();
    let target = TargetRequest::File { path: path.clone(), overwrite: true };
    let (_, report) = bench.run(&Request { target, ..to_file(points[3].0, &path) }).await.unwrap();
    assert!(std::fs::read(&path).unwrap() == points[3].1);
    assert!(report.hydrated.copied_bytes > report.hydrated.written_bytes, "{report:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn outside_of_the_blocks_that_two_maps_name_their_contents_are_equal() {
    let (bench, points) = history(200).await;
    let fold = bench.repository.fold().await.unwrap();
    let mut spared = 0;
    for (one, content) in &points {
        for (other, others) in &points {
            let map = bench.repository.map(&fold.points[one]).await.unwrap();
            let cloned = bench.repository.map(&fold.points[other]).await.unwrap();
            let work = Work {
                chunk_bytes: CHUNK as u64,
                point_bytes: content.len() as u64,
                target_bytes: content.len() as u64,
                blank: false,
                scope: Scope::All,
                right: ChunkSet::new(),
                copy: ChunkSet::new(),
            };
            let all = 0..work.chunks();
            let (runs, deltas) =
                (map.runs(all.clone()).await.unwrap(), map.deltas(all.clone()).await.unwrap());
            let touched = Touched::within(&work, all, &runs, &deltas, &cloned).await.unwrap();
            // What a restore in place does: the clone of one, and only these blocks of the other.
            let mut made = others.clone();
            for (chunk, plain) in (0..).zip(content.chunks(CHUNK)) {
                let ranges = touched.ranges(chunk, plain.len());
                spared += (plain.len() - ranges.iter().map(Range::len).sum::<usize>()) / 4096;
                for range in ranges {
                    let at = usize::try_from(chunk).unwrap() * CHUNK;
                    made[at + range.start..at + range.end].copy_from_slice(&plain[range]);
                }
            }
            assert!(made == *content, "{one} over {other}");
        }
    }
    assert!(spared > 1000, "only {spared} blocks were left alone");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_damage_to_deltas_or_bases_gives_a_wrong_byte_that_is_not_listed() {
    let (bench, points) = history(12).await;
    let (point, content) = points.last().unwrap();
    let objects = bench.store.contents();
    let mut losses = 0;
    for (name, body) in objects.iter().filter(|(name, _)| name.starts_with("packs/")) {
        let mut damages = vec![None];
        for at in (100..body.len()).step_by((body.len() / 15).max(1)) {
            let mut flipped = body.to_vec();
            flipped[at] ^= 4;
            damages.push(Some(flipped));
        }
        for damage in damages {
            bench.store.damage(name, damage.map(Into::into));
            let path = bench.path("x");
            let _ = std::fs::remove_file(&path);
            assert!(bench.to_file(*point, &path).await.is_ok_and(|_| true) == path.exists());
            let _ = std::fs::remove_file(&path);
            if let Ok((_, report)) = bench.run(&Request { keep_going: true, ..to_file(*point, &path) }).await
            {
                let mut got = std::fs::read(&path).unwrap();
                for lost in &report.hydrated.lost {
                    let range = usize::try_from(lost.start).unwrap()..usize::try_from(lost.end).unwrap();
                    assert!(got[range.clone()].iter().all(|byte| *byte == 0), "{name}: what is lost is zero");
                    got[range.clone()].copy_from_slice(&content[range]);
                    losses += 1;
                }
                assert!(got == *content, "{name}: a byte that is not listed as lost is wrong");
            }
            for rest in ["x.partial", "x.partial.journal"] {
                let _ = std::fs::remove_file(bench.path(rest));
            }
        }
        bench.store.damage(name, Some(body.clone()));
    }
    assert!(losses > 10, "{losses}");
}
