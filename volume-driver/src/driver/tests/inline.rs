//! Inline volumes.

use std::fs;
use std::path::PathBuf;

use strongroom_model::Failure as _;

use crate::nouns::{Filesystem, Outcome};
use crate::requests::{PublishEphemeral, SizeRange};
use crate::testing::{Bench, MIB};

pub(crate) fn request(handle: &str, target: PathBuf) -> PublishEphemeral {
    PublishEphemeral {
        handle: handle.to_owned(),
        target,
        size: SizeRange::of(16 * MIB),
        filesystem: None,
        readonly: false,
        options: Vec::new(),
        labels: [].into(),
    }
}

#[test]
fn an_inline_volume_comes_with_its_pod_and_goes_with_it() {
    let Some(bench) = Bench::new() else { return };
    let (driver, target) = (bench.driver(), bench.scratch.path("pod"));
    let wanted = request("csi-../../etc", target.clone());
    let made = driver.publish_ephemeral(&wanted).unwrap();
    assert!(matches!(made, Outcome::Created(_)), "{made:?}");
    fs::write(target.join("file"), b"x").unwrap();
    assert!(matches!(driver.publish_ephemeral(&wanted).unwrap(), Outcome::Identical(_)));
    let otherwise = PublishEphemeral { readonly: true, ..wanted.clone() };
    assert!(matches!(driver.publish_ephemeral(&otherwise).unwrap(), Outcome::Conflict { .. }));
    let id = driver.ephemeral("csi-../../etc").unwrap().unwrap();
    assert!(driver.usage(id, &target).unwrap().total_bytes < 16 * MIB);
    assert_eq!(driver.delete(id).unwrap_err().code(), "driver.in-use");

    assert!(!driver.unpublish_ephemeral("csi-other", &target).unwrap());
    assert!(!driver.unpublish_ephemeral("csi-../../etc", &bench.scratch.path("elsewhere")).unwrap());
    assert!(driver.unpublish_ephemeral("csi-../../etc", &target).unwrap());
    assert!(!driver.unpublish_ephemeral("csi-../../etc", &target).unwrap());
    let left = bench.inventory();
    assert!(left.images.is_empty() && left.loops == 0 && !target.exists(), "{left:?}");
    assert!(driver.registry_is_quiet());
}

#[test]
fn an_inline_volume_that_fails_leaves_nothing_behind() {
    let Some(bench) = Bench::new() else { return };
    let (driver, target) = (bench.driver(), bench.scratch.path("pod"));
    let good = request("csi-1", target.clone());
    for bad in [
        PublishEphemeral { size: SizeRange::of(MIB), ..good.clone() },
        PublishEphemeral { size: SizeRange::of(1 << 50), ..good.clone() },
        PublishEphemeral { options: vec!["logdev=/dev/sda".to_owned()], ..good.clone() },
        PublishEphemeral { target: "/tmp".into(), ..good.clone() },
        PublishEphemeral { filesystem: Some(Filesystem::Xfs), ..good.clone() },
        PublishEphemeral { target: bench.scratch.path("no/such/folder"), ..good.clone() },
    ] {
        driver.publish_ephemeral(&bad).unwrap_err();
    }
    // It fails late: what stands there is no folder.
    fs::write(&target, b"data").unwrap();
    driver.publish_ephemeral(&good).unwrap_err();
    assert_eq!(fs::read(&target).unwrap(), b"data");
    let left = bench.inventory();
    assert!(left.images.is_empty() && left.fresh.is_empty() && left.loops == 0, "{left:?}");
    fs::remove_file(&target).unwrap();
    driver.publish_ephemeral(&good).unwrap();
    assert!(driver.unpublish_ephemeral("csi-1", &target).unwrap());
    assert!(driver.registry_is_quiet());
}

#[test]
fn after_a_reboot_inline_volumes_are_collected() {
    let Some(mut bench) = Bench::new() else { return };
    let (gone, there) = (bench.scratch.path("gone"), bench.scratch.path("there"));
    bench.driver().publish_ephemeral(&request("csi-1", gone.clone())).unwrap();
    bench.driver().publish_ephemeral(&request("csi-2", there.clone())).unwrap();
    bench.driver = None;
    rustix::mount::unmount(&gone, rustix::mount::UnmountFlags::empty()).unwrap();
    bench.restart();
    assert!(bench.report.iter().any(|line| line.contains("inline")), "{:?}", bench.report);
    assert_eq!(bench.driver().ephemeral("csi-1").unwrap(), None);
    assert!(bench.driver().ephemeral("csi-2").unwrap().is_some());
    let left = bench.inventory();
    assert!((left.images.len(), left.mounts, left.loops) == (1, 1, 1) && !gone.exists(), "{left:?}");
    assert!(bench.driver().unpublish_ephemeral("csi-2", &there).unwrap());
}
