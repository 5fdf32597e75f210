//! The calls of the protocol, one by one.

use std::future::Future;
use std::time::{Duration, Instant};

use axum::http::StatusCode;
use strongroom_model::{Failure, Remedy};

use super::options::{Options, Origin};
use super::wire::{Answer, Capabilities, Request, Volume as WireVolume};
use super::{Docker, status};
use crate::csi::status::RequestError;
use crate::csi::{answer, door};
use crate::{Beginning, CoreError, NewVolume, PointsError, Provisioned, Volume, VolumeKind, VolumeState};

/// How long a call waits for another operation on the same volume. Docker asks only once; the shortest of its own
/// limits is a minute.
const BUSY_PATIENCE: Duration = Duration::from_secs(30);
/// How long a call waits for a restore. Docker gives up after two minutes; the answer must come before.
const RESTORE_PATIENCE: Duration = Duration::from_secs(80);
const BUSY_PAUSE: Duration = Duration::from_millis(50);

/// A call of Docker that cannot be answered as it wishes.
#[derive(Debug, thiserror::Error)]
pub(super) enum PluginError {
    /// Not a POST.
    #[error("calls of the plugin protocol are POST requests")]
    Method,
    /// The body makes no sense, or is too large.
    #[error("the request cannot be read: {reason}")]
    Body { reason: String },
    /// A call that is not of this protocol.
    #[error("{call:?} is not a call of a volume plugin")]
    Call { call: String },
    /// What is asked for makes no sense.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// The driver could not.
    #[error(transparent)]
    Core(#[from] CoreError),
    /// The driver could not, or the agent.
    #[error(transparent)]
    Points(#[from] PointsError),
}

impl Failure for PluginError {
    fn code(&self) -> &'static str {
        match self {
            Self::Method | Self::Body { .. } | Self::Call { .. } => "request.protocol",
            Self::Request(cause) => cause.code(),
            Self::Core(cause) => cause.code(),
            Self::Points(cause) => cause.code(),
        }
    }

    fn remedy(&self) -> Remedy {
        match self {
            Self::Method | Self::Body { .. } | Self::Call { .. } => Remedy::FixRequest,
            Self::Request(cause) => cause.remedy(),
            Self::Core(cause) => cause.remedy(),
            Self::Points(cause) => cause.remedy(),
        }
    }

    fn advice(&self) -> String {
        match self {
            Self::Method | Self::Body { .. } | Self::Call { .. } => {
                "this socket is for the Docker engine; people use `strongroom volume`".to_owned()
            }
            Self::Request(cause) => cause.advice(),
            Self::Core(cause) => cause.advice(),
            Self::Points(cause) => cause.advice(),
        }
    }
}

impl PluginError {
    /// What Docker shows: the whole chain, then code and advice.
    pub(super) fn message(&self) -> String {
        format!("{} [{}] {}", strongroom_model::chain(self), self.code(), self.advice())
    }

    /// Docker acts on no status but that it is not 200, and on 404 for whole calls.
    pub(super) const fn http(&self) -> StatusCode {
        match self {
            Self::Method => StatusCode::METHOD_NOT_ALLOWED,
            Self::Body { .. } => StatusCode::BAD_REQUEST,
            Self::Call { .. } => StatusCode::NOT_FOUND,
            Self::Request(_) | Self::Core(_) | Self::Points(_) => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

type Answered = Result<Answer, PluginError>;

impl Docker {
    pub(super) async fn answer(&self, call: &str, request: Request) -> Answered {
        match call {
            "Plugin.Activate" => Ok(Answer { implements: Some(vec!["VolumeDriver"]), ..Answer::default() }),
            "VolumeDriver.Capabilities" => {
                Ok(Answer { capabilities: Some(Capabilities { scope: "local" }), ..Answer::default() })
            }
            "VolumeDriver.Create" => self.create(request).await,
            "VolumeDriver.Remove" => self.remove(&request.name).await,
            "VolumeDriver.Mount" => self.mount(&request).await,
            "VolumeDriver.Unmount" => self.unmount(&request).await,
            "VolumeDriver.Path" => self.path(&request.name).await,
            "VolumeDriver.Get" => self.get(&request.name).await,
            "VolumeDriver.List" => self.list().await,
            _ => Err(PluginError::Call { call: call.chars().take(64).collect() }),
        }
    }

    async fn create(&self, request: Request) -> Answered {
        let name = door::volume_name(&request.name)?;
        let options = Options::parse(&request.opts.unwrap_or_default())?;
        let beginning = match options.origin {
            None => None,
            Some(Origin::Snapshot(id)) => {
                Some(Beginning::Snapshot(door::known_snapshot("from-snapshot", &id)?))
            }
            Some(Origin::Volume(named)) => Some(Beginning::Volume(self.named(&named).await?.id)),
            Some(Origin::Point(choice)) => Some(Beginning::Point(choice)),
        };
        let wanted = NewVolume {
            name: name.clone(),
            size: options.size,
            kind: options.kind,
            beginning,
            labels: options.labels,
            limits: options.limits,
        };
        let subject = || format!("volume {name:?}");
        let volume = match patiently(|| self.provision.create(wanted.clone(), RESTORE_PATIENCE)).await? {
            Provisioned::Ready(outcome) => answer::agreed(outcome, subject)?.0,
            Provisioned::Restoring { percent, .. } => {
                return Err(RequestError::Restoring { subject: subject(), percent }.into());
            }
        };
        visible(volume)?;
        Ok(Answer::default())
    }

    async fn remove(&self, name: &str) -> Answered {
        // Docker removes its own record of a volume that is gone when removing is answered without an error.
        let Some(volume) = self.volumes.volume_named(&door::volume_name(name)?).await? else {
            return Ok(Answer::default());
        };
        patiently(|| self.volumes.docker_remove(volume.id)).await?;
        Ok(Answer::default())
    }

    async fn mount(&self, request: &Request) -> Answered {
        let reference = door::required("ID", &request.id)?;
        let volume = self.found(&request.name).await?;
        // Of what Docker sends, nothing becomes part of a path.
        let folder = self.root.join("mounts").join(volume.id.to_string());
        let path = patiently(|| self.volumes.docker_mount(volume.id, reference, folder.clone())).await?;
        Ok(Answer { mountpoint: Some(path.display().to_string()), ..Answer::default() })
    }

    async fn unmount(&self, request: &Request) -> Answered {
        let reference = door::required("ID", &request.id)?;
        let name = door::volume_name(&request.name)?;
        // A volume that is gone is mounted nowhere.
        if let Some(volume) = self.volumes.volume_named(&name).await? {
            patiently(|| self.volumes.docker_unmount(volume.id, reference)).await?;
        }
        Ok(Answer::default())
    }

    async fn path(&self, name: &str) -> Answered {
        let volume = self.found(name).await?;
        Ok(Answer { mountpoint: Some(status::mountpoint(&volume)), ..Answer::default() })
    }

    async fn get(&self, name: &str) -> Answered {
        let volume = self.found(name).await?;
        let status = status::of(&self.volumes, &self.points, &self.newest, &volume).await;
        Ok(Answer {
            volume: Some(WireVolume { status: Some(status), ..brief(&volume) }),
            ..Answer::default()
        })
    }

    async fn list(&self) -> Answered {
        let volumes = self.volumes.volumes().await?;
        let seen = volumes.into_iter().filter_map(|volume| visible(volume).ok());
        Ok(Answer { volumes: Some(seen.map(|volume| brief(&volume)).collect()), ..Answer::default() })
    }

    /// A volume that Docker can see.
    async fn found(&self, name: &str) -> Result<Volume, PluginError> {
        let name = door::volume_name(name)?;
        let found = self.volumes.volume_named(&name).await?;
        visible(found.ok_or_else(|| CoreError::NotFound { subject: format!("volume {name}") })?)
    }

    /// A volume by its name or its id, whatever it is.
    async fn named(&self, given: &str) -> Result<Volume, PluginError> {
        if let Some(volume) = self.volumes.volume_named(&door::volume_name(given)?).await? {
            return Ok(volume);
        }
        Ok(self.volumes.brief(door::known_volume("from-volume", given)?).await?)
    }
}

/// Only what containers can mount, and what is complete.
fn visible(volume: Volume) -> Result<Volume, PluginError> {
    let subject = format!("volume {} ({})", volume.name, volume.id);
    if volume.kind == VolumeKind::Block {
        let reason = "it is a raw device, and containers of Docker mount folders".to_owned();
        return Err(CoreError::Refused { subject, reason }.into());
    }
    if volume.state == VolumeState::Hydrating {
        let reason = "a restore is still writing its content".to_owned();
        return Err(CoreError::NotReady { subject, reason }.into());
    }
    Ok(volume)
}

fn brief(volume: &Volume) -> WireVolume {
    WireVolume {
        name: volume.name.to_string(),
        mountpoint: status::mountpoint(volume),
        created_at: volume.created_at.to_string(),
        status: None,
    }
}

/// Docker asks once. So whoever is busy with the volume is waited for, within bounds.
async fn patiently<T, E: Failure, F>(mut ask: impl FnMut() -> F) -> Result<T, E>
where
    F: Future<Output = Result<T, E>>,
{
    let began = Instant::now();
    loop {
        match ask().await {
            Err(error) if error.code() == "driver.busy" && began.elapsed() < BUSY_PATIENCE => {
                tokio::time::sleep(BUSY_PAUSE).await;
            }
            answer => return answer,
        }
    }
}
