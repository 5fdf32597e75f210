//! Docker's volume plugin: the driver as `docker volume create -d strongroom` sees it.
//!
//! Docker finds the plugin by its socket (`/run/docker/plugins/strongroom.sock`) and asks it over HTTP, one POST with
//! a JSON object for each call; every answer has `Err`, which is empty when all went well. What the calls do is the
//! driver's: this is only another door to [`Volumes`], beside CSI and the control service, and keeps nothing.
//!
//! * Every ready volume with a filesystem is seen by Docker, whoever made it. A raw volume is not, since containers of
//!   Docker mount folders; nor is one that a restore is still writing, since Docker takes whatever it can get for
//!   created.
//! * Names from Docker are looked up, never joined into a path: what is mounted lies at
//!   `<docker root>/mounts/<volume id>`.
//! * Docker gives up on a call after two minutes (one for the small ones), and does not ask again by itself. So a call
//!   waits a while for another operation on the same volume, and a restore that takes longer is answered with how far it
//!   is; asking again goes on.
//! * Bodies, and calls at a time, are bounded.

mod calls;
mod options;
mod plugin;
mod status;
mod wire;

pub(crate) use plugin::serve;

use std::path::PathBuf;

use crate::{Points, Provision, Volumes};

/// What Docker's calls are answered from. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Docker {
    volumes: Volumes,
    provision: Provision,
    points: Points,
    newest: status::Newest,
    /// Where the mounts for containers lie.
    root: PathBuf,
}

impl Docker {
    pub(crate) fn new(volumes: Volumes, points: Points, root: PathBuf) -> Self {
        let provision = Provision::new(volumes.clone(), points.clone());
        Self { volumes, provision, points, newest: status::Newest::default(), root }
    }
}

#[cfg(test)]
mod tests;
