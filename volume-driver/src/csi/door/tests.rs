use strongroom_proto::csi::volume_capability::{AccessMode, BlockVolume, MountVolume};

use super::*;

fn mount(fs: &str, mode: Mode) -> VolumeCapability {
    VolumeCapability {
        access_type: Some(AccessType::Mount(MountVolume { fs_type: fs.into(), ..Default::default() })),
        access_mode: Some(AccessMode { mode: mode.into() }),
    }
}

fn block() -> VolumeCapability {
    VolumeCapability {
        access_type: Some(AccessType::Block(BlockVolume {})),
        access_mode: Some(AccessMode { mode: Mode::SingleNodeWriter.into() }),
    }
}

fn kind_of(given: &[VolumeCapability]) -> Checked<Option<VolumeKind>> {
    kind_for(&capabilities(given)?, None)
}

#[test]
fn strings_and_maps_have_the_limits_of_csi() {
    let long = "x".repeat(128);
    assert!(required("f", &long).is_ok() && required("f", &(long + "x")).is_err());
    assert_eq!(required("f", ""), Err(RequestError::Missing { field: "f" }));
    let of = |bytes: usize| HashMap::from([("k".to_owned(), "v".repeat(bytes - 1))]);
    assert!(map("m", &of(4096)).is_ok() && map("m", &of(4097)).is_err());
}

#[test]
fn hostile_names_are_labels_or_refused_but_never_paths() {
    for fine in
        ["../../etc/passwd", "a\tb\nc\r", "/etc/passwd", "-rf", "a b;c|d$(e)", "größe\u{202e}", "%s%n"]
    {
        assert_eq!(volume_name(fine).unwrap().as_str(), fine);
        assert_eq!(snapshot_name(fine).unwrap(), fine);
    }
    for wrong in ["", "a\0b", "a\u{b}b", "\u{7f}", "\u{9f}"] {
        assert!(volume_name(wrong).is_err() && snapshot_name(wrong).is_err(), "{wrong:?}");
    }
}

#[test]
fn an_id_that_is_not_ours_is_unknown_and_not_wrong() {
    assert_eq!(volume_id("pvc-1"), Ok(None));
    assert!(matches!(known_volume("volume_id", "../x"), Err(RequestError::Unknown { .. })));
    assert!(matches!(known_volume("volume_id", ""), Err(RequestError::Missing { .. })));
    assert!(matches!(known_snapshot("s", &"x".repeat(200)), Err(RequestError::TooLong { .. })));
}

#[test]
fn paths_are_absolute_and_go_down_only() {
    assert_eq!(path("p", "/a//b/./c/"), Ok(PathBuf::from("/a/b/c")));
    assert!(path("p", &format!("/{}", "x".repeat(4094))).is_ok());
    for wrong in ["", "a/b", "/a/../b", "/..", "/a\0b", &format!("/{}", "x".repeat(4095))] {
        assert!(path("p", wrong).is_err(), "{wrong:?}");
    }
    assert!(path("p", "/a/..b").is_ok(), "two dots are not always up");
}

#[test]
fn a_range_of_sizes_makes_sense_or_is_refused() {
    let range = |required_bytes, limit_bytes| size(Some(&CapacityRange { required_bytes, limit_bytes }));
    assert_eq!(range(5, 0), Ok(SizeRange { required_bytes: 5, limit_bytes: 0 }));
    assert_eq!(range(5, 5), Ok(SizeRange { required_bytes: 5, limit_bytes: 5 }));
    assert!(matches!(range(-1, 0), Err(RequestError::OutOfRange { .. })));
    assert!(matches!(range(6, 5), Err(RequestError::OutOfRange { .. })));
    assert!(matches!(range(0, 0), Err(RequestError::Wrong { .. })));
    assert_eq!(size(None), Ok(SizeRange { required_bytes: 0, limit_bytes: 0 }));
}

#[test]
fn the_ways_of_using_a_volume_must_agree() {
    use VolumeKind::{Block, Ext4, Xfs};
    let (any, ext4, xfs) = (
        mount("", Mode::SingleNodeWriter),
        mount("ext4", Mode::SingleNodeMultiWriter),
        mount("xfs", Mode::SingleNodeReaderOnly),
    );
    assert_eq!(kind_of(std::slice::from_ref(&any)), Ok(None));
    assert_eq!(kind_of(&[any.clone(), ext4.clone()]), Ok(Some(Ext4)));
    assert_eq!(kind_of(std::slice::from_ref(&xfs)), Ok(Some(Xfs)));
    assert_eq!(kind_of(&[block()]), Ok(Some(Block)));
    assert!(kind_of(&[ext4, xfs]).is_err());
    assert!(kind_of(&[block(), any]).is_err());
    assert_eq!(kind_of(&[]), Err(RequestError::Missing { field: "volume_capabilities" }));
}

#[test]
fn an_incomplete_capability_is_missing_something_and_a_foreign_one_is_not_offered() {
    let no_mode = VolumeCapability { access_mode: None, ..block() };
    let no_type = VolumeCapability { access_type: None, ..block() };
    for incomplete in [no_mode, no_type, mount("", Mode::Unknown)] {
        assert!(matches!(understand(&incomplete), Err(RequestError::Missing { .. })), "{incomplete:?}");
    }
    for foreign in [mount("ext4", Mode::MultiNodeMultiWriter), mount("ntfs", Mode::SingleNodeWriter)] {
        assert!(matches!(capability(Some(&foreign), Blame::Request), Err(RequestError::Unsupported { .. })));
        assert!(matches!(capability(Some(&foreign), Blame::Volume), Err(RequestError::Incapable { .. })));
    }
}

#[test]
fn parameters_are_a_closed_list_without_paths() {
    let of = |pairs: &[(&str, &str)]| {
        parameters(&pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect())
    };
    let read = of(&[("fs", "xfs"), ("label.team", "a"), ("csi.storage.k8s.io/pvc/name", "db")]).unwrap();
    assert_eq!(read.filesystem, Some(Filesystem::Xfs));
    assert_eq!(read.labels, [("pvc.name".into(), "db".into()), ("team".into(), "a".into())].into());
    for wrong in [("path", "/etc"), ("fs", "zfs"), ("label.", "x"), ("label.a b", "x"), ("label.a", "x\n")] {
        assert!(of(&[wrong]).is_err(), "{wrong:?}");
    }
}

#[test]
fn only_a_requirement_that_names_this_node_can_be_met() {
    let places = |requisite: Vec<Topology>| TopologyRequirement { requisite, preferred: Vec::new() };
    assert!(reachable(None, "a").is_ok() && reachable(Some(&places(vec![])), "a").is_ok());
    assert!(reachable(Some(&places(vec![topology("b"), topology("a")])), "a").is_ok());
    assert!(matches!(
        reachable(Some(&places(vec![topology("b")])), "a"),
        Err(RequestError::Elsewhere { .. })
    ));
}
