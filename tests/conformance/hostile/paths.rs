//! Places that are not what they seem: links, files, covered folders, folders that are exchanged under the driver's hands.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use strongroom_proto::csi::{NodePublishVolumeRequest, NodeStageVolumeRequest};
use tonic::Code;

use super::yard::Yard;
use crate::kernel;
use crate::machine::Machine;
use crate::requests::{self, Kind};
use crate::volume;

struct Ground {
    machine: Machine,
    /// ext4, staged.
    staged: String,
    /// ext4, nowhere.
    loose: String,
    /// Raw, staged.
    raw: String,
}

impl Ground {
    fn new(test: &str) -> Option<Self> {
        let machine = Machine::new(test)?;
        let staged = volume::small(&machine, "db", Kind::Ext4);
        machine.ok(volume::stage_request(&machine, &staged, "db", requests::mount("ext4")));
        let loose = volume::small(&machine, "loose", Kind::Ext4);
        let raw = volume::small(&machine, "raw", Kind::Block);
        machine.ok(volume::stage_request(&machine, &raw, "raw", requests::block()));
        Some(Self { machine, staged, loose, raw })
    }

    fn publish_at(&self, target: &Path) -> NodePublishVolumeRequest {
        let mut request = volume::publish_request(&self.machine, &self.staged, "db", requests::mount("ext4"));
        request.target_path = target.to_str().unwrap().to_owned();
        request
    }

    fn publish_raw_at(&self, target: &Path) -> NodePublishVolumeRequest {
        let mut request = volume::publish_request(&self.machine, &self.raw, "raw", requests::block());
        request.target_path = target.to_str().unwrap().to_owned();
        request
    }

    fn stage_at(&self, path: &Path) -> NodeStageVolumeRequest {
        let mut request =
            volume::stage_request(&self.machine, &self.loose, "unused", requests::mount("ext4"));
        fs::remove_dir(&request.staging_target_path).unwrap();
        request.staging_target_path = path.to_str().unwrap().to_owned();
        request
    }

    fn finish(self) {
        self.machine.ok(volume::unstage_request(&self.machine, &self.staged, "db"));
        self.machine.ok(volume::unstage_request(&self.machine, &self.raw, "raw"));
        self.machine.finish();
    }
}

/// Refused with a code that says whose fault it is, and nothing is mounted at or below `place`.
#[track_caller]
fn refused<R: crate::call::Call>(machine: &Machine, request: R, place: &Path, what: &str) {
    let code = match machine.call(request) {
        Ok(_) => panic!("{what} is accepted by {}", R::PATH),
        Err(status) => status.code(),
    };
    let fine = [Code::InvalidArgument, Code::FailedPrecondition, Code::NotFound, Code::AlreadyExists];
    assert!(fine.contains(&code), "{what}: {} answers {code:?}", R::PATH);
    let table = kernel::mounts_below(place);
    assert!(table.len() <= 1, "{what}: {table:?}");
}

#[test]
fn links_files_and_covered_folders_are_no_places_for_a_volume() {
    let Some(ground) = Ground::new("hostile places") else { return };
    let machine = &ground.machine;
    let yard = Yard::look(machine);
    let (pods, outside) = (machine.path("yard/mounts/pods"), machine.path("yard/outside"));
    // A link, dangling or not, as the last part or on the way.
    std::os::unix::fs::symlink("/nonexistent", pods.join("dangling")).unwrap();
    std::os::unix::fs::symlink("db", pods.join("sibling")).unwrap();
    for (what, target) in [
        ("a link that leads out", pods.join("link")),
        ("a place behind a link that leads out", pods.join("link/folder")),
        ("a dangling link", pods.join("dangling")),
        ("a link to a sibling", pods.join("sibling")),
        ("a place outside the roots", outside.join("folder")),
        ("the roots themselves", machine.path("yard/mounts")),
        ("the pool", machine.path("pool/volumes")),
        ("the state", machine.path("state")),
        ("the root of the machine", PathBuf::from("/")),
        ("a folder of the machine", PathBuf::from("/etc")),
    ] {
        refused(machine, ground.publish_at(&target), &outside, what);
        refused(machine, ground.publish_raw_at(&target), &outside, what);
        refused(machine, ground.stage_at(&target), &outside, what);
    }
    // A file where a folder has to be, and the other way round.
    File::create(pods.join("file")).unwrap();
    fs::create_dir(pods.join("folder")).unwrap();
    refused(machine, ground.publish_at(&pods.join("file")), &pods.join("file"), "a file as a folder");
    refused(machine, ground.stage_at(&pods.join("file")), &pods.join("file"), "a file as a folder");
    refused(
        machine,
        ground.publish_raw_at(&pods.join("folder")),
        &pods.join("folder"),
        "a folder as a device",
    );
    refused(machine, ground.publish_at(&pods.join("file/below")), &pods.join("file"), "a place below a file");
    // Something is mounted there already.
    fs::create_dir(pods.join("covered")).unwrap();
    kernel::sh("mount", &["-t", "tmpfs", "tmpfs", pods.join("covered").to_str().unwrap()]);
    refused(machine, ground.publish_at(&pods.join("covered")), &pods.join("covered"), "a covered folder");
    refused(machine, ground.stage_at(&pods.join("covered")), &pods.join("covered"), "a covered folder");
    kernel::sh("umount", &[pods.join("covered").to_str().unwrap()]);
    // What belongs to another volume is not unmounted.
    machine.ok(ground.publish_at(&pods.join("db")));
    machine.ok(strongroom_proto::csi::NodeUnpublishVolumeRequest {
        volume_id: ground.loose.clone(),
        target_path: machine.pod_path("db"),
    });
    assert_eq!(kernel::mounts_below(&pods.join("db")).len(), 1, "another volume's call took it away");
    // What the workload itself lays out in its volume leads nowhere.
    std::os::unix::fs::symlink(&outside, pods.join("db/link")).unwrap();
    refused(machine, ground.publish_raw_at(&pods.join("db/link/device")), &outside, "a link in a volume");
    fs::remove_file(pods.join("db/link")).unwrap();
    machine.ok(volume::unpublish_request(machine, &ground.staged, "db"));
    for (name, folder) in
        [("dangling", false), ("sibling", false), ("file", false), ("folder", true), ("covered", true)]
    {
        let path = pods.join(name);
        if folder { fs::remove_dir(path) } else { fs::remove_file(path) }.unwrap();
    }
    assert_eq!(yard.differs(machine), None);
    ground.finish();
}

#[test]
fn a_folder_that_becomes_a_link_in_that_moment_leads_nowhere() {
    let Some(ground) = Ground::new("exchanged folders") else { return };
    let machine = &ground.machine;
    let yard = Yard::look(machine);
    let (pods, outside) = (machine.path("yard/mounts/pods"), machine.path("yard/outside"));
    let (real, trap) = (pods.join("pod"), pods.join("trap"));
    fs::create_dir(&real).unwrap();
    std::os::unix::fs::symlink(outside.join("folder"), &trap).unwrap();
    let stop = AtomicBool::new(false);
    let (mut good, mut bad) = (0, 0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            // The folder of the pod and a link that leads out change places all the time.
            while !stop.load(Ordering::Relaxed) {
                let flags = rustix::fs::RenameFlags::EXCHANGE;
                let here = rustix::fs::CWD;
                let _ = rustix::fs::renameat_with(here, &real, here, &trap, flags);
            }
        });
        for _ in 0..150 {
            let target = real.join("target");
            match machine.call(ground.publish_at(&target)) {
                Ok(_) => {
                    good += 1;
                    // The folder may just have the other name: whoever takes back asks until it is gone.
                    for place in [&real, &trap].into_iter().cycle().take(200) {
                        let target_path = place.join("target").to_str().unwrap().to_owned();
                        let volume_id = ground.staged.clone();
                        let request =
                            strongroom_proto::csi::NodeUnpublishVolumeRequest { volume_id, target_path };
                        let _ = machine.call(request);
                        if kernel::mounts_below(&pods).is_empty() {
                            break;
                        }
                    }
                }
                Err(status) => {
                    assert!(super::PROPER.contains(&status.code()), "{status:?}");
                    bad += 1;
                }
            }
            assert!(kernel::mounts_below(&outside).is_empty(), "mounted outside");
        }
        stop.store(true, Ordering::Relaxed);
    });
    println!("{good} times published, {bad} times refused");
    for name in ["pod", "trap"] {
        let path = pods.join(name);
        if fs::symlink_metadata(&path).unwrap().is_dir() {
            let _ = fs::remove_dir(path.join("target"));
            fs::remove_dir(path).unwrap();
        } else {
            fs::remove_file(path).unwrap();
        }
    }
    assert_eq!(yard.differs(machine), None);
    ground.finish();
}
