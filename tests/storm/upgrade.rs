//! The driver is replaced under mounted volumes: containers read and write on, and the new driver takes over.

use std::fs;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::ground::Ground;
use crate::lives::{Caller, Counts, Way};
use crate::random::Random;

/// A workload that writes and makes durable without a pause, and counts.
#[derive(Debug, Default)]
struct Writer {
    stop: AtomicBool,
    written: AtomicU64,
    longest_ms: AtomicU64,
}

impl Writer {
    /// Ends with the number of the last block; any error ends the test.
    fn write(&self, target: &PathBuf) -> u64 {
        let file = fs::OpenOptions::new().write(true).create(true).truncate(false).open(target);
        let file = file.expect("the workload opens its file");
        let mut number = 0;
        while !self.stop.load(Ordering::Relaxed) {
            let begun = Instant::now();
            file.write_all_at(&block(number), (number % 1024) * 4096).expect("a write under an upgrade");
            file.sync_data().expect("a sync under an upgrade");
            let took = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
            self.longest_ms.fetch_max(took, Ordering::Relaxed);
            number += 1;
            self.written.store(number, Ordering::Relaxed);
        }
        number
    }
}

fn block(number: u64) -> Vec<u8> {
    number.to_le_bytes().repeat(512)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn workloads_write_on_while_the_driver_is_killed_stopped_and_replaced() {
    let Some(mut ground) = Ground::new("the upgrade") else { return };
    ground.start();
    let clients = ground.connect().await;
    let (counts, folder) = (Counts::default(), ground.path("node"));
    let mut caller = Caller {
        clients: clients.clone(),
        random: Random::new(7, 7),
        folder: folder.clone(),
        counts: &counts,
    };
    let mut lives = Vec::new();
    for (name, way) in [("folder", Way::Folder), ("device", Way::Device)] {
        let volume = caller.create(name, way, None).await;
        caller.stage(&volume, name, way).await;
        let target = caller.publish(&volume, name, way).await;
        let file = if way == Way::Folder { target.join("file") } else { target };
        lives.push((volume, name, file));
    }
    let writers: Vec<std::sync::Arc<Writer>> = lives.iter().map(|_| std::sync::Arc::default()).collect();
    let writing: Vec<_> = lives
        .iter()
        .zip(&writers)
        .map(|((_, _, file), writer)| {
            let (writer, file) = (std::sync::Arc::clone(writer), file.clone());
            tokio::task::spawn_blocking(move || writer.write(&file))
        })
        .collect();

    for round in 0..7 {
        let how = if round % 3 == 2 { "stopped" } else { "killed" };
        if how == "stopped" {
            ground.stop()
        } else {
            ground.kill()
        }
        // While no driver runs at all they go on.
        for (writer, (_, name, _)) in writers.iter().zip(&lives) {
            let before = writer.written.load(Ordering::Relaxed);
            let begun = Instant::now();
            while writer.written.load(Ordering::Relaxed) < before + 5 {
                assert!(
                    begun.elapsed() < Duration::from_secs(60),
                    "{name} stands still while the driver is {how}"
                );
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        }
        ground.start();
        ground.connect().await;
    }
    assert_eq!(ground.doctor(), Vec::<String>::new());
    for writer in &writers {
        writer.stop.store(true, Ordering::Relaxed);
    }
    for ((writing, writer), (_, name, file)) in writing.into_iter().zip(&writers).zip(&lives) {
        let last = writing.await.expect("the workload had no error") - 1;
        println!("{name}: {} writes, the longest {} ms", last + 1, writer.longest_ms.load(Ordering::Relaxed));
        let mut content = vec![0; 4096];
        fs::File::open(file)
            .expect("its file")
            .read_exact_at(&mut content, (last % 1024) * 4096)
            .expect("its block");
        assert!(content == block(last), "{name} does not hold its last write");
    }
    // The driver of now undoes what the one of then did.
    for (volume, name, _) in &lives {
        caller.unpublish(volume, name).await;
        caller.unstage(volume, name).await;
        caller.delete(volume).await;
    }
    ground.stop();
    assert_eq!((ground.mounts(), ground.loops(), ground.images()), (Vec::new(), Vec::new(), Vec::new()));
}
