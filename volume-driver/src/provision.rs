//! The one place that makes a volume, whatever it begins with: CSI, the control service and Docker all come here.
//!
//! Empty volumes and clones are there when this answers. A volume that begins with a recovery point is filled by the backup agent
//! in the background: the driver writes it down first, as *hydrating*, and asks the agent to fill it; whoever asks for the same
//! volume again is told how far it is, or gets it. So neither a restart of the driver nor one of the agent loses a restore: the
//! next who asks makes it go on.
//!
//! A restore that can never succeed (the point is damaged, or was forgotten meanwhile) takes its volume with it: whoever
//! asked is told so by an error after which orchestrators believe that nothing was made.

use std::collections::BTreeMap;
use std::time::Duration;

use strongroom_model::{Failure as _, RecoveryPointId, Remedy, SnapshotId, VolumeId, VolumeName, chain};
use tokio::time::Instant;

use crate::core_error::CoreError;
use crate::io_limits::{IoLimits, IoQuantity};
use crate::nouns::{ContentSource, Outcome, Volume, VolumeKind, VolumeState};
use crate::points::{PointInfo, Points, PointsError, Progress};
use crate::requests::{BeginRestore, Changes, CreateVolume, PointContent, SizeRange};
use crate::volumes::Volumes;

/// How often the agent is asked how far it is, while a caller waits.
const LOOK_EVERY: Duration = Duration::from_millis(150);

/// How long a restore that was given up may take to let its device go.
const REST: Duration = Duration::from_secs(5);

/// As long as CSI allows for a string; a name of 128 bytes and a time fit in.
const LONGEST_CHOICE_BYTES: usize = 200;

/// Which recovery point somebody means: an id or the beginning of one, `NAME@latest`, or `NAME@TIME`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PointChoice(String);

impl PointChoice {
    /// The point with this id.
    #[must_use]
    pub fn id(id: RecoveryPointId) -> Self {
        Self(id.to_string())
    }

    /// What somebody wrote. What the words mean is the agent's business; here they are only bounded.
    ///
    /// # Errors
    /// Why it cannot be a choice.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            Err("it is empty".to_owned())
        } else if text.len() > LONGEST_CHOICE_BYTES {
            Err(format!("it has more than {LONGEST_CHOICE_BYTES} bytes"))
        } else if text.chars().any(char::is_control) {
            Err("it has a control character".to_owned())
        } else {
            Ok(Self(text.to_owned()))
        }
    }

    fn as_id(&self) -> Option<RecoveryPointId> {
        self.0.parse().ok()
    }

    /// What is to be remembered besides the point that was chosen.
    fn words(&self) -> Option<&str> {
        self.as_id().is_none().then_some(self.0.as_str())
    }
}

/// What a new volume begins with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Beginning {
    /// A clone of a snapshot.
    Snapshot(SnapshotId),
    /// A clone of what another volume holds now.
    Volume(VolumeId),
    /// The content of a recovery point.
    Point(PointChoice),
}

/// What a new volume shall hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WantedKind {
    /// Whatever it begins with; ext4 when it begins empty.
    Any,
    /// Any filesystem; ext4 when it begins empty.
    Filesystem,
    /// This.
    Exactly(VolumeKind),
}

impl WantedKind {
    const fn exactly(self) -> Option<VolumeKind> {
        match self {
            Self::Exactly(kind) => Some(kind),
            Self::Any | Self::Filesystem => None,
        }
    }

    fn allows(self, kind: VolumeKind) -> bool {
        match self {
            Self::Any => true,
            Self::Filesystem => kind.filesystem().is_some(),
            Self::Exactly(wanted) => wanted == kind,
        }
    }
}

/// A volume that is wanted.
#[derive(Debug, Clone)]
pub struct NewVolume {
    /// Its name.
    pub name: VolumeName,
    /// Its size; at least that of what it begins with.
    pub size: SizeRange,
    /// What it holds.
    pub kind: WantedKind,
    /// What it begins with; `None`: empty.
    pub beginning: Option<Beginning>,
    /// Free labels. A volume that begins with a recovery point gets those of the point, too, where they are not named here.
    pub labels: BTreeMap<String, String>,
    /// How much I/O a second its users may do.
    pub limits: IoLimits,
}

/// What became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Provisioned {
    /// It is there, or something else of that name is.
    Ready(Outcome<Volume>),
    /// It is being restored and cannot be used yet; ask again.
    Restoring {
        /// The volume, hydrating.
        volume: Volume,
        /// How far the restore is.
        percent: u8,
    },
}

/// Makes volumes. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Provision {
    volumes: Volumes,
    points: Points,
}

impl Provision {
    /// Makes volumes of a driver, and knows recovery points by way of `points`.
    #[must_use]
    pub const fn new(volumes: Volumes, points: Points) -> Self {
        Self { volumes, points }
    }

    /// Makes a volume, or goes on making it. Waits at most `patience` for a restore; the restore itself goes on.
    ///
    /// # Errors
    /// As [`Volumes::create`]; and when the agent cannot be reached, or cannot restore.
    pub async fn create(&self, wanted: NewVolume, patience: Duration) -> Result<Provisioned, PointsError> {
        let source = match wanted.beginning.clone() {
            None => None,
            Some(Beginning::Snapshot(id)) => Some(ContentSource::Snapshot(id)),
            Some(Beginning::Volume(id)) => Some(ContentSource::Volume(id)),
            Some(Beginning::Point(choice)) => return self.restore(wanted, choice, patience).await,
        };
        let kind = match (wanted.kind, source) {
            // What is cloned stays what it is, and must be what is wanted.
            (WantedKind::Filesystem, Some(source)) => Some(self.kind_of_clone(&wanted, source).await?),
            (other, _) => other.exactly(),
        };
        let (name, size, labels, limits) = (wanted.name, wanted.size, wanted.labels, wanted.limits);
        let outcome = self.volumes.create(CreateVolume { name, size, kind, source, labels, limits }).await?;
        Ok(Provisioned::Ready(outcome))
    }

    async fn kind_of_clone(
        &self,
        wanted: &NewVolume,
        source: ContentSource,
    ) -> Result<VolumeKind, CoreError> {
        let kind = match (self.volumes.volume_named(&wanted.name).await?, source) {
            // It was made before; its source may be gone by now.
            (Some(existing), _) => existing.kind,
            (None, ContentSource::Snapshot(id)) => self.volumes.snapshot(id).await?.kind,
            (None, ContentSource::Volume(id)) => self.volumes.brief(id).await?.kind,
            (None, ContentSource::Point(_)) => VolumeKind::Ext4,
        };
        fitting(wanted, kind).map(|()| kind)
    }

    async fn restore(
        &self,
        wanted: NewVolume,
        choice: PointChoice,
        patience: Duration,
    ) -> Result<Provisioned, PointsError> {
        let until = Instant::now() + patience;
        if let Some(existing) = self.volumes.volume_named(&wanted.name).await? {
            return match self.difference(&existing, &wanted, &choice).await? {
                Some(difference) => Ok(Provisioned::Ready(Outcome::Conflict { existing, difference })),
                None if existing.state == VolumeState::Ready => {
                    Ok(Provisioned::Ready(Outcome::Identical(existing)))
                }
                None => self.fill(existing, until).await,
            };
        }
        let point = self.points.find(&choice.0).await?;
        fitting(&wanted, point.kind)?;
        let limits = wanted.limits;
        let outcome = self.volumes.begin_restore(begin(wanted, &choice, &point)).await?;
        match outcome {
            Outcome::Created(target) | Outcome::Identical(target) => {
                if target.volume.limits != limits {
                    let limits = IoQuantity::ALL.map(|quantity| (quantity, limits.of(quantity))).into();
                    let changes = Changes { limits, ..Changes::default() };
                    self.volumes.modify(target.volume.id, changes).await?;
                }
                self.fill(target.volume, until).await
            }
            Outcome::Conflict { existing, difference } => {
                Ok(Provisioned::Ready(Outcome::Conflict { existing: existing.volume, difference }))
            }
        }
    }

    /// How what is there differs from what is asked for. Labels do not count: they may have been changed since.
    async fn difference(
        &self,
        existing: &Volume,
        wanted: &NewVolume,
        choice: &PointChoice,
    ) -> Result<Option<String>, CoreError> {
        let SizeRange { required_bytes, limit_bytes } = wanted.size;
        let same_point = match (existing.source, choice.words()) {
            (Some(ContentSource::Point(id)), None) => choice.as_id() == Some(id),
            (Some(ContentSource::Point(_)), Some(words)) => {
                self.volumes.chosen_by(existing.id).await?.as_deref() == Some(words)
            }
            _ => false,
        };
        Ok(if !same_point {
            Some("it began with another content".to_owned())
        } else if !wanted.kind.allows(existing.kind) {
            Some(format!("it is {}", existing.kind))
        } else if existing.bytes < required_bytes || (limit_bytes != 0 && existing.bytes > limit_bytes) {
            Some(format!("it has {} bytes", existing.bytes))
        } else {
            None
        })
    }

    /// Lets the agent fill a hydrating volume, and waits for it, within bounds.
    async fn fill(&self, volume: Volume, until: Instant) -> Result<Provisioned, PointsError> {
        let Some(ContentSource::Point(point)) = volume.source else {
            let what = format!("volume {} is being filled, and not from a point", volume.id);
            return Err(CoreError::Bug { what }.into());
        };
        loop {
            let asked = self.points.restore(&volume, point).await;
            // The agent finishes the volume itself; what the registry says counts, whatever became of the answer.
            let now = self.volumes.brief(volume.id).await?;
            if now.state == VolumeState::Ready {
                return Ok(Provisioned::Ready(Outcome::Created(now)));
            }
            let percent = match asked {
                Ok(Progress::Running(percent)) => percent,
                Ok(Progress::Done) => 99,
                Err(error) => return Err(self.give_up_if_hopeless(now.id, error).await),
            };
            if Instant::now() + LOOK_EVERY >= until {
                return Ok(Provisioned::Restoring { volume: now, percent });
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// What can never succeed takes its volume with it; all else says that it goes on.
    async fn give_up_if_hopeless(&self, volume: VolumeId, error: PointsError) -> PointsError {
        let cause = match error {
            PointsError::Agent(cause) => cause,
            other => return other,
        };
        if !matches!(cause.remedy(), Remedy::FixRequest | Remedy::FixData | Remedy::Bug) {
            return PointsError::Unfinished(cause);
        }
        if let Err(left) = self.volumes.discard_restore(volume).await {
            tracing::warn!(%volume, error = chain(&left), "what a failed restore began could not be removed; deleting the volume will");
        }
        PointsError::Agent(cause)
    }

    /// Deletes a volume. One that is being restored is given up first. Unknown: fine.
    ///
    /// # Errors
    /// As [`Volumes::delete`].
    pub async fn delete(&self, id: VolumeId) -> Result<(), PointsError> {
        match self.volumes.brief(id).await {
            Ok(volume)
                if volume.state == VolumeState::Hydrating
                    && matches!(volume.source, Some(ContentSource::Point(_))) =>
            {
                // An agent that cannot be asked is not at work, or its open device will keep the volume from being deleted.
                if let Err(error) = self.points.cancel_restore(id).await {
                    tracing::info!(volume = %id, error = chain(&error), "the agent could not be told that a restore is given up");
                }
                let until = Instant::now() + REST;
                loop {
                    match self.volumes.discard_restore(id).await {
                        // It was finished just now.
                        Err(CoreError::NotReady { .. }) => return Ok(self.volumes.delete(id).await?),
                        // A write that was under way holds the device for a moment.
                        Err(CoreError::InUse { .. } | CoreError::Busy { .. }) if Instant::now() < until => {
                            tokio::time::sleep(LOOK_EVERY).await;
                        }
                        discarded => return Ok(discarded?),
                    }
                }
            }
            _ => Ok(self.volumes.delete(id).await?),
        }
    }
}

/// Refuses content of another kind than is wanted.
fn fitting(wanted: &NewVolume, kind: VolumeKind) -> Result<(), CoreError> {
    if wanted.kind.allows(kind) {
        return Ok(());
    }
    let shall = match wanted.kind {
        WantedKind::Exactly(kind) => kind.to_string(),
        WantedKind::Filesystem | WantedKind::Any => "a filesystem".to_owned(),
    };
    Err(CoreError::Refused {
        subject: format!("volume {}", wanted.name),
        reason: format!("it shall be {shall}, and what it begins with is {kind}"),
    })
}

/// Labels that name the objects of an orchestrator for whom the point's volume was made, or a restore: they are not the new volume's.
const NOT_INHERITED: [&str; 5] = ["pvc.", "pv.", "volumesnapshot.", "volumesnapshotcontent.", "strongroom."];

fn begin(wanted: NewVolume, choice: &PointChoice, point: &PointInfo) -> BeginRestore {
    let mut labels = point.labels.clone();
    labels.retain(|key, _| NOT_INHERITED.iter().all(|prefix| !key.starts_with(prefix)));
    labels.extend(wanted.labels);
    BeginRestore {
        name: wanted.name,
        kind: point.kind,
        size: wanted.size,
        labels,
        from_snapshot: None,
        point: Some(PointContent {
            id: point.id,
            bytes: point.bytes,
            words: choice.words().map(str::to_owned),
        }),
        only: None,
    }
}

#[cfg(test)]
mod tests;
