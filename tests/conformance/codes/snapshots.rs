//! Refusals of Controller: snapshots.

use std::fs::File;

use strongroom_proto::csi::{DeleteSnapshotRequest, GetSnapshotRequest, ListSnapshotsRequest};
use tonic::Code;

use super::Findings;
use super::scene::Scene;
use crate::requests::{self, NO_SNAPSHOT, NO_VOLUME, entry};

pub(super) fn provoke(scene: &Scene, findings: &mut Findings) {
    use Code::{Aborted, AlreadyExists, InvalidArgument, NotFound, ResourceExhausted};
    let machine = &scene.machine;
    findings.refused(machine, InvalidArgument, "no name", requests::snapshot(&scene.db, ""));
    findings.refused(machine, InvalidArgument, "no volume", requests::snapshot("", "new"));
    findings.refused(
        machine,
        InvalidArgument,
        "a long name",
        requests::snapshot(&scene.db, &"x".repeat(129)),
    );
    let mut wrong = requests::snapshot(&scene.db, "new");
    wrong.parameters = entry("color", "red");
    findings.refused(machine, InvalidArgument, "an unknown parameter", wrong);
    findings.refused(machine, NotFound, "an unknown volume", requests::snapshot(NO_VOLUME, "new"));
    findings.refused(machine, NotFound, "a volume of another driver", requests::snapshot("not ours", "new"));
    let taken = requests::snapshot(&scene.idle, "of db");
    findings.refused(machine, AlreadyExists, "the name is that of another volume's", taken);
    {
        let _full = FullPool::new(scene);
        let full = requests::snapshot(&scene.db, "new");
        findings.refused(machine, ResourceExhausted, "the pool is full", full);
        let full = requests::volume("new", requests::Kind::Block, 1);
        findings.refused(machine, ResourceExhausted, "the pool is full", full);
    }
    let get = |id: &str| GetSnapshotRequest { snapshot_id: id.to_owned(), ..Default::default() };
    findings.refused(machine, InvalidArgument, "no snapshot", get(""));
    findings.refused(machine, NotFound, "an unknown snapshot", get(NO_SNAPSHOT));
    findings.refused(machine, NotFound, "a snapshot of another driver", get("not ours"));
    let delete = DeleteSnapshotRequest::default();
    findings.refused(machine, InvalidArgument, "no snapshot", delete);
    let list = ListSnapshotsRequest { max_entries: -1, ..Default::default() };
    findings.refused(machine, InvalidArgument, "fewer than none", list);
    let list = ListSnapshotsRequest { starting_token: "not a token".into(), ..Default::default() };
    findings.refused(machine, Aborted, "a token that was never given", list);
}

/// While this lives the pool is above its high-water mark.
pub(super) struct FullPool(std::path::PathBuf);

impl FullPool {
    pub(super) fn new(scene: &Scene) -> Self {
        let path = scene.machine.path("pool/filler");
        let file = File::create(&path).unwrap();
        let filled = (0..50).any(|_| {
            // The driver prepares images for later meanwhile, so what was free a moment ago may not be.
            let stat = rustix::fs::statvfs(scene.machine.path("pool")).unwrap();
            let bytes = stat.f_bavail.saturating_sub(8192) * stat.f_frsize;
            match rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, bytes) {
                Ok(()) => true,
                Err(rustix::io::Errno::NOSPC) => {
                    std::thread::sleep(std::time::Duration::from_millis(20));
                    false
                }
                Err(errno) => panic!("filling the pool: {errno}"),
            }
        });
        assert!(filled, "the pool could not be filled");
        Self(path)
    }
}

impl Drop for FullPool {
    fn drop(&mut self) {
        let free =
            || rustix::fs::statvfs(self.0.parent().unwrap()).map_or(0, |stat| stat.f_bfree * stat.f_frsize);
        let all = free() + std::fs::metadata(&self.0).map_or(0, |file| file.len());
        let _ = std::fs::remove_file(&self.0);
        // XFS frees the blocks in the background, on a busy machine later than the driver waits for.
        for _ in 0..500 {
            if free() > all / 2 {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
    }
}
