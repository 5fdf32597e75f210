//! A repository that is old: many points of many volumes. What opening, forgetting and sweeping it cost.
//!
//! Small by default. `benches/points` asks for 10,000 points of 100 volumes, in a folder that it names, and runs the
//! program on that.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use jiff::SignedDuration;
use strongroom_model::{RecoveryPointId, World};
use strongroom_object_store::memory::MemoryStore;
use strongroom_object_store::record::Record;
use strongroom_repository::keys::{KeyFile, Unlock};
use strongroom_repository::sweep::SweepOptions;
use strongroom_repository::{Fold, Repository};

use crate::world;

/// Each volume has so many chunks, and each backup of it changes one.
const CHUNKS: usize = 8;

/// How many points each volume keeps in the end.
const KEPT: usize = 3;

/// Where the bench wants the repository, and how large.
struct Wanted {
    folder: Option<PathBuf>,
    volumes: usize,
    points: usize,
}

impl Wanted {
    fn read() -> Self {
        let number = |name: &str| std::env::var(name).ok()?.parse().ok();
        Self {
            folder: std::env::var_os("STRONGROOM_POINTS_FOLDER").map(PathBuf::from),
            volumes: number("STRONGROOM_POINTS_VOLUMES").unwrap_or(10),
            points: number("STRONGROOM_POINTS").unwrap_or(200),
        }
    }
}

/// Backs up each volume in turn, by sessions of their own as agents do, until there are as many points as are wanted.
async fn fill(repository: &Repository, world: &World, wanted: &Wanted) {
    let mut images: Vec<Vec<u8>> = (0..wanted.volumes)
        .map(|volume| {
            let mut image = vec![0; CHUNKS * world::CHUNK_BYTES as usize];
            for (number, chunk) in image.chunks_mut(world::CHUNK_BYTES as usize).enumerate() {
                chunk[..16].copy_from_slice(&((volume << 32 | number) as u128 + 1).to_le_bytes());
            }
            image
        })
        .collect();
    for point in 0..wanted.points {
        let (volume, round) = (point % wanted.volumes, point / wanted.volumes);
        let image = &mut images[volume];
        let at = (round % CHUNKS) * world::CHUNK_BYTES as usize + 16;
        image[at..at + 8].copy_from_slice(&(round as u64).to_le_bytes());
        world::back_up(repository, world, &format!("volume-{volume}"), image).await;
        if point % 1000 == 999 {
            println!("{} points", point + 1);
        }
    }
}

/// The newest few of each volume are kept.
fn expired(fold: &Fold) -> Vec<RecoveryPointId> {
    let mut gone = Vec::new();
    for volume in fold.volumes() {
        let points = fold.points_of(volume);
        gone.extend(points[..points.len().saturating_sub(KEPT)].iter().map(|point| point.id));
    }
    gone
}

/// What this process keeps in memory of its own, in MiB.
fn memory_mib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap_or_default();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap_or(0) / 1024
}

fn write_out(store: &MemoryStore, folder: &Path) {
    for (name, body) in store.contents() {
        let path = folder.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, body).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_repository_of_many_points_is_opened_forgotten_from_and_swept_with_few_requests() {
    let wanted = Wanted::read();
    let world = world::world(77);
    let memory = MemoryStore::new(Arc::clone(&world.clock));
    let key = KeyFile::generate(&*world.entropy);
    let unlock = Unlock::KeyFile(key.clone());
    let begun = Instant::now();
    let repository = world::init_in(Arc::new(memory.clone()), &world, std::slice::from_ref(&unlock)).await;
    fill(&repository, &world, &wanted).await;
    println!("{} points of {} volumes in {:.0?}", wanted.points, wanted.volumes, begun.elapsed());
    drop(repository);
    if let Some(folder) = &wanted.folder {
        write_out(&memory, &folder.join("repository"));
        key.write_new(&folder.join("key")).unwrap();
    }

    let recorded = Record::new(Arc::new(memory.clone()));
    let counts = recorded.counts();
    let (before, begun) = (memory_mib(), Instant::now());
    let repository =
        Repository::open(Arc::new(recorded), world.clone(), &unlock, world::options()).await.unwrap();
    let opening = counts.all_requests();
    println!("opening: {opening} requests, {:.2?}", begun.elapsed());
    // Head, slot, names, checkpoint and its record, the end; and records since the checkpoint.
    assert!(opening < 16 + 256, "{opening} requests");
    assert_eq!(repository.known_fold().points.len(), wanted.points);

    let begun = Instant::now();
    let forgotten = repository.forget_by(expired, "test").await.unwrap();
    assert_eq!(forgotten.len(), wanted.points - KEPT * wanted.volumes);
    let appends = counts.all_requests() - opening;
    println!("forgetting {} points: {appends} requests, {:.2?}", forgotten.len(), begun.elapsed());
    assert!(appends < 3 * forgotten.len() as u64, "a look, a create, and now and then a checkpoint");

    let grace = SignedDuration::from_hours(24);
    for (what, grace) in [("with a day's grace", grace), ("at once", SignedDuration::ZERO)] {
        let (asked, begun) = (counts.all_requests(), Instant::now());
        let swept = repository.sweep_with_grace(&SweepOptions::default(), grace).await.unwrap();
        println!(
            "sweep {what}: {} objects deleted, {} requests, {:.2?}, {} MiB more memory than before",
            swept.deleted_objects,
            counts.all_requests() - asked,
            begun.elapsed(),
            memory_mib().saturating_sub(before),
        );
    }
    let fold = repository.fold().await.unwrap();
    assert_eq!(fold.points.len(), KEPT * wanted.volumes);
    let checked = repository.check(false, &|_, _| ()).await.unwrap();
    assert!(checked.is_whole(), "{checked:?}");
}
