//! How volumes and snapshots are shown: as JSON with these very field names, and as text.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Serialize;
use strongroom_console::{Console, Size, Table, Text, local, local_and_utc};
use strongroom_proto::control::{self, Filesystem, MountKind, VolumeState};

/// A volume.
#[derive(Debug, Clone, Serialize)]
pub(super) struct VolumeView {
    pub(super) id: String,
    pub(super) name: String,
    /// `ext4`, `xfs` or `block`.
    pub(super) fs: &'static str,
    pub(super) size_bytes: u64,
    pub(super) allocated_bytes: u64,
    pub(super) labels: BTreeMap<String, String>,
    /// `ready`, `hydrating` or `abnormal`.
    pub(super) state: &'static str,
    /// What is wrong.
    pub(super) message: Option<String>,
    pub(super) mounts: Vec<MountView>,
    /// How much I/O a second its users may do, such as `iops.write`.
    pub(super) limits: BTreeMap<String, u64>,
    /// The nodes that an orchestrator has attached it to.
    pub(super) attached_to: Vec<String>,
    pub(super) device: Option<String>,
    /// Only told where one volume is shown.
    pub(super) extents: Option<u64>,
    /// What its last snapshot cost.
    pub(super) last_snapshot_stall_us: Option<u64>,
    pub(super) last_snapshot_extents: Option<u64>,
    /// The snapshot or volume it began with.
    pub(super) made_from: Option<String>,
    pub(super) created_at: Option<Timestamp>,
}

/// A place where a volume is mounted.
#[derive(Debug, Clone, Serialize)]
pub(super) struct MountView {
    pub(super) path: String,
    /// `staged`, `published` or `by-hand`.
    pub(super) kind: &'static str,
    pub(super) readonly: bool,
}

/// A snapshot.
#[derive(Debug, Clone, Serialize)]
pub(super) struct SnapshotView {
    pub(super) id: String,
    pub(super) volume_id: String,
    pub(super) volume: String,
    pub(super) label: String,
    /// Who takes it away again: `user`, `csi`, `agent` or `restore`.
    pub(super) owner: String,
    pub(super) created_at: Option<Timestamp>,
    pub(super) size_bytes: u64,
    pub(super) fs: &'static str,
    pub(super) labels: BTreeMap<String, String>,
    /// It needs no log replay.
    pub(super) quiesced: bool,
    /// The group that it is a member of.
    pub(super) group: Option<String>,
}

/// Snapshots of several volumes at one moment.
#[derive(Debug, Clone, Serialize)]
pub(super) struct GroupView {
    pub(super) id: String,
    pub(super) name: String,
    /// `user` or `csi`.
    pub(super) owner: String,
    pub(super) created_at: Option<Timestamp>,
    pub(super) labels: BTreeMap<String, String>,
    pub(super) snapshots: Vec<SnapshotView>,
}

fn moment(at: Option<prost_types::Timestamp>) -> Option<Timestamp> {
    at.and_then(|at| Timestamp::new(at.seconds, at.nanos).ok())
}

fn some(text: String) -> Option<String> {
    Some(text).filter(|text| !text.is_empty())
}

fn fs_word(fs: Filesystem) -> &'static str {
    match fs {
        Filesystem::Unspecified => "unknown",
        Filesystem::Ext4 => "ext4",
        Filesystem::Xfs => "xfs",
        Filesystem::Btrfs => "btrfs",
        Filesystem::Block => "block",
    }
}

impl From<control::Volume> for VolumeView {
    fn from(volume: control::Volume) -> Self {
        let state = match volume.state() {
            VolumeState::Unspecified => "unknown",
            VolumeState::Ready => "ready",
            VolumeState::Hydrating => "hydrating",
            VolumeState::Abnormal => "abnormal",
        };
        Self {
            fs: fs_word(volume.fs()),
            state,
            id: volume.id,
            name: volume.name,
            size_bytes: volume.bytes,
            allocated_bytes: volume.allocated_bytes,
            labels: volume.labels.into_iter().collect(),
            message: some(volume.message),
            mounts: volume.mounts.into_iter().map(MountView::from).collect(),
            limits: volume.limits.into_iter().collect(),
            attached_to: volume.attached_to,
            device: some(volume.device),
            extents: volume.extents,
            last_snapshot_stall_us: volume.last_snapshot_stall_microseconds,
            last_snapshot_extents: volume.last_snapshot_extents,
            made_from: some(volume.made_from),
            created_at: moment(volume.created_at),
        }
    }
}

impl From<control::Mount> for MountView {
    fn from(mount: control::Mount) -> Self {
        let kind = match mount.kind() {
            MountKind::Unspecified => "unknown",
            MountKind::Staged => "staged",
            MountKind::Published => "published",
            MountKind::ByHand => "by-hand",
            MountKind::Docker => "docker",
        };
        Self { kind, path: mount.path, readonly: mount.readonly }
    }
}

impl From<control::Snapshot> for SnapshotView {
    fn from(snapshot: control::Snapshot) -> Self {
        Self {
            fs: fs_word(snapshot.fs()),
            id: snapshot.id,
            volume_id: snapshot.volume_id,
            volume: snapshot.volume_name,
            label: snapshot.label,
            owner: snapshot.owner,
            created_at: moment(snapshot.created_at),
            size_bytes: snapshot.bytes,
            labels: snapshot.labels.into_iter().collect(),
            quiesced: snapshot.quiesced,
            group: some(snapshot.group_id),
        }
    }
}

impl From<control::Group> for GroupView {
    fn from(group: control::Group) -> Self {
        Self {
            id: group.id,
            name: group.name,
            owner: group.owner,
            created_at: moment(group.created_at),
            labels: group.labels.into_iter().collect(),
            snapshots: group.snapshots.into_iter().map(SnapshotView::from).collect(),
        }
    }
}

impl VolumeView {
    /// Where it is used, without the places that only an orchestrator looks at.
    fn used_at(&self) -> String {
        let places: Vec<&str> = self
            .mounts
            .iter()
            .filter(|mount| mount.kind != "staged")
            .map(|mount| mount.path.as_str())
            .collect();
        match (places.as_slice(), self.mounts.is_empty()) {
            ([], true) => String::new(),
            ([], false) => "(staged)".to_owned(),
            ([one], _) => (*one).to_owned(),
            ([first, rest @ ..], _) => format!("{first} and {} more", rest.len()),
        }
    }

    /// All that is known about it.
    pub(super) fn facts(&self, text: &mut Text<'_>, console: &Console) {
        let mut facts = vec![
            ("name", self.name.clone()),
            ("id", self.id.clone()),
            ("holds", self.fs.to_owned()),
            ("size", Size(self.size_bytes).to_string()),
            ("allocated", Size(self.allocated_bytes).to_string()),
            (
                "state",
                self.message
                    .as_ref()
                    .map_or_else(|| self.state.to_owned(), |why| format!("{}: {why}", self.state)),
            ),
            ("labels", self.labels.iter().map(|(key, value)| format!("{key}={value}\n")).collect()),
            ("mounts", self.mounts.iter().map(MountView::line).collect()),
            ("limits", self.limits.iter().map(|(key, limit)| format!("{key}={limit}\n")).collect()),
            ("attached to", self.attached_to.join(", ")),
        ];
        facts.extend(self.device.as_ref().map(|device| ("device", device.clone())));
        facts.extend(self.extents.map(|extents| ("extents", extents.to_string())));
        facts.extend(self.last_snapshot_stall_us.map(|stall| {
            let (millis, tenths) = (stall / 1000, stall % 1000 / 100);
            ("last snapshot", format!("held up writing for {millis}.{tenths} ms"))
        }));
        facts.extend(self.made_from.as_ref().map(|source| ("made from", source.clone())));
        facts.extend(self.created_at.map(|at| ("created", local_and_utc(at, console.time_zone()))));
        facts.retain(|(_, value)| !value.is_empty());
        text.facts(facts);
    }
}

impl MountView {
    fn line(&self) -> String {
        format!("{} ({}{})\n", self.path, self.kind, if self.readonly { ", read-only" } else { "" })
    }
}

/// Volumes in columns.
pub(super) fn volume_table(volumes: &[VolumeView]) -> Table {
    let mut table = Table::new(["NAME", "FS", "SIZE", "ALLOCATED", "STATE", "USED AT"]).right([2, 3]);
    for volume in volumes {
        table.row([
            volume.name.clone(),
            volume.fs.to_owned(),
            Size(volume.size_bytes).to_string(),
            Size(volume.allocated_bytes).to_string(),
            volume.state.to_owned(),
            volume.used_at(),
        ]);
    }
    table
}

/// Snapshots in columns.
pub(super) fn snapshot_table(snapshots: &[SnapshotView], console: &Console) -> Table {
    let mut table = Table::new(["SNAPSHOT", "VOLUME", "LABEL", "OWNER", "TAKEN", "SIZE"]).right([5]);
    for snapshot in snapshots {
        table.row([
            snapshot.id.clone(),
            snapshot.volume.clone(),
            snapshot.label.clone(),
            snapshot.owner.clone(),
            snapshot.created_at.map(|at| local(at, console.time_zone())).unwrap_or_default(),
            Size(snapshot.size_bytes).to_string(),
        ]);
    }
    table
}

/// Groups in columns.
pub(super) fn group_table(groups: &[GroupView], console: &Console) -> Table {
    let mut table = Table::new(["GROUP", "NAME", "OWNER", "TAKEN", "VOLUMES"]);
    for group in groups {
        let volumes: Vec<&str> = group.snapshots.iter().map(|snapshot| snapshot.volume.as_str()).collect();
        table.row([
            group.id.clone(),
            group.name.clone(),
            group.owner.clone(),
            group.created_at.map(|at| local(at, console.time_zone())).unwrap_or_default(),
            volumes.join(", "),
        ]);
    }
    table
}
