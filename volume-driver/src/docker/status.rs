//! What `docker volume inspect` shows of a volume beyond its name.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};
use strongroom_model::VolumeId;

use crate::labels::POLICY;
use crate::points::{PointInfo, PointsError};
use crate::{MountUse, Points, SnapshotFilter, Volume, VolumeKind, Volumes};

/// Somebody is looking at a list of volumes; the agent may be slow, or away.
const AGENT_PATIENCE: Duration = Duration::from_secs(2);

/// How old what was heard from it may be.
const HEARD_FOR: Duration = Duration::from_secs(5);

/// Where Docker's containers have it.
pub(super) fn mountpoint(volume: &Volume) -> String {
    let mount = volume.mounts.iter().find(|mount| mount.purpose == MountUse::Docker);
    mount.map(|mount| mount.path.display().to_string()).unwrap_or_default()
}

/// Health, size and use. What cannot be found out is left out: the volume itself must still be seen.
pub(super) async fn of(
    volumes: &Volumes,
    points: &Points,
    newest: &Newest,
    volume: &Volume,
) -> Map<String, Value> {
    let mut status = Map::new();
    let mut say = |key: &str, value: Value| {
        status.insert(key.to_owned(), value);
    };
    say("Id", json!(volume.id.to_string()));
    say("Filesystem", json!(volume.kind.as_str()));
    say("SizeBytes", json!(volume.bytes));
    say("StoredBytes", json!(volume.allocated_bytes));
    say("Labels", json!(volume.labels));
    if let Some(policy) = volume.labels.get(POLICY) {
        say("Policy", json!(policy));
    }
    if !volume.limits.is_none() {
        say("Limits", json!(volume.limits.describe()));
    }
    let snapshots = volumes.snapshots(SnapshotFilter { volume: Some(volume.id), ..Default::default() }).await;
    if let Ok(snapshots) = snapshots {
        say("Snapshots", json!(snapshots.len()));
    }
    if let Some(newest) = newest.of(points, volume).await {
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

/// What was last heard of the newest recovery points. Docker asks for a volume several times for each container that
/// starts, and none of these times wants to wait for a repository.
#[derive(Debug, Clone, Default)]
pub(super) struct Newest {
    heard: Arc<Mutex<BTreeMap<VolumeId, Heard>>>,
}

/// When, and what; `None`: there is none, or the agent took too long to say.
type Heard = (Instant, Option<PointInfo>);

impl Newest {
    /// The newest recovery point of the volume, when there is an agent that knows it.
    async fn of(&self, points: &Points, volume: &Volume) -> Option<PointInfo> {
        let now = Instant::now();
        {
            let mut heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
            // Bounded by the volumes of the last seconds.
            heard.retain(|_, (at, _)| now.duration_since(*at) < HEARD_FOR);
            if let Some((_, known)) = heard.get(&volume.id) {
                return known.clone();
            }
        }
        let which = format!("{}@latest", volume.name);
        let found = tokio::time::timeout(AGENT_PATIENCE, points.find(&which)).await;
        // That nobody is there is found out at once, each time: it may just be starting.
        if let Ok(Err(PointsError::NoAgent | PointsError::Unreachable { .. })) = found {
            return None;
        }
        // One of another volume that once had this name says nothing about this one.
        let found = found.ok().and_then(Result::ok).filter(|point| point.volume == Some(volume.id));
        let mut heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        heard.insert(volume.id, (Instant::now(), found.clone()));
        found
    }
}
