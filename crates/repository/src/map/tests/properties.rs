//! Any history of a volume, against the model.

use proptest::prelude::*;

use super::*;

#[derive(Debug, Clone)]
struct Step {
    full: bool,
    chunks: u64,
    changes: BTreeMap<u64, Option<EntryRef>>,
}

/// Sizes around the edges of leaves and nodes.
fn sizes() -> impl Strategy<Value = u64> {
    prop_oneof![
        0_u64..3,
        1020..1030_u64,
        2040..2060_u64,
        (NODE_CHUNKS - 2)..(NODE_CHUNKS + 3),
        Just(3 * NODE_CHUNKS + 5)
    ]
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let change = (
        prop_oneof![
            0_u64..40,
            1015..1035_u64,
            2045..2055_u64,
            (NODE_CHUNKS - 3)..(NODE_CHUNKS + 3),
            Just(3 * NODE_CHUNKS)
        ],
        prop::option::weighted(0.8, (1_u8..6, 0_u32..8)),
    );
    let step = (prop::bool::weighted(0.2), sizes(), prop::collection::vec(change, 0..60)).prop_map(
        |(full, chunks, changes)| Step {
            full,
            chunks,
            changes: changes
                .into_iter()
                .filter(|(chunk, _)| *chunk < chunks)
                .map(|(chunk, cell)| (chunk, cell.map(|(pack, entry)| at(pack, entry))))
                .collect(),
        },
    );
    prop::collection::vec(step, 1..6)
}

/// Every other entry is a delta, and what it is built on follows from it.
fn place(at: EntryRef) -> ChunkPlace {
    let delta_of = (at.entry >= 4).then(|| DeltaOf {
        base: super::at(7 + at.pack.bytes()[0] % 2, at.entry),
        blocks: Blocks::touched(u64::from(at.entry) * 4096, u64::from(at.entry) * 8192),
    });
    ChunkPlace { at, delta_of }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_history_of_a_volume_is_mapped_exactly(steps in steps()) {
        tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
            let world = World::new();
            let mut model: BTreeMap<u64, EntryRef> = BTreeMap::new();
            let mut last: Option<MapReader> = None;
            for step in steps {
                let before = model.clone();
                if step.full {
                    model.clear();
                }
                model.retain(|chunk, _| *chunk < step.chunks);
                for (chunk, at) in &step.changes {
                    match at {
                        Some(at) => model.insert(*chunk, *at),
                        None => model.remove(chunk),
                    };
                }
                let base = match &last {
                    Some(last) if !step.full => MapBase::Delta(last.clone()),
                    last => MapBase::Full(last.clone()),
                };
                let changes = step.changes.into_iter().map(|(chunk, at)| (chunk, at.map(place)));
                let reader = world.write_places(step.chunks, base, changes).await;
                assert_eq!(cells(&reader).await, model);
                assert_exact(&reader).await;
                let deltas: Vec<_> = reader.deltas(0..u64::MAX).await.unwrap().into_iter().map(|delta| (delta.chunk, delta.of)).collect();
                let expected: Vec<_> = model.iter().filter_map(|(chunk, at)| Some((*chunk, place(*at).delta_of?))).collect();
                assert_eq!(deltas, expected);
                if let Some(last) = &last {
                    let differs: BTreeSet<u64> = last.diff(&reader).await.unwrap().into_iter().flatten().collect();
                    let chunks: BTreeSet<u64> = before.keys().chain(model.keys()).copied().collect();
                    let expected = chunks.into_iter().filter(|chunk| before.get(chunk) != model.get(chunk)).collect();
                    assert_eq!(differs, expected);
                }
                for chunk in [0, 1, 1023, 1024, NODE_CHUNKS] {
                    assert_eq!(reader.get(chunk).await.unwrap(), model.get(&chunk).copied());
                    assert_eq!(reader.place(chunk).await.unwrap(), model.get(&chunk).copied().map(place));
                }
                last = Some(reader);
            }
        });
    }
}
