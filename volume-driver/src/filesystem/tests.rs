use std::process::Command;

use crate::loop_device::{self, LoopDevice};
use crate::testing::{Scratch, can_mount};

use super::*;

const BYTES: u64 = 32 << 20;

fn device(scratch: &Scratch, name: &str, write: impl FnOnce(&File)) -> (LoopDevice, PathBuf) {
    let path = scratch.path(name);
    let file = File::create_new(&path).unwrap();
    file.set_len(BYTES).unwrap();
    write(&file);
    file.sync_all().unwrap();
    (loop_device::attach(&path).unwrap(), path)
}

/// What marks a device as somebody's, and where: each alone must keep it from being formatted.
const MARKS: [(&str, u64, &[u8]); 14] = [
    ("a boot sector", 510, &[0x55, 0xaa]),
    ("a table of partitions", 512, b"EFI PART"),
    ("its copy at the end", BYTES - 512, b"EFI PART"),
    ("LUKS", 0, b"LUKS\xba\xbe"),
    ("the second header of LUKS", 0x4000, b"SKUL\xba\xbe"),
    ("LVM", 512, b"LABELONE"),
    ("RAID at the beginning", 4096, &[0xfc, 0x4e, 0x2b, 0xa9]),
    ("RAID at the end", BYTES - 8192, &[0xfc, 0x4e, 0x2b, 0xa9]),
    ("ext4", 1024 + 56, &[0x53, 0xef]),
    ("XFS", 0, b"XFSB"),
    ("btrfs", 65_536 + 64, b"_BHRfS_M"),
    ("ZFS at the beginning", 128 << 10, &[0x0c, 0xb1, 0xba, 0]),
    ("ZFS at the end", BYTES - (256 << 10) + (128 << 10), &[0x0c, 0xb1, 0xba, 0]),
    ("swap", 4096 - 10, b"SWAPSPACE2"),
];

#[test]
fn a_device_with_any_mark_of_anybody_is_never_formatted() {
    if !can_mount() {
        return;
    }
    let scratch = Scratch::new();
    let (blank, path) = device(&scratch, "blank", |_| {});
    BlankDevice::prove(&blank.path()).unwrap();
    loop_device::detach(&path, "test").unwrap();
    for (what, at, bytes) in MARKS {
        let (marked, path) = device(&scratch, what, |file| file.write_all_at(bytes, at).unwrap());
        let refused = BlankDevice::prove(&marked.path()).unwrap_err();
        assert!(matches!(refused, CoreError::Refused { .. }), "{what}: {refused}");
        loop_device::detach(&path, "test").unwrap();
    }
}

#[test]
fn a_device_that_cannot_be_read_is_never_formatted() {
    if !can_mount() {
        return;
    }
    let scratch = Scratch::new();
    let (device, path) = device(&scratch, "torn", |_| {});
    // The device keeps its size; what lies behind it is gone, and reading there is an error.
    OpenOptions::new().write(true).open(&path).unwrap().set_len(1 << 20).unwrap();
    let read = Command::new("dd")
        .arg(format!("if={}", device.path().display()))
        .args(["of=/dev/null", "bs=4096", "skip=8000", "count=1", "iflag=direct"])
        .output()
        .unwrap();
    let node = device.path();
    let refused = BlankDevice::prove(&node);
    if read.status.success() {
        println!("SKIPPED: this kernel reads zeros where the file ends");
    } else {
        assert!(matches!(refused, Err(CoreError::Blocks { .. })), "{refused:?}");
    }
    loop_device::detach(&path, "test").unwrap();
}

#[test]
fn an_image_that_holds_anything_at_all_is_never_formatted() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("image");
    let image = FreshImage::create(&path, BYTES).unwrap();
    image.file().write_all_at(&[1], BYTES / 2).unwrap();
    let refused = make(&image, Filesystem::Ext4, None, "test").unwrap_err();
    assert!(matches!(refused, CoreError::Bug { .. }), "{refused}");
    assert!(FreshImage::create(&path, BYTES).is_err(), "what is there is not a fresh image");
}
