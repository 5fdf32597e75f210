//! A volume is as large as was asked, and no larger: one byte more does not fit.

use std::fs::File;
use std::io::Write as _;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use strongroom_proto::csi::volume_usage::Unit;
use strongroom_proto::csi::{
    ControllerExpandVolumeRequest, NodeExpandVolumeRequest, NodeGetVolumeStatsRequest, VolumeUsage,
};
use tonic::Code;

use crate::lifecycle::may_grow_online;
use crate::machine::Machine;
use crate::requests::{self, Kind, MIB};
use crate::volume;

fn usage(machine: &Machine, id: &str, path: &Path, unit: Unit) -> Option<VolumeUsage> {
    let request = NodeGetVolumeStatsRequest {
        volume_id: id.to_owned(),
        volume_path: path.to_str().unwrap().to_owned(),
        ..Default::default()
    };
    let answer = machine.ok(request);
    let condition = answer.volume_condition.expect("the capability is offered");
    assert!(!condition.abnormal, "{condition:?}");
    answer.usage.into_iter().find(|row| row.unit == i32::from(unit))
}

/// Writes until the volume is full; answers how much went in.
fn write_until_full(path: &Path) -> u64 {
    let mut file = File::create(path).unwrap();
    let block = crate::content::bytes(7, 1 << 20);
    let mut written = 0;
    loop {
        match file.write(&block) {
            Ok(bytes) => written += u64::try_from(bytes).unwrap(),
            Err(cause) => {
                assert_eq!(cause.kind(), std::io::ErrorKind::StorageFull, "{cause}");
                break;
            }
        }
        assert!(written < 2048 * MIB, "nothing stops it");
    }
    file.sync_all().unwrap();
    written
}

#[test]
fn a_volume_ends_where_it_was_asked_to_end() {
    let Some(machine) = Machine::new("enforced capacity") else { return };
    for kind in [Kind::Ext4, Kind::Xfs] {
        let (name, size) = (kind.name(), kind.mib() * MIB);
        let id = volume::small(&machine, name, kind);
        let target = volume::publish(&machine, &id, name, kind);
        let written = write_until_full(&target.join("file"));
        assert!(written <= size, "{written} bytes went into {name} of {size}");
        assert!(written > size / 2, "only {written} bytes went into {name} of {size}");
        // Statistics are the volume's, not the machine's.
        let bytes = usage(&machine, &id, &target, Unit::Bytes).unwrap();
        let total = u64::try_from(bytes.total).unwrap();
        assert!(total <= size && total > size / 2, "{bytes:?}");
        let used = u64::try_from(bytes.used).unwrap();
        assert!(used + 2 * MIB >= written && bytes.available < 2 << 20, "{written} written: {bytes:?}");
        let inodes = usage(&machine, &id, &target, Unit::Inodes).unwrap();
        assert!(inodes.total > 0 && inodes.used >= 1 && inodes.used + inodes.available <= inodes.total);
        // What was deleted is free again.
        std::fs::remove_file(target.join("file")).unwrap();
        let freed = usage(&machine, &id, &target, Unit::Bytes).unwrap();
        assert!(u64::try_from(freed.available).unwrap() > size / 2, "{freed:?}");
        volume::unpublish(&machine, &id, name);
    }
    machine.finish();
}

#[test]
fn a_raw_volume_ends_at_its_last_byte() {
    let Some(machine) = Machine::new("enforced capacity of devices") else { return };
    let id = volume::small(&machine, "raw", Kind::Block);
    let target = volume::publish(&machine, &id, "raw", Kind::Block);
    let size = 64 * MIB;
    let device = File::options().write(true).open(&target).unwrap();
    device.write_all_at(&[1], size - 1).unwrap();
    let beyond = device.write_at(&[1], size).unwrap_err();
    assert_eq!(beyond.kind(), std::io::ErrorKind::StorageFull, "{beyond}");
    let mut whole = &device;
    std::io::Seek::seek(&mut whole, std::io::SeekFrom::Start(size - 10)).unwrap();
    assert_eq!(whole.write(&[1; 11]).unwrap(), 10, "what fits is written, and not more");
    device.sync_all().unwrap();
    assert_eq!(usage(&machine, &id, &target, Unit::Bytes).unwrap().total, 64 << 20);
    drop(device);
    volume::unpublish(&machine, &id, "raw");
    machine.finish();
}

#[test]
fn a_volume_grows_under_its_workload_and_not_beyond_what_was_asked() {
    let Some(machine) = Machine::new("online growth") else { return };
    for kind in Kind::all() {
        let name = kind.name();
        let id = volume::small(&machine, name, kind);
        let target = volume::publish(&machine, &id, name, kind);
        let larger = 2 * kind.mib() * MIB;
        let expand = |range| ControllerExpandVolumeRequest {
            volume_id: id.clone(),
            capacity_range: range,
            ..Default::default()
        };
        let answer = machine.ok(expand(requests::range(larger, larger)));
        assert_eq!(answer.capacity_bytes, i64::try_from(larger).unwrap());
        let grow = NodeExpandVolumeRequest {
            volume_id: id.clone(),
            volume_path: target.to_str().unwrap().to_owned(),
            capacity_range: requests::range(larger, 0),
            ..Default::default()
        };
        if kind != Kind::Ext4 || may_grow_online() {
            assert_eq!(machine.ok(grow).capacity_bytes, i64::try_from(larger).unwrap());
        } else {
            // The kernel does not let it; the message says what is missing and it grows before the next mount.
            let status = machine.refused(Code::FailedPrecondition, grow);
            assert!(status.message().contains("CAP_SYS_RESOURCE"), "{status:?}");
            volume::unpublish(&machine, &id, name);
            volume::publish(&machine, &id, name, kind);
        }
        match kind {
            Kind::Block => {
                let device = File::options().write(true).open(&target).unwrap();
                device.write_all_at(&[1], larger - 1).unwrap();
                assert!(device.write_at(&[1], larger).is_err());
            }
            _ => {
                let written = write_until_full(&target.join("file"));
                assert!(written <= larger && written > larger / 2, "{name}: {written} of {larger}");
            }
        }
        // Volumes do not shrink: as large or less is fine as it is, a limit below is not.
        let same = machine.ok(expand(requests::range(larger / 2, 0)));
        assert_eq!(same.capacity_bytes, i64::try_from(larger).unwrap());
        machine.refused(Code::OutOfRange, expand(requests::range(0, larger / 2)));
        volume::unpublish(&machine, &id, name);
    }
    machine.finish();
}
