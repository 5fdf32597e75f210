//! What `docker volume inspect` shows of a volume beyond its name.

use std::time::Duration;

use serde_json::{Map, Value, json};

use crate::points::PointInfo;
use crate::{MountUse, Points, SnapshotFilter, Volume, VolumeKind, Volumes};

/// Somebody is looking at a list of volumes; the agent may be slow, or away.
const AGENT_PATIENCE: Duration = Duration::from_secs(2);

/// Where Docker's containers have it.
pub(super) fn mountpoint(volume: &Volume) -> String {
    let mount = volume.mounts.iter().find(|mount| mount.purpose == MountUse::Docker);
    mount.map(|mount| mount.path.display().to_string()).unwrap_or_default()
}

/// Health, size and use. What cannot be found out is left out: the volume itself must still be seen.
pub(super) async fn of(volumes: &Volumes, points: &Points, volume: &Volume) -> Map<String, Value> {
    let mut status = Map::new();
    let mut say = |key: &str, value: Value| {
        status.insert(key.to_owned(), value);
    };
    say("Id", json!(volume.id.to_string()));
    say("Filesystem", json!(volume.kind.as_str()));
    say("SizeBytes", json!(volume.bytes));
    say("StoredBytes", json!(volume.allocated_bytes));
    say("Labels", json!(volume.labels));
    if let Some(policy) = volume.labels.get("policy") {
        say("Policy", json!(policy));
    }
    let snapshots = volumes.snapshots(SnapshotFilter { volume: Some(volume.id), ..Default::default() }).await;
    if let Ok(snapshots) = snapshots {
        say("Snapshots", json!(snapshots.len()));
    }
    if let Some(newest) = newest_point(points, volume).await {
        say("LastBackup", json!(newest.taken_at.to_string()));
        say("LastBackupPoint", json!(newest.id.to_string()));
    }
    let mut condition = volume.condition.clone();
    if let Some(mount) = volume.mounts.first().filter(|_| volume.kind != VolumeKind::Block)
        && let Ok(usage) = volumes.usage(volume.id, &mount.path).await
    {
        say("UsedBytes", json!(usage.used_bytes));
        say("AvailableBytes", json!(usage.available_bytes));
        condition = condition.or(usage.condition);
    }
    say("Health", json!(if condition.is_none() { "healthy" } else { "abnormal" }));
    say("Condition", json!(condition.as_deref().unwrap_or("nothing is known to be wrong")));
    status
}

/// The newest recovery point of the volume, when there is an agent that knows it.
async fn newest_point(points: &Points, volume: &Volume) -> Option<PointInfo> {
    let which = format!("{}@latest", volume.name);
    let found = tokio::time::timeout(AGENT_PATIENCE, points.find(&which)).await;
    // One of another volume that once had this name says nothing about this one.
    found.ok()?.ok().filter(|point| point.volume == Some(volume.id))
}
