//! Reads and writes the messages of the control service.

use std::collections::{BTreeMap, HashMap};

use strongroom_model::VolumeId;
use strongroom_proto::control::{self, MountKind, VolumeRef, volume_ref};

use crate::csi::answer::moment;
use crate::csi::door;
use crate::csi::status::RequestError;
use crate::{
    ContentSource, Finding, Group, IoQuantity, Mount, MountUse, Repair, Snapshot, Volume, VolumeKind,
    VolumeState, Volumes,
};

/// The volume that is meant, which must exist.
pub(super) async fn volume(volumes: &Volumes, given: Option<&VolumeRef>) -> Result<VolumeId, tonic::Status> {
    match given.and_then(|given| given.by.as_ref()) {
        None => Err(RequestError::Missing { field: "volume" }.into()),
        Some(volume_ref::By::Id(id)) => Ok(door::known_volume("volume.id", id)?),
        Some(volume_ref::By::Name(name)) => {
            let name = door::volume_name(name)?;
            match volumes.volume_named(&name).await? {
                Some(volume) => Ok(volume.id),
                None => Err(RequestError::Unknown { subject: format!("volume {name:?}") }.into()),
            }
        }
    }
}

/// The kind of volume that is asked for; `None`: not said.
pub(super) fn kind(given: i32) -> Result<Option<VolumeKind>, RequestError> {
    match control::Filesystem::try_from(given) {
        Ok(control::Filesystem::Unspecified) => Ok(None),
        Ok(control::Filesystem::Ext4) => Ok(Some(VolumeKind::Ext4)),
        Ok(control::Filesystem::Xfs) => Ok(Some(VolumeKind::Xfs)),
        Ok(control::Filesystem::Btrfs) => Ok(Some(VolumeKind::Btrfs)),
        Ok(control::Filesystem::Block) => Ok(Some(VolumeKind::Block)),
        Err(_) => Err(RequestError::Wrong { field: "fs", reason: format!("{given} is unknown") }),
    }
}

pub(super) fn labels(given: HashMap<String, String>) -> Result<BTreeMap<String, String>, RequestError> {
    let labels = given.into_iter().collect();
    door::labels(&labels)?;
    Ok(labels)
}

const fn kind_out(kind: VolumeKind) -> control::Filesystem {
    match kind {
        VolumeKind::Ext4 => control::Filesystem::Ext4,
        VolumeKind::Xfs => control::Filesystem::Xfs,
        VolumeKind::Btrfs => control::Filesystem::Btrfs,
        VolumeKind::Block => control::Filesystem::Block,
    }
}

fn mount_out(mount: &Mount) -> control::Mount {
    let kind = match mount.purpose {
        MountUse::Staged => MountKind::Staged,
        MountUse::Published => MountKind::Published,
        MountUse::Hand => MountKind::ByHand,
        MountUse::Docker => MountKind::Docker,
    };
    control::Mount { path: mount.path.display().to_string(), kind: kind.into(), readonly: mount.readonly }
}

pub(super) fn volume_out(volume: Volume) -> control::Volume {
    let state = match (volume.state, &volume.condition) {
        (VolumeState::Hydrating, _) => control::VolumeState::Hydrating,
        (VolumeState::Ready, None) => control::VolumeState::Ready,
        (VolumeState::Ready, Some(_)) => control::VolumeState::Abnormal,
    };
    control::Volume {
        id: volume.id.to_string(),
        name: volume.name.as_str().to_owned(),
        fs: kind_out(volume.kind).into(),
        bytes: volume.bytes,
        allocated_bytes: volume.allocated_bytes,
        labels: volume.labels.into_iter().collect(),
        state: state.into(),
        message: volume.condition.unwrap_or_default(),
        mounts: volume.mounts.iter().map(mount_out).collect(),
        extents: volume.extents,
        last_snapshot_stall_microseconds: volume.last_snapshot.as_ref().map(|cost| cost.stall_us),
        last_snapshot_extents: volume.last_snapshot.as_ref().map(|cost| cost.extents),
        created_at: Some(moment(volume.created_at)),
        device: volume.device.map(|device| device.display().to_string()).unwrap_or_default(),
        limits: IoQuantity::ALL
            .into_iter()
            .filter_map(|quantity| Some((quantity.parameter().to_owned(), volume.limits.of(quantity)?.get())))
            .collect(),
        attached_to: volume.attachments.into_iter().map(|one| one.node).collect(),
        made_from: match volume.source {
            None => String::new(),
            Some(ContentSource::Snapshot(id)) => id.to_string(),
            Some(ContentSource::Volume(id)) => id.to_string(),
            Some(ContentSource::Point(id)) => id.to_string(),
        },
    }
}

pub(super) fn snapshot_out(snapshot: Snapshot) -> control::Snapshot {
    control::Snapshot {
        id: snapshot.id.to_string(),
        volume_id: snapshot.volume.to_string(),
        volume_name: snapshot.volume_name.as_str().to_owned(),
        label: snapshot.label,
        owner: snapshot.owner,
        created_at: Some(moment(snapshot.created_at)),
        bytes: snapshot.bytes,
        labels: snapshot.labels.into_iter().collect(),
        fs: kind_out(snapshot.kind).into(),
        quiesced: snapshot.quiesced,
        group_id: snapshot.group.map(|group| group.to_string()).unwrap_or_default(),
    }
}

pub(super) fn group_out(group: Group) -> control::Group {
    control::Group {
        id: group.id.to_string(),
        name: group.name,
        owner: group.owner,
        created_at: Some(moment(group.created_at)),
        labels: group.labels.into_iter().collect(),
        snapshots: group.snapshots.into_iter().map(snapshot_out).collect(),
    }
}

pub(crate) fn finding_out(found: Finding) -> control::Finding {
    let repair = found.repair.map(|repair| repair.to_text()).unwrap_or_default();
    control::Finding {
        code: found.code,
        severity: found.severity.to_string(),
        subject: found.subject,
        message: found.message,
        advice: found.advice,
        repair,
    }
}

/// A step as `Finding.repair` had it.
pub(super) fn repair_in(text: &str) -> Result<Repair, RequestError> {
    Repair::parse(text).ok_or_else(|| RequestError::Wrong {
        field: "steps",
        reason: "it is not the repair of a finding".to_owned(),
    })
}
