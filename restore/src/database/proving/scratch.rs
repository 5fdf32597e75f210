//! What a restore test needs for a while: a volume, and a folder with its mount point, the log and the server's socket.
//!
//! The folder is there before the volume, and locked for as long as the test lives; the volume's label names it. So whoever comes next
//! tells a test that goes on from what a killed one left: its servers are ended, its volume is unmounted and deleted,
//! its folder removed.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use strongroom_console::Failed;
use strongroom_model::{Failure as _, NameError, VolumeName, World};
use strongroom_proto::RESTORE_TEST_LABEL;
use strongroom_proto::control::{Volume, VolumeState};

use super::super::RecoveryError;
use super::super::leftovers::end_servers;
use super::ProvingError;
use crate::driver::{Driver, Labels};

/// How the folders of tests begin.
const FOLDER: &str = "strongroom-db-test-";

/// How long the name of a volume may be.
const LONGEST_NAME: usize = 128;

/// How long the path of the folder may be: the path of a socket has 107 bytes, and that of the server lies 21 deeper.
const LONGEST_FOLDER: usize = 86;

/// How long a write under way may keep a volume from being deleted.
const VOLUME_RESTS: Duration = Duration::from_secs(20);

const LOOK_EVERY: Duration = Duration::from_millis(100);

/// The volume and the folder of one test.
#[derive(Debug)]
pub(in super::super) struct Scratch {
    folder: PathBuf,
    volume: VolumeName,
    /// Held for as long as the test lives.
    _lock: File,
}

impl Scratch {
    /// A folder below `work_dir` and the name of a volume, for a test of a database on `volume`. What killed tests left goes first.
    pub(in super::super) async fn make(
        driver: &Driver,
        work_dir: &Path,
        volume: &VolumeName,
        world: &World,
    ) -> Result<Self, Failed> {
        let work_dir = std::path::absolute(work_dir).map_err(failed(work_dir))?;
        remove_leftovers(driver, &work_dir).await?;
        let mut random = [0; 6];
        world.entropy.fill(&mut random);
        let name: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
        let folder = work_dir.join(format!("{FOLDER}{name}"));
        if folder.as_os_str().len() > LONGEST_FOLDER {
            return Err(ProvingError::LongPath { folder }.into());
        }
        let volume = named(volume, &name).map_err(|cause| RecoveryError::Name { cause })?;
        fs::create_dir(&folder).map_err(failed(&folder))?;
        let lock = lock(&folder)?.ok_or_else(|| ProvingError::Running { folder: folder.clone() })?;
        // The server is of another user, and has to get through; what is below is private.
        fs::set_permissions(&folder, std::os::unix::fs::PermissionsExt::from_mode(0o711))
            .and_then(|()| fs::create_dir(folder.join("volume")))
            .map_err(failed(&folder))?;
        Ok(Self { folder, volume, _lock: lock })
    }

    pub(in super::super) const fn volume(&self) -> &VolumeName {
        &self.volume
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    pub(super) fn mounted(&self) -> PathBuf {
        self.folder.join("volume")
    }

    /// The labels of the volume: nobody takes it for a continuation of its source, or backs it up.
    pub(in super::super) fn labels(&self) -> Labels {
        Labels::from([(RESTORE_TEST_LABEL.to_owned(), self.folder.display().to_string())])
    }

    /// Takes all of it away.
    pub(super) async fn remove(self, driver: &Driver) -> Result<(), Failed> {
        if let Some(volume) = driver.volume_named(&self.volume).await? {
            remove_volume(driver, &volume, &self.folder).await?;
        }
        Ok(remove_folder(&self.folder)?)
    }
}

/// `db` becomes `db-test-0123456789ab`, cut where names end.
fn named(volume: &VolumeName, random: &str) -> Result<VolumeName, NameError> {
    let ending = format!("-test-{random}");
    let room = LONGEST_NAME.saturating_sub(ending.len());
    let kept: String = volume.as_str().chars().take(room).collect();
    format!("{kept}{ending}").parse()
}

async fn remove_leftovers(driver: &Driver, work_dir: &Path) -> Result<(), Failed> {
    for volume in driver.volumes(&[]).await? {
        let Some(folder) = volume.labels.get(RESTORE_TEST_LABEL).map(PathBuf::from) else { continue };
        let _lock = if folder.exists() {
            Some(lock(&folder)?.ok_or_else(|| ProvingError::Running { folder: folder.clone() })?)
        } else {
            None
        };
        tracing::warn!(volume = volume.name, "removing what a killed restore test left");
        remove_volume(driver, &volume, &folder).await?;
        remove_folder(&folder)?;
    }
    for folder in fs::read_dir(work_dir).map_err(failed(work_dir))?.flatten() {
        if folder.file_name().to_string_lossy().starts_with(FOLDER) {
            let folder = folder.path();
            // Between a folder and its volume lies a moment.
            let _lock = lock(&folder)?.ok_or_else(|| ProvingError::Running { folder: folder.clone() })?;
            remove_folder(&folder)?;
        }
    }
    Ok(())
}

async fn remove_volume(driver: &Driver, volume: &Volume, folder: &Path) -> Result<(), Failed> {
    let below = folder.to_owned();
    let ending = tokio::task::spawn_blocking(move || end_servers(&below));
    ending.await.map_err(|_| RecoveryError::Ending)?;
    let name: VolumeName = volume.name.parse().map_err(|cause| RecoveryError::Name { cause })?;
    for mount in &volume.mounts {
        driver.unmount(&name, Path::new(&mount.path)).await?;
    }
    let since = Instant::now();
    loop {
        let removed = if volume.state() == VolumeState::Hydrating {
            driver.discard_restore(&volume.id).await
        } else {
            driver.delete_volume(&volume.id).await
        };
        match removed {
            Err(error) if error.code() == "driver.in-use" && since.elapsed() < VOLUME_RESTS => {
                tokio::time::sleep(LOOK_EVERY).await;
            }
            removed => return Ok(removed?),
        }
    }
}

fn remove_folder(folder: &Path) -> Result<(), ProvingError> {
    // The mount point only when it is empty: never a volume's own files.
    match fs::remove_dir(folder.join("volume")) {
        Err(cause) if cause.kind() != io::ErrorKind::NotFound => return Err(failed(folder)(cause)),
        _ => {}
    }
    match fs::remove_dir_all(folder) {
        Err(cause) if cause.kind() != io::ErrorKind::NotFound => Err(failed(folder)(cause)),
        _ => Ok(()),
    }
}

fn failed(folder: &Path) -> impl FnOnce(io::Error) -> ProvingError + use<> {
    let folder = folder.to_owned();
    |cause| ProvingError::Folder { folder, cause }
}

/// `None`: a test that lives has it.
fn lock(folder: &Path) -> Result<Option<File>, ProvingError> {
    let file = File::open(folder).map_err(failed(folder))?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(cause)) => Err(failed(folder)(cause)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_volume_of_a_test_is_named_after_its_source_however_long_that_name_is() {
        let name = |text: &str| named(&text.parse().unwrap(), "0123456789ab").unwrap().to_string();
        assert_eq!(name("db"), "db-test-0123456789ab");
        let long = "x".repeat(LONGEST_NAME);
        assert!(name(&long).ends_with("x-test-0123456789ab"));
    }

    #[test]
    fn a_folder_that_a_living_test_has_cannot_be_taken() {
        let folder = tempfile::tempdir().unwrap();
        let mine = lock(folder.path()).unwrap();
        assert!(mine.is_some() && lock(folder.path()).unwrap().is_none());
        drop(mine);
        assert!(lock(folder.path()).unwrap().is_some());
    }
}
