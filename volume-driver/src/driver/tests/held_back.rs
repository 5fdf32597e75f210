//! What can be changed about a volume, attachments, and I/O that the kernel holds back.

use std::fs;
use std::num::NonZeroU64;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use strongroom_model::Failure as _;

use crate::io_limits::{IoLimits, IoQuantity};
use crate::nouns::{Access, Attachment, Outcome, Volume, VolumeKind};
use crate::requests::{Changes, CreateVolume, StageRequest};
use crate::testing::{Bench, volume_request};

fn limit(quantity: IoQuantity, limit: u64) -> Changes {
    Changes { limits: [(quantity, NonZeroU64::new(limit))].into(), ..Changes::default() }
}

fn label(key: &str, value: Option<&str>) -> Changes {
    Changes { labels: [(key.to_owned(), value.map(str::to_owned))].into(), ..Changes::default() }
}

fn staged(bench: &Bench, volume: &Volume) -> (PathBuf, (u32, u32)) {
    let path = bench.scratch.path("staging");
    let (filesystem, options) = (None, Vec::new());
    let request = StageRequest { volume: volume.id, path, access: Access::Block, filesystem, options };
    bench.driver().stage(&request).unwrap();
    let device = bench.driver().brief(volume.id).unwrap().device.unwrap();
    let number: u32 = device.to_str().unwrap().trim_start_matches("/dev/loop").parse().unwrap();
    (device, (7, number))
}

/// The blkio controller of cgroup v1 where the bench looks for it, and a group of our own in it. `None`: not here.
struct Blkio {
    folder: PathBuf,
    group: PathBuf,
}

impl Blkio {
    fn new(bench: &Bench) -> Option<Self> {
        let folder = bench.scratch.folder("cgroups/blkio");
        let mounted =
            Command::new("mount").args(["-t", "cgroup", "-o", "blkio", "cgroup"]).arg(&folder).status();
        let group = folder.join(format!("strongroom-test-{}", std::process::id()));
        let throttles = folder.join("blkio.throttle.write_iops_device").exists();
        if !mounted.is_ok_and(|status| status.success()) || !throttles || fs::create_dir(&group).is_err() {
            println!("SKIPPED: needs the blkio controller of cgroup v1 with throttling");
            return None;
        }
        Some(Self { folder, group })
    }

    /// The limits of a device that the group shows.
    fn shown(&self, file: &str, (major, minor): (u32, u32)) -> Option<u64> {
        let text = fs::read_to_string(self.group.join(format!("blkio.throttle.{file}_device"))).unwrap();
        let device = format!("{major}:{minor} ");
        text.lines().find_map(|line| line.strip_prefix(&device)?.trim().parse().ok())
    }

    /// How long so many direct writes of a block take for a process in the group.
    fn writing(&self, count: u32, device: &Path) -> Duration {
        let script = format!(
            "echo $$ > {}/cgroup.procs && exec dd if=/dev/zero of={} bs=4096 count={count} oflag=direct status=none",
            self.group.display(),
            device.display()
        );
        let started = Instant::now();
        assert!(Command::new("sh").args(["-c", &script]).status().unwrap().success());
        started.elapsed()
    }
}

impl Drop for Blkio {
    fn drop(&mut self) {
        // Its processes have ended; the kernel may notice a moment later.
        for _ in 0..50 {
            if fs::remove_dir(&self.group).is_ok() {
                break;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let _ = rustix::mount::unmount(&self.folder, rustix::mount::UnmountFlags::empty());
    }
}

#[test]
fn a_limited_volume_is_held_back_by_the_kernel_and_its_device_is_free_of_it_afterwards() {
    let Some(mut bench) = Bench::new() else { return };
    let Some(blkio) = Blkio::new(&bench) else { return };
    let volume = bench.create("limited", 8, VolumeKind::Block);
    let (device, number) = staged(&bench, &volume);
    assert_eq!(blkio.shown("write_iops", number), None);
    let modified = bench.driver().modify(volume.id, &limit(IoQuantity::IopsWrite, 20)).unwrap();
    assert_eq!(modified.limits.iops_write, NonZeroU64::new(20));
    assert_eq!(modified.condition, None);
    assert_eq!(blkio.shown("write_iops", number), Some(20));
    // 40 writes at 20 a second; the kernel counts in slices and lets the first of them pass.
    let took = blkio.writing(40, &device);
    assert!(took >= Duration::from_secs(1), "{took:?}");

    // The limit holds over a restart, and in a group that came since.
    let young = blkio.group.join("young");
    fs::create_dir(&young).unwrap();
    bench.driver().limit_again().unwrap();
    let seen = fs::read_to_string(young.join("blkio.throttle.write_iops_device")).unwrap();
    fs::remove_dir(&young).unwrap();
    assert!(seen.contains(&format!("{}:{} 20", number.0, number.1)), "{seen:?}");
    fs::write(blkio.group.join("blkio.throttle.write_iops_device"), format!("{}:{} 0", number.0, number.1))
        .unwrap();
    bench.restart();
    assert_eq!(blkio.shown("write_iops", number), Some(20));

    bench.driver().unstage(volume.id, &bench.scratch.path("staging")).unwrap();
    assert_eq!(blkio.shown("write_iops", number), None, "the number will be another volume's");
    let (_, number) = staged(&bench, &volume);
    assert_eq!(blkio.shown("write_iops", number), Some(20));
    bench.driver().modify(volume.id, &limit(IoQuantity::IopsWrite, 0)).unwrap();
    assert_eq!(blkio.shown("write_iops", number), None);
}

#[test]
fn where_the_kernel_cannot_limit_nothing_of_the_request_is_done() {
    let Some(bench) = Bench::new() else { return };
    let driver = bench.driver();
    let volume = bench.create("v", 8, VolumeKind::Block);
    let both = Changes { labels: label("tier", Some("gold")).labels, ..limit(IoQuantity::BytesRead, 1) };
    let refused = driver.modify(volume.id, &both).unwrap_err();
    assert_eq!(refused.code(), "driver.no-io-limits");
    assert!(refused.to_string().contains("cgroup"), "{refused}");
    let after = driver.brief(volume.id).unwrap();
    assert_eq!((after.labels, after.limits), (volume.labels.clone(), IoLimits::NONE));
    let new = CreateVolume {
        limits: IoLimits::NONE.with(IoQuantity::IopsRead, NonZeroU64::new(5)),
        ..volume_request("new", 8, VolumeKind::Block)
    };
    assert_eq!(driver.create(&new).unwrap_err().code(), "driver.no-io-limits");
    assert_eq!(bench.inventory().images.len(), 1);
}

#[test]
fn only_the_labels_that_are_named_change_and_a_late_repetition_of_creating_is_no_conflict() {
    let Some(bench) = Bench::new() else { return };
    let driver = bench.driver();
    let volume = bench.create("v", 8, VolumeKind::Block);
    driver.modify(volume.id, &label("policy", Some("hourly"))).unwrap();
    let changed = driver.modify(volume.id, &label("app", None)).unwrap();
    assert_eq!(changed.labels, [("policy".to_owned(), "hourly".to_owned())].into());
    let again = volume_request("v", 8, VolumeKind::Block);
    assert!(matches!(driver.create(&again).unwrap(), Outcome::Identical(_)));
    let with = |key: &str, value: &str| CreateVolume {
        labels: [(key.to_owned(), value.to_owned())].into(),
        ..again.clone()
    };
    assert!(matches!(driver.create(&with("policy", "hourly")).unwrap(), Outcome::Identical(_)));
    assert!(matches!(driver.create(&with("policy", "daily")).unwrap(), Outcome::Conflict { .. }));
    let long = label("many", Some(&"x".repeat(128)));
    for number in 0..31 {
        let key = format!("k{number}");
        driver.modify(volume.id, &label(&key, long.labels["many"].as_deref())).unwrap();
    }
    assert_eq!(driver.modify(volume.id, &long).unwrap_err().code(), "driver.refused");
}

#[test]
fn an_attached_volume_is_this_nodes_until_it_is_detached() {
    let Some(mut bench) = Bench::new() else { return };
    let volume = bench.create("v", 64, VolumeKind::Ext4);
    let here = Attachment { node: "test".to_owned(), readonly: false, only_target: true };
    let driver = bench.driver();
    assert!(matches!(driver.attach_to_node(volume.id, &here).unwrap(), Outcome::Created(_)));
    assert!(matches!(driver.attach_to_node(volume.id, &here).unwrap(), Outcome::Identical(_)));
    let readonly = Attachment { readonly: true, ..here.clone() };
    assert!(matches!(driver.attach_to_node(volume.id, &readonly).unwrap(), Outcome::Conflict { .. }));
    let elsewhere = Attachment { node: "other".to_owned(), ..here.clone() };
    assert_eq!(driver.attach_to_node(volume.id, &elsewhere).unwrap_err().code(), "driver.not-found");
    bench.restart();
    let driver = bench.driver();
    assert_eq!(driver.brief(volume.id).unwrap().attachments, [here]);
    assert_eq!(driver.delete(volume.id).unwrap_err().code(), "driver.in-use");

    // While the node uses it, it is not taken away.
    let staging = bench.scratch.path("staging");
    let (access, filesystem, options) = (Access::Mount, None, Vec::new());
    driver
        .stage(&StageRequest { volume: volume.id, path: staging.clone(), access, filesystem, options })
        .unwrap();
    assert_eq!(driver.detach_from_node(volume.id, None).unwrap_err().code(), "driver.in-use");
    driver.detach_from_node(volume.id, Some("other")).unwrap();
    driver.unstage(volume.id, &staging).unwrap();
    driver.detach_from_node(volume.id, None).unwrap();
    driver.detach_from_node(volume.id, Some("test")).unwrap();
    driver.delete(volume.id).unwrap();
    driver.detach_from_node(volume.id, None).unwrap();
    assert!(driver.registry_is_quiet());
}

#[test]
fn a_node_that_was_renamed_still_has_what_it_had_and_is_full_when_it_is_full() {
    let Some(mut bench) = Bench::new() else { return };
    let one = bench.create("one", 8, VolumeKind::Block);
    let two = bench.create("two", 8, VolumeKind::Block);
    let on = |node: &str| Attachment { node: node.to_owned(), readonly: false, only_target: true };
    bench.driver().attach_to_node(one.id, &on("test")).unwrap();
    bench.restart_with(|settings| {
        settings.node = "renamed".to_owned();
        settings.limits.max_volumes = 1;
    });
    let driver = bench.driver();
    let refused = driver.attach_to_node(one.id, &on("renamed")).unwrap_err();
    assert!(refused.code() == "driver.in-use" && refused.to_string().contains("\"test\""), "{refused}");
    driver.detach_from_node(one.id, Some("test")).unwrap();
    driver.attach_to_node(one.id, &on("renamed")).unwrap();
    assert_eq!(driver.attach_to_node(two.id, &on("renamed")).unwrap_err().code(), "driver.node-full");
    // What is attached already is no further one.
    driver.attach_to_node(one.id, &on("renamed")).unwrap();
}
