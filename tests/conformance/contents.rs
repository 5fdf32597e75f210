//! What was written is there again: through snapshots, restores, clones, larger ones, and restarts.
//!
//! The public suite would not notice a driver whose restored volumes are empty.

use std::fs;
use std::path::PathBuf;

use crate::content::{self, Content};
use crate::machine::Machine;
use crate::requests::{self, Kind, MIB};
use crate::volume;

/// A volume with content.
struct Source {
    id: String,
    target: PathBuf,
    content: Content,
}

fn source(machine: &Machine, kind: Kind) -> Source {
    let id = volume::small(machine, kind.name(), kind);
    let target = volume::publish(machine, &id, kind.name(), kind);
    content::fill(&target, kind, 1);
    let content = content::read(&target, kind);
    assert!(!content.is_empty());
    Source { id, target, content }
}

/// What a volume holds that nobody uses.
#[track_caller]
fn look_into(machine: &Machine, id: &str, name: &str, kind: Kind) -> Content {
    let target = volume::publish(machine, id, name, kind);
    let content = content::read(&target, kind);
    volume::unpublish(machine, id, name);
    content
}

#[test]
fn snapshots_restores_and_clones_hold_what_was_written() {
    let Some(mut machine) = Machine::new("contents") else { return };
    for kind in Kind::all() {
        let name = kind.name();
        let source = source(&machine, kind);
        let snapshot = volume::snapshot(&machine, &source.id, &format!("first of {name}")).snapshot_id;
        content::fill(&source.target, kind, 2);
        let later = content::read(&source.target, kind);
        assert_ne!(later, source.content);

        // The clone has what is there now, the restore what was there then; also when the source is in use.
        let mut cloned = requests::volume(&format!("clone of {name}"), kind, kind.mib());
        cloned.volume_content_source = requests::volume_source(&source.id);
        let cloned = volume::create(&machine, cloned).volume_id;
        let mut restored = requests::volume(&format!("restore of {name}"), kind, kind.mib());
        restored.volume_content_source = requests::snapshot_source(&snapshot);
        let restored = volume::create(&machine, restored).volume_id;
        content::fill(&source.target, kind, 3);
        assert_eq!(look_into(&machine, &cloned, "clone", kind), later, "the clone of {name}");
        assert_eq!(look_into(&machine, &restored, "restore", kind), source.content, "the restore of {name}");

        // They are independent: of their source, of each other, of the order of deletion.
        let third = content::read(&source.target, kind);
        let target = volume::publish(&machine, &cloned, "clone", kind);
        content::fill(&target, kind, 4);
        volume::unpublish(&machine, &cloned, "clone");
        assert_eq!(content::read(&source.target, kind), third);
        volume::unpublish(&machine, &source.id, name);
        volume::delete(&machine, &source.id);
        machine.restart();
        let mut again = requests::volume(&format!("second restore of {name}"), kind, kind.mib());
        again.volume_content_source = requests::snapshot_source(&snapshot);
        let again = volume::create(&machine, again).volume_id;
        assert_eq!(look_into(&machine, &again, "again", kind), source.content, "after the source is gone");
        assert_eq!(look_into(&machine, &restored, "restore", kind), source.content);
    }
    machine.finish();
}

#[test]
fn what_is_restored_larger_is_larger_inside_and_holds_the_same() {
    let Some(machine) = Machine::new("larger restores") else { return };
    for kind in Kind::all() {
        let name = kind.name();
        let source = source(&machine, kind);
        let snapshot = volume::snapshot(&machine, &source.id, &format!("of {name}")).snapshot_id;
        for (what, given) in [
            ("restore", requests::snapshot_source(&snapshot)),
            ("clone", requests::volume_source(&source.id)),
        ] {
            let larger = 2 * kind.mib();
            let mut request = requests::volume(&format!("larger {what} {name}"), kind, larger);
            request.volume_content_source = given;
            let made = volume::create(&machine, request);
            assert_eq!(made.capacity_bytes, i64::try_from(larger * MIB).unwrap());
            let target = volume::publish(&machine, &made.volume_id, what, kind);
            match kind {
                Kind::Block => {
                    let first = content::read_bytes(&target, kind, kind.mib() * MIB);
                    assert_eq!(first, source.content, "{what} of {name}");
                    let mut device = fs::File::open(&target).unwrap();
                    let end = std::io::Seek::seek(&mut device, std::io::SeekFrom::End(0)).unwrap();
                    assert_eq!(end, larger * MIB);
                }
                _ => {
                    assert_eq!(content::read(&target, kind), source.content, "{what} of {name}");
                    // The filesystem, not only the device, is larger: so much fits into it.
                    let file = fs::File::create(target.join("large")).unwrap();
                    let bytes = (kind.mib() + kind.mib() / 8) * MIB;
                    rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, bytes)
                        .unwrap_or_else(|errno| panic!("{what} of {name} is no larger inside: {errno}"));
                }
            }
            volume::unpublish(&machine, &made.volume_id, what);
        }
        volume::unpublish(&machine, &source.id, name);
    }
    machine.finish();
}

#[test]
fn data_survives_unstaging_restarts_and_expansion() {
    let Some(mut machine) = Machine::new("survival of data") else { return };
    for kind in Kind::all() {
        let name = kind.name();
        let source = source(&machine, kind);
        machine.restart();
        assert_eq!(content::read(&source.target, kind), source.content, "{name} under a killed driver");
        volume::unpublish(&machine, &source.id, name);
        machine.restart();
        assert_eq!(look_into(&machine, &source.id, name, kind), source.content, "{name}");
        machine.ok(strongroom_proto::csi::ControllerExpandVolumeRequest {
            volume_id: source.id.clone(),
            capacity_range: requests::range(2 * kind.mib() * MIB, 0),
            ..Default::default()
        });
        let target = volume::publish(&machine, &source.id, name, kind);
        let kept = content::read_bytes(&target, kind, kind.mib() * MIB);
        assert_eq!(kept, source.content, "{name} after it grew");
        volume::unpublish(&machine, &source.id, name);
    }
    machine.finish();
}
