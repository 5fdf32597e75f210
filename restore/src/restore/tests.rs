use std::os::unix::fs::MetadataExt as _;

use proptest::prelude::*;
use strongroom_object_store::Verb;
use strongroom_object_store::faulty::{Failing, Fault, Rule};

use super::*;
use crate::request::{Request, TargetRequest};
use crate::testing::{Bench, CHUNK, noise, to_file};

/// A volume with holes: each part is a number of chunks and a seed, 0 for zeros.
fn image(parts: &[(usize, u64)], tail: usize) -> Vec<u8> {
    let mut image = Vec::new();
    for &(chunks, seed) in parts {
        match seed {
            0 => image.resize(image.len() + chunks * CHUNK, 0),
            seed => image.extend(noise(seed, chunks * CHUNK)),
        }
    }
    image.extend(noise(99, tail));
    image
}

fn on_runtime<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap()
        .block_on(future)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]
    #[test]
    fn any_volume_comes_back_bit_by_bit(
        parts in prop::collection::vec((1_usize..12, 0_u64..4), 1..12),
        changes in prop::collection::vec((any::<prop::sample::Index>(), 1_u64..1000), 0..6),
        tail in prop_oneof![Just(0_usize), 1..CHUNK],
    ) {
        on_runtime(async {
            let bench = Bench::new().await;
            let first = image(&parts, tail);
            let mut second = first.clone();
            for (index, seed) in &changes {
                let chunk = index.index(second.len().div_ceil(CHUNK));
                let end = second.len().min((chunk + 1) * CHUNK);
                let new = noise(*seed, end - chunk * CHUNK);
                second[chunk * CHUNK..end].copy_from_slice(&new);
            }
            for content in [&first, &second] {
                let point = bench.publish("a", content).await;
                let path = bench.path(&point.to_string());
                let report = bench.to_file(point, &path).await.unwrap();
                assert!(std::fs::read(&path).unwrap() == **content, "{report:?}");
            }
        });
    }
}

#[test]
fn holes_stay_holes_and_nothing_is_left_beside_the_file() {
    on_runtime(async {
        let bench = Bench::new().await;
        let content = image(&[(2, 1), (2000, 0), (1, 2)], 100);
        let point = bench.publish("a", &content).await;
        let path = bench.path("disk.img");
        let report = bench.to_file(point, &path).await.unwrap();
        let meta = std::fs::metadata(&path).unwrap();
        assert_eq!(meta.len(), content.len() as u64);
        assert!(meta.blocks() * 512 < 10 * CHUNK as u64, "{} blocks", meta.blocks());
        assert_eq!(report.hydrated.written_bytes, (3 * CHUNK + 100) as u64);
        assert_eq!(std::fs::read_dir(bench.folder.path()).unwrap().count(), 1);
    });
}

#[test]
fn an_empty_volume_is_restored_without_fetching_data() {
    on_runtime(async {
        let bench = Bench::new().await;
        let point = bench.publish("a", &image(&[(50, 0)], 0)).await;
        let report = bench.to_file(point, &bench.path("x")).await.unwrap();
        assert_eq!(report.hydrated.requests, 0);
    });
}

#[test]
fn what_is_executed_is_what_was_planned() {
    on_runtime(async {
        let bench = Bench::new().await;
        let point = bench.publish("a", &image(&[(40, 1), (30, 0), (200, 2)], 0)).await;
        let (restore, _) = bench.restore().await;
        let mut prepared = restore.plan(&to_file(point, &bench.path("x"))).await.unwrap();
        let plan = prepared.plan.clone();
        let before = bench.ranges_read();
        let report = restore.execute(&mut prepared).await.unwrap();
        assert_eq!(prepared.plan, plan, "the plan is carried out as it is");
        assert_eq!(report.hydrated.requests, plan.totals.requests);
        assert_eq!(report.hydrated.fetched_bytes, plan.totals.fetch_bytes);
        assert_eq!(report.hydrated.written_bytes, plan.totals.write_bytes);
        assert_eq!(bench.ranges_read() - before, plan.totals.requests, "and nothing else is asked for");
        let ranges: usize =
            plan.windows.iter().flat_map(|window| &window.fetch).map(|fetch| fetch.ranges.len()).sum();
        assert_eq!(ranges as u64, plan.totals.requests);
        let json = serde_json::to_value(&plan).unwrap();
        assert_eq!(json["windows"][0]["fetch"][0]["ranges"][0]["entries"], 240);
    });
}

#[test]
fn a_plan_changes_nothing() {
    on_runtime(async {
        let bench = Bench::new().await;
        let point = bench.publish("a", &image(&[(40, 1)], 0)).await;
        let objects = bench.store.contents().len();
        let (restore, _) = bench.restore().await;
        restore.plan(&to_file(point, &bench.path("x"))).await.unwrap();
        assert_eq!(std::fs::read_dir(bench.folder.path()).unwrap().count(), 0);
        assert_eq!(bench.store.contents().len(), objects);
    });
}

#[test]
fn a_restore_cut_off_at_any_request_goes_on_and_fetches_only_what_is_missing() {
    on_runtime(async {
        let bench = Bench::new().await;
        let content = image(&[(30, 1), (5, 0), (300, 2), (9, 0), (400, 3)], 77);
        let point = bench.publish("a", &content).await;
        let (restore, _) = bench.restore().await;
        let whole = restore.plan(&to_file(point, &bench.path("x"))).await.unwrap().plan.totals;
        assert!(whole.requests >= 3, "{whole:?}");
        for cut in 1..=whole.requests {
            let path = bench.path(&format!("cut-{cut}"));
            let request = to_file(point, &path);
            let (restore, _) = bench.restore().await;
            let mut prepared = restore.plan(&request).await.unwrap();
            bench.faulty.plan(Rule::nth(cut, Verb::GetRange, Fault::Dark).on("packs/"));
            let failed = restore.execute(&mut prepared).await.unwrap_err();
            assert_eq!(failed.failure().remedy(), Remedy::Retry, "{failed}");
            bench.faulty.heal();
            assert!(!path.exists(), "an unfinished file has not the name of a finished one");
            let (again, report) = bench.run(&request).await.unwrap();
            let plan = &again.plan;
            assert_eq!(plan.run, prepared.plan.run, "it is the same run");
            assert_eq!(plan.totals.done_bytes + plan.totals.write_bytes, whole.write_bytes);
            assert_eq!(report.hydrated.requests, plan.totals.requests);
            assert!(std::fs::read(&path).unwrap() == content, "cut at {cut}");
        }
    });
}

#[test]
fn a_journal_cut_at_every_byte_never_leads_to_a_wrong_file() {
    on_runtime(async {
        let bench = Bench::new().await;
        let content = image(&[(300, 2), (9, 0), (300, 3)], 77);
        let point = bench.publish("a", &content).await;
        let path = bench.path("x");
        let request = to_file(point, &path);
        let (restore, _) = bench.restore().await;
        let mut prepared = restore.plan(&request).await.unwrap();
        bench.faulty.plan(Rule::nth(3, Verb::GetRange, Fault::Dark).on("packs/"));
        restore.execute(&mut prepared).await.unwrap_err();
        bench.faulty.heal();
        let (partial, journal) = (bench.path("x.partial"), bench.path("x.partial.journal"));
        let (data, notes) = (std::fs::read(&partial).unwrap(), std::fs::read(&journal).unwrap());
        for cut in (0..=notes.len()).step_by(7) {
            std::fs::write(&partial, &data).unwrap();
            std::fs::write(&journal, &notes[..cut]).unwrap();
            bench.run(&request).await.unwrap();
            assert!(std::fs::read(&path).unwrap() == content, "cut {cut}");
            std::fs::remove_file(&path).unwrap();
        }
    });
}

#[test]
fn a_run_that_was_killed_after_the_rename_is_finished_by_the_next() {
    on_runtime(async {
        let bench = Bench::new().await;
        let content = image(&[(3, 2)], 0);
        let point = bench.publish("a", &content).await;
        let path = bench.path("x");
        let request = to_file(point, &path);
        let (restore, _) = bench.restore().await;
        let prepared = restore.plan(&request).await.unwrap();
        bench.to_file(point, &path).await.unwrap();
        let header =
            prepared.wanted.header(prepared.plan.run, &prepared.plan.target, &prepared.plan.base, None);
        let mut journal = Journal::create(&bench.path("x.partial.journal"), header).unwrap();
        journal.reach(Stage::Verified).unwrap();
        drop(journal);
        let (_, report) = bench.run(&request).await.unwrap();
        assert_eq!(report.hydrated.requests, 0);
        assert!(!bench.path("x.partial.journal").exists());
        assert!(std::fs::read(&path).unwrap() == content);
    });
}

#[test]
fn an_existing_file_is_refused_and_overwritten_only_when_asked_to() {
    on_runtime(async {
        let bench = Bench::new().await;
        let first = image(&[(100, 1), (50, 0), (100, 2)], 5);
        let mut second = first.clone();
        second[10 * CHUNK..11 * CHUNK].copy_from_slice(&noise(7, CHUNK));
        let (one, two) = (bench.publish("a", &first).await, bench.publish("a", &second).await);
        let path = bench.path("x");
        bench.to_file(one, &path).await.unwrap();
        let refused = bench.to_file(two, &path).await.unwrap_err();
        assert_eq!(refused.failure().code(), "restore.file-exists");

        let overwrite = |point| Request {
            target: TargetRequest::File { path: path.clone(), overwrite: true },
            ..to_file(point, &path)
        };
        let (prepared, report) = bench.run(&overwrite(one)).await.unwrap();
        assert_eq!(report.hydrated.requests, 0, "equal data is not fetched");
        assert_eq!(prepared.plan.totals.copy_bytes, (200 * CHUNK + 5) as u64);
        assert!(std::fs::read(&path).unwrap() == first);

        let (prepared, report) = bench.run(&overwrite(two)).await.unwrap();
        assert_eq!((report.hydrated.requests, report.hydrated.written_bytes), (1, CHUNK as u64));
        assert_eq!(prepared.plan.totals.fetch_bytes, report.hydrated.fetched_bytes);
        assert!(std::fs::read(&path).unwrap() == second);
    });
}

#[test]
fn a_file_that_changes_between_plan_and_run_is_not_believed() {
    on_runtime(async {
        let bench = Bench::new().await;
        let content = image(&[(100, 1)], 0);
        let point = bench.publish("a", &content).await;
        let path = bench.path("x");
        bench.to_file(point, &path).await.unwrap();
        let (restore, _) = bench.restore().await;
        let target = TargetRequest::File { path: path.clone(), overwrite: true };
        let request = Request { target, verify: Some(false), ..to_file(point, &path) };
        let mut prepared = restore.plan(&request).await.unwrap();
        assert_eq!(prepared.plan.totals.requests, 0);
        std::fs::write(&path, noise(5, content.len())).unwrap();
        restore.execute(&mut prepared).await.unwrap();
        assert!(std::fs::read(&path).unwrap() == content);
    });
}

#[test]
fn another_unfinished_restore_to_the_same_file_is_not_trampled_on() {
    on_runtime(async {
        let bench = Bench::new().await;
        let (first, second) = (image(&[(300, 1)], 0), image(&[(300, 2)], 0));
        let (one, two) = (bench.publish("a", &first).await, bench.publish("a", &second).await);
        let path = bench.path("x");
        bench.faulty.plan(Rule::nth(1, Verb::GetRange, Fault::Dark).on("packs/"));
        let (restore, _) = {
            bench.faulty.heal();
            bench.restore().await
        };
        let mut prepared = restore.plan(&to_file(one, &path)).await.unwrap();
        bench.faulty.plan(Rule::nth(1, Verb::GetRange, Fault::Dark).on("packs/"));
        restore.execute(&mut prepared).await.unwrap_err();
        bench.faulty.heal();
        let refused = bench.to_file(two, &path).await.unwrap_err();
        assert_eq!(refused.failure().code(), "restore.unfinished");
        assert!(refused.failure().advice().contains(&one.to_string()));
        bench.run(&Request { start_over: true, ..to_file(two, &path) }).await.unwrap();
        assert!(std::fs::read(&path).unwrap() == second);
    });
}

#[test]
fn a_damaged_chunk_is_named_and_never_written() {
    on_runtime(async {
        let bench = Bench::new().await;
        let content = image(&[(100, 1)], 0);
        let other = bench.publish("a", &image(&[(1, 9)], 0)).await;
        let point = bench.publish("a", &content).await;
        let name = bench.data_packs().into_iter().max_by_key(|name| {
            bench.store.contents().into_iter().find(|(other, _)| other == name).unwrap().1.len()
        });
        bench.damage(&name.unwrap(), |body| body[20 * CHUNK] ^= 1);
        let path = bench.path("x");
        let (restore, captured) = bench.restore().await;
        let mut prepared = restore.plan(&to_file(point, &path)).await.unwrap();
        let failed = restore.execute(&mut prepared).await.unwrap_err();
        assert_eq!(failed.failure().code(), "restore.chunk-damaged");
        assert_eq!(failed.exit(), strongroom_console::Exit::Damaged);
        assert!(failed.to_string().contains("entry 19 of pack-"), "{failed}");
        assert!(
            failed.to_string().contains(&format!("volume bytes {}..{}", 19 * CHUNK, 20 * CHUNK)),
            "{failed}"
        );
        assert!(captured.stderr().contains(&other.to_string()), "another point is offered");
        assert!(!path.exists());

        let keep_going = Request { keep_going: true, ..to_file(point, &path) };
        let (_, report) = bench.run(&keep_going).await.unwrap();
        assert_eq!(report.exit(), strongroom_console::Exit::Damaged);
        let lost = &report.hydrated.lost;
        assert_eq!((lost.len(), lost[0].start, lost[0].end), (1, (19 * CHUNK) as u64, (20 * CHUNK) as u64));
        let mut expected = content.clone();
        expected[19 * CHUNK..20 * CHUNK].fill(0);
        assert!(std::fs::read(&path).unwrap() == expected);
    });
}

#[test]
fn every_damage_to_every_object_is_refused_or_harmless() {
    on_runtime(async {
        let bench = Bench::new().await;
        let content = image(&[(20, 1), (3, 0), (20, 2)], 9);
        let point = bench.publish("a", &content).await;
        let objects = bench.store.contents();
        for (name, body) in
            objects.iter().filter(|(name, _)| name.starts_with("packs/") || name.starts_with("maps/"))
        {
            let swapped = objects
                .iter()
                .find(|(other, _)| {
                    other != name && (other.starts_with("maps/") || other.starts_with("packs/"))
                })
                .unwrap();
            let mut damages =
                vec![None, Some(Vec::new()), Some(body[..body.len() / 2].to_vec()), Some(swapped.1.to_vec())];
            for at in (0..body.len()).step_by((body.len() / 23).max(1)) {
                let mut flipped = body.to_vec();
                flipped[at] ^= 4;
                damages.push(Some(flipped));
            }
            for (number, damage) in damages.into_iter().enumerate() {
                bench.store.damage(name, damage.map(Into::into));
                for keep_going in [false, true] {
                    let path = bench.path("x");
                    let _ = std::fs::remove_file(&path);
                    match bench.run(&Request { keep_going, ..to_file(point, &path) }).await {
                        Err(failed) => assert!(!path.exists(), "{failed}"),
                        Ok((_, report)) => {
                            let mut got = std::fs::read(&path).unwrap();
                            assert!(report.hydrated.lost.is_empty() || keep_going);
                            for lost in &report.hydrated.lost {
                                let range =
                                    usize::try_from(lost.start).unwrap()..usize::try_from(lost.end).unwrap();
                                got[range.clone()].copy_from_slice(&content[range]);
                            }
                            assert!(
                                got == content,
                                "{name} {number}: a byte that is not listed as lost is wrong"
                            );
                        }
                    }
                    for rest in ["x.partial", "x.partial.journal"] {
                        let _ = std::fs::remove_file(bench.path(rest));
                    }
                }
                bench.store.damage(name, Some(body.clone()));
            }
        }
    });
}

#[test]
fn bytes_that_suffer_on_the_way_are_fetched_again() {
    on_runtime(async {
        let bench = Bench::new().await;
        let content = image(&[(20, 1)], 0);
        let point = bench.publish("a", &content).await;
        let (restore, _) = bench.restore().await;
        let mut prepared = restore.plan(&to_file(point, &bench.path("x"))).await.unwrap();
        bench.faulty.plan(Rule::nth(1, Verb::GetRange, Fault::Flip { at: 500 }).on("packs/"));
        let report = restore.execute(&mut prepared).await.unwrap();
        assert!(std::fs::read(bench.path("x")).unwrap() == content);
        assert_eq!(report.hydrated.requests, 2);
    });
}

#[test]
fn a_run_that_stops_keeps_what_it_has_written() {
    on_runtime(async {
        let bench = Bench::new().await;
        let content = image(&[(1200, 1)], 0);
        let point = bench.publish("a", &content).await;
        let request = to_file(point, &bench.path("x"));
        let (restore, _) = bench.restore().await;
        // One range at a time, and no sync before the end.
        let restore =
            Restore { bounds: Bounds { budget_bytes: 1, workers: 1, sync_bytes: u64::MAX }, ..restore };
        let mut prepared = restore.plan(&request).await.unwrap();
        bench.faulty.plan(Rule::nth(4, Verb::GetRange, Fault::Dark).on("packs/"));
        restore.execute(&mut prepared).await.unwrap_err();
        bench.faulty.heal();
        let again = restore.plan(&request).await.unwrap();
        assert!(again.plan.totals.done_bytes >= 2 * (4 << 20) - (1 << 20), "{:?}", again.plan.totals);
    });
}

#[test]
fn a_point_forgotten_and_swept_meanwhile_is_said_to_be() {
    on_runtime(async {
        let bench = Bench::new().await;
        let point = bench.publish("a", &image(&[(20, 1)], 0)).await;
        let (restore, _) = bench.restore().await;
        let mut prepared = restore.plan(&to_file(point, &bench.path("x"))).await.unwrap();
        bench.repository.forget(point, "test").await.unwrap();
        for name in bench.data_packs() {
            bench.store.damage(&name, None);
        }
        let failed = restore.execute(&mut prepared).await.unwrap_err();
        assert!(failed.failure().code().ends_with("forgotten"), "{failed:?}");
    });
}

#[test]
fn a_store_that_fails_now_and_then_fails_the_restore_in_a_way_that_can_go_on() {
    on_runtime(async {
        let bench = Bench::new().await;
        let content = image(&[(20, 1)], 0);
        let point = bench.publish("a", &content).await;
        let (restore, _) = bench.restore().await;
        let mut prepared = restore.plan(&to_file(point, &bench.path("x"))).await.unwrap();
        bench.faulty.plan(Rule::every(Verb::GetRange, Fault::FailBefore(Failing::Refused)).on("packs/"));
        let failed = restore.execute(&mut prepared).await.unwrap_err();
        assert_eq!(failed.failure().remedy(), Remedy::FixSurroundings, "{failed}");
        bench.faulty.heal();
        bench.to_file(point, &bench.path("x")).await.unwrap();
        assert!(std::fs::read(bench.path("x")).unwrap() == content);
    });
}

#[test]
fn a_finished_restore_is_noted_in_the_journal_and_one_that_may_only_read_succeeds_too() {
    on_runtime(async {
        let bench = Bench::new().await;
        let point = bench.publish("a", &image(&[(3, 1)], 0)).await;
        let before = bench.repository.fold().await.unwrap().number;
        bench.to_file(point, &bench.path("x")).await.unwrap();
        assert_eq!(bench.repository.fold().await.unwrap().number, before + 1);
        bench.faulty.plan(Rule::every(Verb::Create, Fault::FailBefore(Failing::Refused)));
        bench.to_file(point, &bench.path("y")).await.unwrap();
    });
}

#[test]
fn a_long_restore_holds_its_point_and_lets_go_of_it_whatever_happens() {
    on_runtime(async {
        let bench = Bench::new().await;
        let point = bench.publish("a", &image(&[(300, 1)], 0)).await;
        for cut in [true, false] {
            let (restore, _) = bench.restore().await;
            let mut prepared = restore.plan(&to_file(point, &bench.path("x"))).await.unwrap();
            assert!(!prepared.plan.hold, "this one is quick");
            prepared.plan.hold = true;
            let before = bench.repository.fold().await.unwrap().number;
            if cut {
                bench
                    .faulty
                    .plan(Rule::first(1, Verb::GetRange, Fault::FailBefore(Failing::Refused)).on("packs/"));
            }
            assert_eq!(restore.execute(&mut prepared).await.is_err(), cut);
            bench.faulty.heal();
            let fold = bench.repository.fold().await.unwrap();
            assert!(fold.points[&point].held.is_empty());
            assert_eq!(
                fold.number - before,
                if cut { 2 } else { 3 },
                "held, released, and restored where it was"
            );
        }
    });
}

#[test]
fn what_does_not_read_back_is_reported_and_written_again_by_the_next_run() {
    on_runtime(async {
        let bench = Bench::new().await;
        let content = image(&[(20, 1)], 0);
        let point = bench.publish("a", &content).await;
        let path = bench.path("x");
        let request = to_file(point, &path);
        let (restore, _) = bench.restore().await;
        let prepared = restore.plan(&request).await.unwrap();
        // A run that has written everything, on a disk that did not keep a chunk.
        let header =
            prepared.wanted.header(prepared.plan.run, &prepared.plan.target, &prepared.plan.base, None);
        let (target, mut journal) = file::open(&path, header, false).unwrap();
        let mut bad = content.clone();
        bad[5 * CHUNK] ^= 1;
        target.write_at(0, &bad).unwrap();
        let chunks = (content.len() / CHUNK) as u64;
        let durable =
            crate::journal::Durable::sync(std::iter::once(0..chunks).collect(), || target.sync()).unwrap();
        journal.record(durable).unwrap();
        drop((target, journal));
        let failed = bench.run(&request).await.unwrap_err();
        assert_eq!(failed.failure().code(), "restore.not-kept");
        assert!(!path.exists());
        let (again, _) = bench.run(&request).await.unwrap();
        assert_eq!(again.plan.totals.write_bytes, CHUNK as u64);
        assert!(std::fs::read(&path).unwrap() == content);
    });
}
