//! Raw volumes: read-only, by hand, and in growth.

use std::fs::{self, File, OpenOptions};
use std::io::{Seek as _, SeekFrom};
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use strongroom_model::Failure as _;

use crate::nouns::{Access, Outcome, VolumeKind};
use crate::requests::{PublishRequest, StageRequest};
use crate::testing::{Bench, MIB};

fn size(path: &Path) -> u64 {
    File::open(path).unwrap().seek(SeekFrom::End(0)).unwrap()
}

/// Whether a byte can be written, and stays.
fn can_write(path: &Path) -> bool {
    let Ok(device) = OpenOptions::new().write(true).open(path) else { return false };
    device.write_all_at(b"data", 0).and_then(|()| device.sync_all()).is_ok()
}

#[test]
fn a_raw_volume_is_published_read_only_for_all_or_for_none() {
    let Some(bench) = Bench::new() else { return };
    let driver = bench.driver();
    let volume = bench.create("raw", 16, VolumeKind::Block);
    let staging = bench.scratch.folder("staging");
    let stage = StageRequest {
        volume: volume.id,
        path: staging.clone(),
        access: Access::Block,
        filesystem: None,
        options: Vec::new(),
    };
    driver.stage(&stage).unwrap();
    let reader = PublishRequest {
        volume: volume.id,
        staging_path: staging.clone(),
        target: bench.scratch.path("reader"),
        access: Access::Block,
        readonly: true,
        options: Vec::new(),
        only_target: false,
    };
    let second = PublishRequest { target: bench.scratch.path("second"), ..reader.clone() };
    let writer = PublishRequest { target: bench.scratch.path("writer"), readonly: false, ..reader.clone() };
    assert_eq!(driver.publish(&reader).unwrap(), Outcome::Created(()));
    assert_eq!(driver.publish(&reader).unwrap(), Outcome::Identical(()));
    driver.publish(&second).unwrap();
    assert!(!can_write(&reader.target) && !can_write(&second.target));
    let refused = driver.publish(&writer).unwrap_err();
    assert!(refused.code() == "driver.in-use" && refused.to_string().contains("reading only"), "{refused}");
    // Growing does not need to write to it.
    driver.expand(volume.id, 32 * MIB).unwrap();
    assert_eq!(size(&reader.target), 32 * MIB);
    assert!(!can_write(&reader.target));

    driver.unpublish(volume.id, &reader.target).unwrap();
    assert!(!can_write(&second.target));
    driver.unpublish(volume.id, &second.target).unwrap();
    driver.publish(&writer).unwrap();
    assert!(can_write(&writer.target));
    assert_eq!(driver.publish(&reader).unwrap_err().code(), "driver.in-use");
    driver.expand(volume.id, 64 * MIB).unwrap();
    assert_eq!(size(&writer.target), 64 * MIB, "whoever uses it sees the new size");
    driver.unpublish(volume.id, &writer.target).unwrap();

    // The number of the device is used again by others, without the mark.
    driver.publish(&reader).unwrap();
    driver.unpublish(volume.id, &reader.target).unwrap();
    driver.unstage(volume.id, &staging).unwrap();
    let other = bench.create("other", 64, VolumeKind::Ext4);
    fs::write(bench.mount(&other, "other").join("file"), b"x").unwrap();
}

#[test]
fn a_raw_volume_is_shown_by_hand_at_a_file() {
    let Some(bench) = Bench::new() else { return };
    let driver = bench.driver();
    let volume = bench.create("raw", 16, VolumeKind::Block);
    let file = bench.scratch.path("disk");
    assert!(matches!(driver.mount(volume.id, &file, &[]).unwrap(), Outcome::Created(())));
    assert!(matches!(driver.mount(volume.id, &file, &[]).unwrap(), Outcome::Identical(())));
    assert!(can_write(&file) && size(&file) == 16 * MIB);
    let reader = bench.scratch.path("reader");
    let readonly = ["ro".to_owned()];
    assert_eq!(driver.mount(volume.id, &reader, &readonly).unwrap_err().code(), "driver.in-use");
    assert_eq!(driver.mount(volume.id, &file, &readonly).unwrap().agreed(), None, "it is there otherwise");
    assert_eq!(
        driver.mount(volume.id, &reader, &["noatime".to_owned()]).unwrap_err().code(),
        "driver.refused"
    );
    assert_eq!(driver.delete(volume.id).unwrap_err().code(), "driver.in-use");
    assert_eq!(driver.unmount(volume.id, Some(&file)).unwrap(), std::slice::from_ref(&file));
    driver.mount(volume.id, &reader, &readonly).unwrap();
    assert!(!can_write(&reader) && !file.exists());
    driver.unmount(volume.id, None).unwrap();
    assert!(!reader.exists());

    // What stands there is not covered, nor removed.
    fs::write(&file, b"precious").unwrap();
    driver.mount(volume.id, &file, &[]).unwrap();
    driver.unmount(volume.id, None).unwrap_err();
    assert_eq!(fs::read(&file).unwrap(), b"precious");
    fs::write(&file, b"").unwrap();
    driver.unmount(volume.id, None).unwrap();
    driver.mount(volume.id, &bench.scratch.folder("folder"), &[]).unwrap_err();
    driver.delete(volume.id).unwrap();
    assert_eq!(bench.inventory().loops, 0);
}
