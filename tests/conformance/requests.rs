//! Requests as an orchestrator would make them; a test changes what it is about.

use strongroom_proto::csi::volume_capability::access_mode::Mode;
use strongroom_proto::csi::volume_capability::{AccessMode, AccessType, BlockVolume, MountVolume};
use strongroom_proto::csi::volume_content_source::{SnapshotSource, Type, VolumeSource};
use strongroom_proto::csi::{
    CapacityRange, CreateSnapshotRequest, CreateVolumeRequest, VolumeCapability, VolumeContentSource,
};

pub(crate) const MIB: u64 = 1 << 20;

/// Well-formed ids that name nothing.
pub(crate) const NO_VOLUME: &str = "vol-00000000000000000000000000000000";
pub(crate) const NO_SNAPSHOT: &str = "snap-00000000000000000000000000000000";

/// What a volume holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Ext4,
    Xfs,
    Btrfs,
    Block,
}

impl Kind {
    /// All that this machine has.
    pub(crate) fn all() -> Vec<Self> {
        let known = std::fs::read_to_string("/proc/filesystems").unwrap_or_default();
        let btrfs = known.contains("btrfs") && std::path::Path::new("/usr/sbin/mkfs.btrfs").exists();
        if !btrfs {
            println!("SKIPPED: btrfs is not here");
        }
        let all = [Self::Ext4, Self::Xfs, Self::Btrfs, Self::Block];
        all.into_iter().filter(|kind| btrfs || *kind != Self::Btrfs).collect()
    }

    /// How it is used by one workload.
    pub(crate) fn capability(self) -> VolumeCapability {
        match self {
            Self::Ext4 => mount("ext4"),
            Self::Xfs => mount("xfs"),
            Self::Btrfs => mount("btrfs"),
            Self::Block => block(),
        }
    }

    /// As small as it may be.
    pub(crate) const fn mib(self) -> u64 {
        match self {
            Self::Ext4 | Self::Block => 64,
            Self::Xfs => 300,
            Self::Btrfs => 256,
        }
    }

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Ext4 => "ext4",
            Self::Xfs => "xfs",
            Self::Btrfs => "btrfs",
            Self::Block => "block",
        }
    }
}

pub(crate) fn mount(fs_type: &str) -> VolumeCapability {
    let mount = MountVolume { fs_type: fs_type.to_owned(), ..Default::default() };
    VolumeCapability {
        access_type: Some(AccessType::Mount(mount)),
        access_mode: Some(AccessMode { mode: Mode::SingleNodeWriter.into() }),
    }
}

pub(crate) fn mount_with(fs_type: &str, flags: &[&str]) -> VolumeCapability {
    let mount_flags = flags.iter().map(|flag| (*flag).to_owned()).collect();
    let mount = MountVolume { fs_type: fs_type.to_owned(), mount_flags, ..Default::default() };
    VolumeCapability { access_type: Some(AccessType::Mount(mount)), ..self::mount("") }
}

pub(crate) fn block() -> VolumeCapability {
    VolumeCapability { access_type: Some(AccessType::Block(BlockVolume {})), ..mount("") }
}

pub(crate) fn with_mode(mode: Mode, capability: VolumeCapability) -> VolumeCapability {
    VolumeCapability { access_mode: Some(AccessMode { mode: mode.into() }), ..capability }
}

/// At least so many bytes, and at most; 0: no limit.
pub(crate) fn range(required: u64, limit: u64) -> Option<CapacityRange> {
    let bytes = |value| i64::try_from(value).unwrap();
    Some(CapacityRange { required_bytes: bytes(required), limit_bytes: bytes(limit) })
}

pub(crate) fn volume(name: &str, kind: Kind, mib: u64) -> CreateVolumeRequest {
    CreateVolumeRequest {
        name: name.to_owned(),
        capacity_range: range(mib * MIB, 0),
        volume_capabilities: vec![kind.capability()],
        ..Default::default()
    }
}

pub(crate) fn snapshot_source(id: &str) -> Option<VolumeContentSource> {
    let source = SnapshotSource { snapshot_id: id.to_owned() };
    Some(VolumeContentSource { r#type: Some(Type::Snapshot(source)) })
}

pub(crate) fn volume_source(id: &str) -> Option<VolumeContentSource> {
    let source = VolumeSource { volume_id: id.to_owned() };
    Some(VolumeContentSource { r#type: Some(Type::Volume(source)) })
}

pub(crate) fn snapshot(volume: &str, name: &str) -> CreateSnapshotRequest {
    CreateSnapshotRequest { source_volume_id: volume.to_owned(), name: name.to_owned(), ..Default::default() }
}

/// A map of one entry.
pub(crate) fn entry(key: &str, value: &str) -> std::collections::HashMap<String, String> {
    [(key.to_owned(), value.to_owned())].into()
}
