//! What the driver does, as blocking code.
//!
//! Every operation has the same shape: take the guard, look at registry and kernel, decide; write the intent;
//! touch the pool or the kernel; write the result. When a step fails the intent is undone at once; when the
//! process dies, at the next start. Whether something is mounted or attached is always asked of the kernel,
//! never of the registry alone.

mod attachments;
mod condition;
mod create;
pub(crate) mod deliver;
mod describe;
mod docker;
mod doctor;
mod ephemeral;
mod exchange;
mod expand;
mod group;
mod hand;
mod health;
mod in_use;
mod modify;
mod mount_group;
mod mounting;
mod notes;
mod pause;
mod publish;
mod reconcile;
mod repair;
mod restore;
mod snapshot;
mod stage;
mod still;
mod survey;
mod upkeep;

pub(crate) use survey::{Survey, SurveyedVolume};

use std::sync::{Arc, Mutex};

use strongroom_model::{SnapshotId, VolumeId, World};

use crate::backend::{ReflinkBackend, VolumeBackend};
use crate::core_error::CoreError;
use crate::crash;
use crate::driver::pause::Paused;
use crate::driver::still::FoundEqual;
use crate::guards::Guards;
use crate::image::ImageName;
use crate::io_throttle::IoThrottle;
use crate::place::MountRoots;
use crate::pool::{self, Pool};
use crate::registry::{Registry, SnapshotRow, VolumeRow, VolumeStep};
use crate::requests::DriverSettings;

pub(crate) use upkeep::Upkeep;

/// The parts, put together.
#[derive(Debug)]
pub(crate) struct Driver {
    settings: DriverSettings,
    world: World,
    registry: Registry,
    pool: Arc<Pool>,
    backend: Box<dyn VolumeBackend>,
    guards: Guards,
    /// Where an orchestrator may have volumes mounted.
    roots: MountRoots,
    throttle: IoThrottle,
    /// Held while the limits of a device are changed, and while a device with limits is taken away.
    limiting: Mutex<()>,
    /// Held from asking whether there is room for a volume until it is promised.
    provisioning: Mutex<()>,
    /// The volumes whose writers wait, since the pool is full.
    paused: Paused,
    /// Volumes that were found to hold what a snapshot holds.
    found_equal: FoundEqual,
}

#[cfg(test)]
pub(crate) mod tests;

/// Where the state folder lies on the pool itself, even opening the registry may need what is kept back.
fn open_registry(settings: &DriverSettings) -> Result<Registry, CoreError> {
    let path = settings.state_dir.join("driver.sqlite");
    loop {
        match Registry::open(&path) {
            Err(error)
                if crate::registry::may_lack_space(&error) && pool::give_reserve_in(&settings.pool) =>
            {
                tracing::warn!("the registry found no space; a part of the pool's reserve was given");
            }
            opened => return opened,
        }
    }
}

impl Driver {
    /// Opens pool and registry and makes them agree. The sentences say what was done and found.
    pub(crate) fn open(settings: DriverSettings, world: World) -> Result<(Self, Vec<String>), CoreError> {
        let driver = Self::assemble(settings, world)?;
        driver.pool.begin_afresh()?;
        let report = driver.reconcile()?;
        Ok((driver, report))
    }

    /// Opens pool and registry to look at them while no driver runs. Nothing is made and nothing is settled.
    pub(crate) fn look(settings: DriverSettings, world: World) -> Result<Self, CoreError> {
        pool::is_there(&settings.pool)?;
        Self::assemble(settings, world)
    }

    fn assemble(settings: DriverSettings, world: World) -> Result<Self, CoreError> {
        pool::make_folder(&settings.state_dir)?;
        let registry = open_registry(&settings)?;
        let known = registry.pool()?;
        let pool = Arc::new(Pool::open(&settings, known.as_deref(), &*world.entropy)?);
        if known.is_none() {
            crash::point!("pool.claimed");
            registry.set_pool(pool.id())?;
        }
        registry.rests_on(Arc::clone(&pool));
        let backend = Box::new(ReflinkBackend::new(Arc::clone(&pool)));
        let roots = MountRoots::new(settings.mount_roots.clone());
        let throttle = IoThrottle::new(settings.cgroup_root.clone());
        Ok(Self {
            settings,
            world,
            registry,
            pool,
            backend,
            guards: Guards::default(),
            roots,
            throttle,
            limiting: Mutex::new(()),
            provisioning: Mutex::new(()),
            paused: Paused::default(),
            found_equal: FoundEqual::default(),
        })
    }

    pub(crate) const fn settings(&self) -> &DriverSettings {
        &self.settings
    }

    /// A volume that exists: being created is not existing.
    fn existing(&self, id: VolumeId) -> Result<VolumeRow, CoreError> {
        self.registry
            .volume(id)?
            .filter(|row| row.step != VolumeStep::Creating)
            .ok_or_else(|| CoreError::NotFound { subject: format!("volume {id}") })
    }

    /// A volume that exists and may be used.
    fn usable(&self, id: VolumeId) -> Result<VolumeRow, CoreError> {
        let row = self.existing(id)?;
        if row.step == VolumeStep::Hydrating {
            return Err(CoreError::NotReady {
                subject: row.subject(),
                reason: "a restore is still writing its content".to_owned(),
            });
        }
        Ok(row)
    }

    /// A snapshot that is complete.
    fn complete_snapshot(&self, id: SnapshotId) -> Result<SnapshotRow, CoreError> {
        self.registry
            .snapshot(id)?
            .filter(|row| row.ready)
            .ok_or_else(|| CoreError::NotFound { subject: format!("snapshot {id}") })
    }

    /// Removes an image that the registry discarded.
    fn collect(&self, image: &ImageName) -> Result<(), CoreError> {
        self.backend.remove(image)?;
        crash::point!("collect.removed");
        self.registry.forget_discarded(image)
    }

    /// Removes all images that the registry discarded.
    fn collect_discarded(&self) -> Result<(), CoreError> {
        self.registry.discarded()?.iter().try_for_each(|image| self.collect(image))
    }

    /// As [`Driver::collect`], where the operation itself has succeeded or failed already: what cannot be
    /// removed now is removed at the next start.
    fn collect_or_log(&self, image: &ImageName) {
        if let Err(error) = self.collect(image) {
            tracing::warn!(%image, error = strongroom_model::chain(&error), "an image could not be removed; the next start will");
        }
    }
}

#[cfg(test)]
impl Driver {
    /// Where the images lie.
    pub(crate) fn pool_root(&self) -> &std::path::Path {
        self.pool.root()
    }

    pub(crate) fn volume_row(&self, id: VolumeId) -> VolumeRow {
        self.existing(id).unwrap()
    }

    /// What the reserve lacks.
    pub(crate) fn pool_reserve_missing(&self) -> u64 {
        self.pool.reserve().missing()
    }

    /// Whether no intent is left.
    pub(crate) fn registry_is_quiet(&self) -> bool {
        use crate::registry::ExchangeStep;
        self.registry.discarded().unwrap().is_empty()
            && self.registry.ephemerals().unwrap().is_empty()
            && self.registry.all_mounts().unwrap().is_empty()
            && self.registry.volumes().unwrap().is_empty()
            && self.registry.snapshots().unwrap().is_empty()
            && self.registry.groups().unwrap().is_empty()
            && self.registry.exchanges().unwrap().iter().all(|row| row.step == ExchangeStep::Done)
    }
}
