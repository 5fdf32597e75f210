use super::*;

fn limits(iops_write: u64, bytes_read: u64) -> IoLimits {
    IoLimits::NONE
        .with(IoQuantity::IopsWrite, NonZeroU64::new(iops_write))
        .with(IoQuantity::BytesRead, NonZeroU64::new(bytes_read))
}

fn made(root: &Path, files: &[(&str, &str)]) {
    for (path, text) in files {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
}

fn content(root: &Path, file: &str) -> String {
    fs::read_to_string(root.join(file)).unwrap()
}

#[test]
fn with_cgroup_v2_each_group_of_the_first_level_gets_the_limit_and_none_below() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    made(
        root,
        &[
            ("cgroup.controllers", "cpu io memory\n"),
            ("kubepods.slice/io.max", ""),
            ("kubepods.slice/pod1/io.max", ""),
            (
                "system.slice/io.max",
                "7:3 rbps=5 wbps=max riops=max wiops=7\n7:31 rbps=1 wbps=1 riops=1 wiops=1\n",
            ),
            ("init.scope/cgroup.procs", ""),
        ],
    );
    let throttle = IoThrottle::new(root.to_owned());
    throttle.limit((7, 3), limits(20, 4096)).unwrap();
    let line = "7:3 riops=max wiops=20 rbps=4096 wbps=max";
    assert_eq!(content(root, "kubepods.slice/io.max"), line);
    // A file of the kernel keeps its other lines; this one is a plain file, so only its beginning was written over.
    assert!(content(root, "system.slice/io.max").starts_with(line));
    assert_eq!(content(root, "kubepods.slice/pod1/io.max"), "");
    // What is there is not written again.
    made(root, &[("kubepods.slice/io.max", "7:3 rbps=4096 wbps=max riops=max wiops=20\n")]);
    throttle.limit((7, 3), limits(20, 4096)).unwrap();
    assert_eq!(content(root, "kubepods.slice/io.max"), "7:3 rbps=4096 wbps=max riops=max wiops=20\n");
    throttle.limit((7, 3), IoLimits::NONE).unwrap();
    assert!(content(root, "kubepods.slice/io.max").starts_with("7:3 riops=max wiops=max rbps=max wbps=max"));
}

#[test]
fn with_cgroup_v1_every_group_gets_the_limit() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    for group in ["blkio", "blkio/a", "blkio/a/b"] {
        for quantity in IoQuantity::ALL {
            made(root, &[(&format!("{group}/{}", legacy_file(quantity)), "")]);
        }
    }
    let throttle = IoThrottle::new(root.to_owned());
    throttle.limit((7, 12), limits(u64::MAX, 4096)).unwrap();
    for group in ["blkio", "blkio/a", "blkio/a/b"] {
        assert_eq!(content(root, &format!("{group}/blkio.throttle.write_iops_device")), "7:12 4294967295");
        assert_eq!(content(root, &format!("{group}/blkio.throttle.read_bps_device")), "7:12 4096");
        assert_eq!(content(root, &format!("{group}/blkio.throttle.read_iops_device")), "");
    }
    throttle.limit((7, 12), IoLimits::NONE).unwrap();
    assert!(content(root, "blkio/a/blkio.throttle.read_bps_device").starts_with("7:12 0"));
}

#[test]
fn what_the_kernel_lacks_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    let missing = IoThrottle::new(root.to_owned()).check().unwrap_err();
    assert!(missing.contains("cgroup v2") && missing.contains("cgroup v1"), "{missing}");
    made(root, &[("cgroup.controllers", "cpu io\n"), ("system.slice/cgroup.procs", "")]);
    let missing = IoThrottle::new(root.to_owned()).check().unwrap_err();
    assert!(missing.contains("cgroup.subtree_control"), "{missing}");
}
