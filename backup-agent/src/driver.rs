//! The volume driver, as the agent uses it: volumes, snapshots of its own, and what changed between two of them.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};

use jiff::Timestamp;
use strongroom_model::{ByteRange, Failure, Remedy, RepositoryId, SnapshotId, VolumeId, VolumeName};
use strongroom_proto::{
    CallError, Clients, ConnectError, RESTORE_TEST_LABEL, TEMPORARY_LABEL, connect, control, csi, while_busy,
};
use tonic::Streaming;

use crate::capture::{Changes, ChangesError};

/// How the agent signs its snapshots.
const OWNER: &str = "agent";

/// The label of a snapshot that says for which repository it was made: two agents of one driver keep a base each.
const REPOSITORY_LABEL: &str = "strongroom.repository";

/// Messages of a stream of changes that wait to be taken; each has some hundred ranges.
const WAITING: usize = 16;

/// Why the driver could not be used.
#[derive(Debug, thiserror::Error)]
pub enum DriverError {
    /// Nobody answers.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// It answered with an error.
    #[error("{doing}")]
    Call {
        /// What was being done.
        doing: String,
        /// What it answered.
        #[source]
        cause: CallError,
    },
    /// It answered something that makes no sense.
    #[error("{doing}: the driver's answer makes no sense: {what}")]
    Nonsense {
        /// What was being done.
        doing: String,
        /// What is wrong with the answer.
        what: String,
    },
}

impl Failure for DriverError {
    fn code(&self) -> &'static str {
        match self {
            Self::Connect(cause) => cause.code(),
            Self::Call { cause, .. } => cause.code(),
            Self::Nonsense { .. } => "driver.nonsense",
        }
    }

    fn remedy(&self) -> Remedy {
        match self {
            Self::Connect(cause) => cause.remedy(),
            Self::Call { cause, .. } => cause.remedy(),
            Self::Nonsense { .. } => Remedy::Bug,
        }
    }

    fn advice(&self) -> String {
        match self {
            Self::Connect(cause) => cause.advice(),
            Self::Call { cause, .. } => cause.advice(),
            Self::Nonsense { .. } => {
                "Check that driver and agent have the same version; otherwise report it.".into()
            }
        }
    }
}

/// A driver within reach. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Driver {
    clients: Arc<Clients>,
    node: Arc<str>,
}

/// A volume of the driver.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Volume {
    /// Its id.
    pub id: VolumeId,
    /// Its name.
    pub name: VolumeName,
    /// What it holds, where that is known: `ext4`, `xfs`.
    pub fs: Option<String>,
    /// What it may hold.
    pub bytes: u64,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Where it is mounted for writing.
    pub mounts: Vec<PathBuf>,
    /// Why it cannot be backed up now, if it cannot.
    pub trouble: Option<String>,
}

/// A snapshot that the agent made for a repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// Its id.
    pub id: SnapshotId,
    /// The moment of the cut.
    pub taken_at: Timestamp,
    /// The size of the volume then.
    pub bytes: u64,
}

impl Driver {
    /// Reaches the driver at `endpoint`.
    ///
    /// # Errors
    /// When nobody answers there.
    pub async fn connect(endpoint: &str) -> Result<Self, DriverError> {
        let clients = Arc::new(connect(endpoint).await?);
        let doing = "asking the driver who it is";
        let answer =
            clients.driver.clone().get_driver(control::GetDriverRequest {}).await.map_err(failed(doing))?;
        Ok(Self { clients, node: answer.into_inner().node_id.into() })
    }

    /// The node that it runs on.
    #[must_use]
    pub fn node(&self) -> &str {
        &self.node
    }

    /// All volumes, in order of their names.
    ///
    /// # Errors
    /// When the driver fails.
    pub async fn volumes(&self) -> Result<Vec<Volume>, DriverError> {
        let doing = "listing the volumes";
        let request = control::ListVolumesRequest::default();
        let answer = self.clients.driver.clone().list_volumes(request).await.map_err(failed(doing))?;
        let ours = [RESTORE_TEST_LABEL, TEMPORARY_LABEL];
        let of_users =
            |volume: &control::Volume| !ours.iter().any(|label| volume.labels.contains_key(*label));
        let volumes = answer.into_inner().volumes.into_iter().filter(of_users);
        volumes.map(|volume| understand(volume, doing)).collect()
    }

    /// The snapshots of a volume that agents made for this repository, oldest first.
    ///
    /// # Errors
    /// When the driver fails.
    pub async fn snapshots(
        &self,
        volume: VolumeId,
        repository: RepositoryId,
    ) -> Result<Vec<Snapshot>, DriverError> {
        let doing = format!("listing the snapshots of {volume}");
        let request = control::ListSnapshotsRequest { volume: Some(by_id(volume)), owner: OWNER.into() };
        let answer = self.clients.driver.clone().list_snapshots(request).await.map_err(failed(&doing))?;
        let ours = |snapshot: &control::Snapshot| {
            snapshot.labels.get(REPOSITORY_LABEL).is_some_and(|label| *label == repository.to_string())
        };
        let mut snapshots = answer
            .into_inner()
            .snapshots
            .into_iter()
            .filter(ours)
            .map(|snapshot| understand_snapshot(&snapshot, &doing))
            .collect::<Result<Vec<_>, _>>()?;
        snapshots.sort_by_key(|snapshot| (snapshot.taken_at, snapshot.id));
        Ok(snapshots)
    }

    /// Cuts a snapshot of a volume. `label` is its own among the snapshots of the volume.
    ///
    /// # Errors
    /// When the driver fails.
    pub async fn cut(
        &self,
        volume: VolumeId,
        label: &str,
        repository: RepositoryId,
    ) -> Result<Snapshot, DriverError> {
        let doing = format!("taking a snapshot of {volume}");
        let request = control::CreateSnapshotRequest {
            volume: Some(by_id(volume)),
            label: label.to_owned(),
            owner: OWNER.into(),
            labels: [(REPOSITORY_LABEL.to_owned(), repository.to_string())].into(),
        };
        let client = &self.clients.driver;
        let answer = while_busy(client, request, |mut client, request| async move {
            client.create_snapshot(request).await
        })
        .await
        .map_err(failed(&doing))?;
        let snapshot = answer.snapshot.ok_or_else(|| nonsense(&doing, "it names no snapshot"))?;
        understand_snapshot(&snapshot, &doing)
    }

    /// The moment up to which a volume holds what its snapshot holds, if nothing was written since.
    ///
    /// # Errors
    /// When the driver fails.
    pub async fn still_as(
        &self,
        volume: VolumeId,
        snapshot: SnapshotId,
    ) -> Result<Option<Timestamp>, DriverError> {
        let doing = format!("comparing {volume} with {snapshot}");
        let request =
            control::CompareVolumeRequest { volume: Some(by_id(volume)), snapshot_id: snapshot.to_string() };
        let answer = self.clients.driver.clone().compare_volume(request).await.map_err(failed(&doing))?;
        let control::CompareVolumeResponse { same, at } = answer.into_inner();
        let at = at.ok_or_else(|| nonsense(&doing, "it names no moment"))?;
        let at = Timestamp::new(at.seconds, at.nanos).map_err(|error| nonsense(&doing, error))?;
        Ok(same.then_some(at))
    }

    /// Where the bytes of a snapshot can be read.
    ///
    /// # Errors
    /// When the driver fails.
    pub async fn open(&self, snapshot: SnapshotId) -> Result<PathBuf, DriverError> {
        let doing = format!("opening {snapshot}");
        let request = control::OpenSnapshotRequest { snapshot_id: snapshot.to_string() };
        let answer = self.clients.driver.clone().open_snapshot(request).await.map_err(failed(&doing))?;
        Ok(answer.into_inner().path.into())
    }

    /// Deletes a snapshot; it is no error that there is none.
    ///
    /// # Errors
    /// When the driver fails.
    pub async fn delete(&self, snapshot: SnapshotId) -> Result<(), DriverError> {
        let doing = format!("deleting {snapshot}");
        let request = csi::DeleteSnapshotRequest { snapshot_id: snapshot.to_string(), ..Default::default() };
        let client = &self.clients.controller;
        while_busy(
            client,
            request,
            |mut client, request| async move { client.delete_snapshot(request).await },
        )
        .await
        .map_err(failed(&doing))?;
        Ok(())
    }

    /// What may differ between two snapshots of a volume.
    ///
    /// # Errors
    /// When the driver fails at once; later it fails as the last of the changes.
    pub async fn changes(&self, base: SnapshotId, target: SnapshotId) -> Result<Changes, DriverError> {
        let doing = format!("asking what changed between {base} and {target}");
        let request = csi::GetMetadataDeltaRequest {
            base_snapshot_id: base.to_string(),
            target_snapshot_id: target.to_string(),
            ..Default::default()
        };
        let answer = self.clients.snapshot_metadata.clone().get_metadata_delta(request).await;
        Ok(feed(doing.clone(), answer.map_err(failed(&doing))?.into_inner(), |message| {
            message.block_metadata
        }))
    }

    /// What of a snapshot may hold data.
    ///
    /// # Errors
    /// When the driver fails at once; later it fails as the last of the ranges.
    pub async fn allocated(&self, snapshot: SnapshotId) -> Result<Changes, DriverError> {
        let doing = format!("asking what {snapshot} holds");
        let request =
            csi::GetMetadataAllocatedRequest { snapshot_id: snapshot.to_string(), ..Default::default() };
        let answer = self.clients.snapshot_metadata.clone().get_metadata_allocated(request).await;
        Ok(feed(doing.clone(), answer.map_err(failed(&doing))?.into_inner(), |message| {
            message.block_metadata
        }))
    }
}

fn by_id(volume: VolumeId) -> control::VolumeRef {
    control::VolumeRef { by: Some(control::volume_ref::By::Id(volume.to_string())) }
}

fn failed<E: Into<CallError>>(doing: &str) -> impl FnOnce(E) -> DriverError {
    let doing = doing.to_owned();
    move |cause| DriverError::Call { doing, cause: cause.into() }
}

fn nonsense(doing: &str, what: impl ToString) -> DriverError {
    DriverError::Nonsense { doing: doing.to_owned(), what: what.to_string() }
}

fn understand(volume: control::Volume, doing: &str) -> Result<Volume, DriverError> {
    let trouble = match volume.state() {
        control::VolumeState::Hydrating => Some("it is being restored".to_owned()),
        control::VolumeState::Abnormal => Some(volume.message.clone()),
        control::VolumeState::Ready | control::VolumeState::Unspecified => None,
    };
    Ok(Volume {
        id: volume.id.parse().map_err(|error| nonsense(doing, error))?,
        name: volume.name.parse().map_err(|error| nonsense(doing, error))?,
        fs: filesystem(volume.fs()),
        bytes: volume.bytes,
        labels: volume.labels.into_iter().collect(),
        mounts: volume
            .mounts
            .into_iter()
            .filter(|mount| !mount.readonly)
            .map(|mount| mount.path.into())
            .collect(),
        trouble,
    })
}

fn filesystem(fs: control::Filesystem) -> Option<String> {
    match fs {
        control::Filesystem::Ext4 => Some("ext4".into()),
        control::Filesystem::Xfs => Some("xfs".into()),
        control::Filesystem::Btrfs => Some("btrfs".into()),
        control::Filesystem::Block | control::Filesystem::Unspecified => None,
    }
}

fn understand_snapshot(snapshot: &control::Snapshot, doing: &str) -> Result<Snapshot, DriverError> {
    let cut = snapshot.created_at.ok_or_else(|| nonsense(doing, "a snapshot has no time"))?;
    Ok(Snapshot {
        id: snapshot.id.parse().map_err(|error| nonsense(doing, error))?,
        taken_at: Timestamp::new(cut.seconds, cut.nanos).map_err(|error| nonsense(doing, error))?,
        bytes: snapshot.bytes,
    })
}

enum Fed {
    Ranges(Vec<csi::BlockMetadata>),
    Failed(DriverError),
    End,
}

/// Takes a stream of the driver to where it can be walked by a thread. That the stream is not complete is always seen:
/// only its own end is an end.
fn feed<M: Send + 'static>(
    doing: String,
    mut stream: Streaming<M>,
    ranges: impl Fn(M) -> Vec<csi::BlockMetadata> + Send + 'static,
) -> Changes {
    let (sender, receiver) = sync_channel(WAITING);
    let call = doing.clone();
    tokio::spawn(async move {
        loop {
            let fed = match stream.message().await {
                Ok(Some(message)) => Fed::Ranges(ranges(message)),
                Ok(None) => Fed::End,
                Err(status) => Fed::Failed(failed(&call)(status)),
            };
            let last = !matches!(fed, Fed::Ranges(_));
            let sender = sender.clone();
            // The queue may be full for as long as the volume is read: this must not hold up a thread of the runtime.
            let sent = tokio::task::spawn_blocking(move || sender.send(fed).is_ok()).await;
            if last || !sent.unwrap_or(false) {
                return;
            }
        }
    });
    Box::new(Feed { doing, receiver, waiting: Vec::new().into_iter(), ended: false })
}

struct Feed {
    doing: String,
    receiver: Receiver<Fed>,
    waiting: std::vec::IntoIter<csi::BlockMetadata>,
    ended: bool,
}

impl Iterator for Feed {
    type Item = Result<ByteRange, ChangesError>;

    fn next(&mut self) -> Option<Self::Item> {
        while !self.ended {
            if let Some(block) = self.waiting.next() {
                let range = match (u64::try_from(block.byte_offset), u64::try_from(block.size_bytes)) {
                    (Ok(start), Ok(length)) => ByteRange::at(start, length).ok(),
                    _ => None,
                };
                let wrong = || format!("{} bytes at byte {}", block.size_bytes, block.byte_offset);
                self.ended = range.is_none();
                return Some(range.ok_or_else(|| Box::new(nonsense(&self.doing, wrong())) as ChangesError));
            }
            match self.receiver.recv() {
                Ok(Fed::Ranges(ranges)) => self.waiting = ranges.into_iter(),
                Ok(Fed::End) => self.ended = true,
                Ok(Fed::Failed(error)) => {
                    self.ended = true;
                    return Some(Err(Box::new(error)));
                }
                Err(_) => {
                    self.ended = true;
                    return Some(Err(Box::new(nonsense(&self.doing, "it broke off"))));
                }
            }
        }
        None
    }
}

#[cfg(test)]
mod tests;
