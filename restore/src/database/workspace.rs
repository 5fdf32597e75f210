//! A folder below `--work-dir` for one command: where the copy is mounted, where its server has socket, log and archive.
//!
//! ```text
//! strongroom-db-XXXX/lock          held as long as its command lives
//! strongroom-db-XXXX/volume        where the copy is mounted
//! strongroom-db-XXXX/server        socket, log and archive of its server
//! strongroom-db-XXXX/session.json  what is to be put away, whoever does it
//! ```
//! A command that was killed leaves its folder, a mount, perhaps a server and a volume that nobody wants. The next one finds the lock
//! free, and puts all of it away before it begins.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::FlockOperation;
use serde::{Deserialize, Serialize};
use strongroom_console::Failed;
use strongroom_model::{VolumeName, World, chain};

use super::RecoveryError;
use super::leftovers::end_servers;
use crate::driver::Driver;

const PREFIX: &str = "strongroom-db-";

/// What a command uses, so that another can put it away.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Session {
    /// The volume that is mounted there.
    volume: String,
    /// It was made for this command alone.
    temporary: bool,
}

/// The folder of a command.
#[derive(Debug)]
pub(super) struct Workspace {
    path: PathBuf,
    session: Session,
    /// Until this is closed, nobody takes the folder for abandoned.
    _lock: File,
}

fn failed(path: &Path) -> impl FnOnce(io::Error) -> RecoveryError + '_ {
    move |cause| RecoveryError::Folder { path: path.to_owned(), cause }
}

impl Workspace {
    /// Makes one for a copy in this volume. A `temporary` volume is nobody's but this command's.
    pub(super) fn make(
        below: &Path,
        volume: &VolumeName,
        temporary: bool,
        world: &World,
    ) -> Result<Self, RecoveryError> {
        // As the machine itself calls it, when it says where a server runs.
        let below = fs::canonicalize(below).map_err(failed(below))?;
        let path = below.join(format!("{PREFIX}{}", short_name(world)));
        fs::create_dir(&path).map_err(failed(&path))?;
        // The server is of another user, and has to get through; what is below is private.
        fs::set_permissions(&path, fs::Permissions::from_mode(0o711)).map_err(failed(&path))?;
        let lock = File::create(path.join("lock")).map_err(failed(&path))?;
        rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive)
            .map_err(|errno| failed(&path)(errno.into()))?;
        fs::create_dir(path.join("volume")).map_err(failed(&path))?;
        let session = Session { volume: volume.to_string(), temporary };
        let made = Self { path, session, _lock: lock };
        made.note()?;
        Ok(made)
    }

    fn note(&self) -> Result<(), RecoveryError> {
        let path = self.path.join("session.json");
        let text = serde_json::to_vec(&self.session).unwrap_or_default();
        fs::write(&path, text).map_err(failed(&path))
    }

    /// Where the copy is mounted.
    pub(super) fn volume(&self) -> PathBuf {
        self.path.join("volume")
    }

    /// Where its server works.
    pub(super) fn server(&self) -> PathBuf {
        self.path.join("server")
    }

    /// The volume is kept.
    pub(super) fn stays(&mut self) -> Result<(), RecoveryError> {
        self.session.temporary = false;
        self.note()
    }

    pub(super) const fn is_temporary(&self) -> bool {
        self.session.temporary
    }
}

impl Drop for Workspace {
    fn drop(&mut self) {
        remove(&self.path);
    }
}

/// Removes the folder, if nothing is mounted in it: never the volume's own files.
fn remove(path: &Path) {
    let gone = match fs::remove_dir(path.join("volume")) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => fs::remove_dir_all(path),
    };
    if let Err(error) = gone {
        tracing::warn!(folder = %path.display(), error = chain(&error), "a folder of a restore stays");
    }
}

/// A few digits that no other has.
pub(super) fn short_name(world: &World) -> String {
    let mut random = [0; 6];
    world.entropy.fill(&mut random);
    random.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Puts away what killed commands have left below a folder. What cannot be put away is named, and hinders nobody.
pub(super) async fn sweep(below: &Path, driver: &Driver) {
    let Ok(entries) = fs::read_dir(below) else { return };
    let ours = |entry: &fs::DirEntry| entry.file_name().to_string_lossy().starts_with(PREFIX);
    for entry in entries.flatten().filter(ours) {
        let path = entry.path();
        let Ok(lock) = File::open(path.join("lock")) else { continue };
        if rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() {
            continue;
        }
        if let Err(error) = put_away(&path, driver).await {
            let why = error.to_string();
            tracing::warn!(folder = %path.display(), error = why, "what a killed command left stays");
        } else {
            tracing::info!(folder = %path.display(), "put away what a killed command had left");
        }
    }
}

async fn put_away(path: &Path, driver: &Driver) -> Result<(), Failed> {
    let text = fs::read(path.join("session.json")).unwrap_or_default();
    if let Ok(session) = serde_json::from_slice::<Session>(&text) {
        let mounted = path.join("volume");
        let below = path.to_owned();
        let ending = tokio::task::spawn_blocking(move || end_servers(&below));
        ending.await.map_err(|_| RecoveryError::Ending)?;
        if let Ok(name) = session.volume.parse::<VolumeName>() {
            let volume = driver.volume_named(&name).await?;
            let is_there = |volume: &strongroom_proto::control::Volume| {
                volume.mounts.iter().any(|mount| Path::new(&mount.path) == mounted)
            };
            if volume.as_ref().is_some_and(is_there) {
                driver.unmount(&name, &mounted).await?;
            }
            if session.temporary {
                driver.remove_with_snapshots(&name).await?;
            }
        }
    }
    remove(path);
    Ok(())
}
