//! How commands reach the driver, and how they name what they mean.

use clap::Args;
use strongroom_console::Failed;
use strongroom_model::{Failure, Remedy};
use strongroom_proto::control::{GetVolumeRequest, Volume, VolumeRef, volume_ref};
use strongroom_proto::{CallError, Clients};

/// Where the driver is.
#[derive(Debug, Clone, Args)]
pub struct EndpointArgs {
    /// The driver's socket: unix:///path or a path
    #[arg(
        long,
        value_name = "ENDPOINT",
        env = "STRONGROOM_ENDPOINT",
        default_value = "unix:///run/strongroom/csi.sock"
    )]
    pub endpoint: String,
}

impl EndpointArgs {
    pub(super) async fn connect(&self) -> Result<Clients, Failed> {
        Ok(strongroom_proto::connect(&self.endpoint).await?)
    }
}

/// A driver answered something that makes no sense.
#[derive(Debug, thiserror::Error)]
#[error("the driver answered without {what}")]
pub(super) struct Incomplete {
    pub(super) what: &'static str,
}

impl Failure for Incomplete {
    fn code(&self) -> &'static str {
        "driver.incomplete-answer"
    }

    fn remedy(&self) -> Remedy {
        Remedy::FixSurroundings
    }

    fn advice(&self) -> String {
        "check that the endpoint is a Strongroom driver of this version".into()
    }
}

/// What must be in an answer.
pub(super) fn given<T>(value: Option<T>, what: &'static str) -> Result<T, Incomplete> {
    value.ok_or(Incomplete { what })
}

/// A volume by name, or by its id: a name may look like an id only if it is one.
pub(super) fn named(name: &str) -> VolumeRef {
    let by = if name.parse::<strongroom_model::VolumeId>().is_ok() {
        volume_ref::By::Id(name.to_owned())
    } else {
        volume_ref::By::Name(name.to_owned())
    };
    VolumeRef { by: Some(by) }
}

/// The volume that is meant, which must exist.
pub(super) async fn volume(clients: &mut Clients, name: &str) -> Result<Volume, Failed> {
    let request = GetVolumeRequest { volume: Some(named(name)) };
    let answer = clients.driver.get_volume(request).await.map_err(CallError::from)?.into_inner();
    Ok(given(answer.volume, "the volume")?)
}

/// `KEY=VALUE` as it is given to `--label`.
pub(super) fn label(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("a label is written KEY=VALUE".to_owned()),
    }
}
