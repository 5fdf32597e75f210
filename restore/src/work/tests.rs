#![expect(clippy::single_range_in_vec_init, reason = "lists of ranges are what is compared")]

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

const GRID: u64 = 400;

fn work(scope: Scope, right: &[u64], blank: bool) -> Work {
    let mut set = ChunkSet::new();
    right.iter().for_each(|&chunk| set.insert(chunk));
    Work {
        chunk_bytes: 1 << 16,
        point_bytes: (GRID << 16) - 1000,
        target_bytes: (GRID << 16) - 1000,
        blank,
        scope,
        right: set,
        copy: ChunkSet::new(),
    }
}

/// Runs over the grid from arbitrary lengths: gap, length, pack, entry.
fn runs_of(parts: &[(u64, u64, u8, u32)]) -> Vec<Run> {
    let mut at = 0;
    let mut runs = Vec::new();
    for &(gap, count, pack, first_entry) in parts {
        let start = at + gap;
        if start + count > GRID {
            break;
        }
        runs.push(Run { start, count, pack: PackId::from_bytes([pack; 16]), first_entry });
        at = start + count;
    }
    runs
}

proptest! {
    #[test]
    fn every_pending_chunk_is_filled_from_its_entry_or_zeroed_and_no_other_is_touched(
        parts in prop::collection::vec((0_u64..9, 1_u64..20, 0_u8..4, 0_u32..50), 0..40),
        scope in prop::option::of(prop::collection::vec((0_u64..30, 1_u64..30), 0..12)),
        right in prop::collection::vec(0..GRID, 0..60),
        blank: bool,
        split in 0..GRID,
    ) {
        let runs = runs_of(&parts);
        let scope = scope.map_or(Scope::All, |gaps| {
            let mut at = 0;
            Scope::Ranges(gaps.into_iter().map(|(gap, length)| { let start = at + gap + 1; at = start + length; start.min(GRID)..at.min(GRID) }).filter(|range| !range.is_empty()).collect())
        });
        let work = work(scope.clone(), &right, blank);
        let mut truth = BTreeMap::new();
        for chunk in 0..GRID {
            let in_scope = match &scope { Scope::All => true, Scope::Ranges(ranges) => ranges.iter().any(|range| range.contains(&chunk)) };
            if in_scope && !right.contains(&chunk) {
                let run = runs.iter().find(|run| (run.start..run.start + run.count).contains(&chunk));
                truth.insert(chunk, run.map(|run| (run.pack, run.first_entry + u32::try_from(chunk - run.start).unwrap())));
            }
        }
        let mut seen = BTreeMap::new();
        let mut holes: u64 = 0;
        for window in [0..split, split..GRID] {
            let within: Vec<Run> = runs.iter().filter_map(|run| {
                let (start, end) = (run.start.max(window.start), (run.start + run.count).min(window.end));
                (start < end).then(|| Run { start, count: end - start, pack: run.pack, first_entry: run.first_entry + u32::try_from(start - run.start).unwrap() })
            }).collect();
            let pieces = work.pieces(window, &within);
            holes += pieces.hole_bytes.div_ceil(1 << 16);
            for (pack, pieces) in &pieces.packs {
                for entry in entries(pieces) {
                    for (chunk, _) in filled_by(pieces, entry) {
                        prop_assert_eq!(seen.insert(chunk, Some((*pack, entry))), None);
                    }
                }
            }
            for chunk in pieces.zeros.into_iter().flatten() {
                prop_assert_eq!(seen.insert(chunk, None), None);
            }
        }
        if blank {
            prop_assert_eq!(holes, truth.values().filter(|at| at.is_none()).count() as u64);
            truth.retain(|_, at| at.is_some());
        }
        prop_assert_eq!(seen, truth);
    }
}

#[test]
fn the_last_chunk_may_be_short_and_a_larger_target_ends_in_zeros() {
    let mut work = work(Scope::All, &[], false);
    assert_eq!(work.content_bytes(GRID - 1), (1 << 16) - 1000);
    assert_eq!(work.count_bytes(&(GRID - 1..GRID)), (1 << 16) - 1000);
    work.target_bytes = GRID << 17;
    assert_eq!((work.chunks(), work.content_bytes(GRID)), (2 * GRID, 0));
    assert_eq!(work.pieces(0..2 * GRID, &[]).zeros, [0..2 * GRID]);
}
