//! What a row takes on the disk and in memory, and what a look-up costs: docs/decisions/0012-dedup-index.md.
//!
//! `STRONGROOM_INDEX_ROWS=52428800` builds a 32nd of 100 TiB, with the real sizes; the figures are printed.

use std::time::Instant;

use super::*;

const REPOSITORY: RepositoryId = RepositoryId::from_bytes([0x5a; 16]);

/// Ids as random as hashes, for less.
fn id(n: u64) -> ChunkId {
    let mut bytes = [0; 32];
    for (turn, part) in (1_u64..).zip(bytes.chunks_exact_mut(8)) {
        let mut mixed = n.wrapping_mul(4).wrapping_add(turn).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        part.copy_from_slice(&(mixed ^ (mixed >> 31)).to_le_bytes());
    }
    ChunkId::from_bytes(bytes)
}

/// 1024 chunks to a pack, as in packs of 64 MiB.
fn at(n: u64) -> EntryRef {
    let pack = PackId::from_bytes(*id(u64::MAX / 8 + n / 1024).bytes().first_chunk().unwrap());
    EntryRef { pack, entry: u32::try_from(n % 1024).unwrap() }
}

/// CPU time of this thread, in microseconds: the machine may be busy with other things.
fn cpu_us() -> f64 {
    let spent = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    spent.split(' ').next().and_then(|spent| spent.parse::<f64>().ok()).unwrap_or(0.0) / 1e3
}

fn disk_bytes(dir: &Path) -> u64 {
    std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().metadata().unwrap().len()).sum()
}

#[test]
#[expect(clippy::cast_precision_loss, reason = "figures for people")]
fn a_row_takes_as_much_of_disk_and_memory_as_is_promised() {
    let wanted = std::env::var("STRONGROOM_INDEX_ROWS").ok().and_then(|rows| rows.parse::<u64>().ok());
    let small = Sizes { fresh_files: 4, settle_rows: 6_000, settle_share: 16, part_rows: 30_000 };
    let (rows, run_rows, sizes) = match wanted {
        Some(rows) => (rows, 262_144, Sizes::REAL),
        None => (300_000, 1_500, small),
    };
    let dir = tempfile::tempdir().unwrap();
    let index = DedupIndex::open_with(dir.path(), REPOSITORY, sizes).unwrap();
    let (mut spent, mut worst, mut most_disk) = (0.0, 0.0_f64, 0.0_f64);
    for first in (0..rows).step_by(usize::try_from(run_rows).unwrap()) {
        let mut entries = (first..rows.min(first + run_rows)).map(|n| (id(n), at(n))).collect();
        let run = IndexRun::take_from(&mut entries);
        let (begun, spent_before) = (Instant::now(), cpu_us());
        index.add_run(u128::from(first).to_be_bytes(), &run, &|_| true).unwrap();
        spent += cpu_us() - spent_before;
        worst = worst.max(begun.elapsed().as_secs_f64());
        if first > rows / 2 {
            most_disk = most_disk.max(disk_bytes(dir.path()) as f64 / (first + run_rows) as f64);
        }
    }
    let disk = disk_bytes(dir.path()) as f64 / rows as f64;
    let memory = index.memory_bytes() as f64 / rows as f64;
    println!("{rows} rows: {disk:.2} bytes a row on the disk, at most {most_disk:.2}; {memory:.3} in memory");
    println!("adding: {:.2} us CPU a row, at worst {worst:.2} s a run of {run_rows}", spent / rows as f64);
    // A few more bytes than in the large: every file has pages that are not full.
    assert!(disk < 29.0 && most_disk < 31.0 && memory < 0.3, "{disk} {most_disk} {memory}");

    let asked = rows.min(200_000);
    for (what, first, step) in [("a stranger", u64::MAX / 16, 1), ("a known chunk", 0, 7919 * 3)] {
        let ids: Vec<ChunkId> =
            (0..asked).map(|n| id(if first == 0 { n * step % rows } else { first + n })).collect();
        let begun = cpu_us();
        let found = ids.iter().filter(|id| index.lookup(id).is_some()).count() as u64;
        println!("looking up {what}: {:.2} us CPU", (cpu_us() - begun) / asked as f64);
        assert_eq!(found, if first == 0 { asked } else { 0 });
    }
}
