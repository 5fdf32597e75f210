//! The pool: a folder on a filesystem with reflinks, where all images lie.
//!
//! ```text
//! strongroom-pool   which pool this is; the running driver holds a lock on it
//! reserve           space that is given away when all else is full, so that deleting works then
//! volumes/          one image per volume, named by ids of ours, never by names from outside
//! snapshots/        one image per snapshot
//! fresh/            images that are being made; emptied at every start
//! ```
//!
//! Where the given folder cannot share blocks, a pool file with XFS is made in it and mounted (`pool.img` and
//! `mounted/`). A block device is taken when it holds a pool of ours, or is proved to be blank.
//!
//! A pool is opened by one driver at a time, and never unmounted by it: its volumes may be in use.

mod medium;
mod reserve;
mod room;

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::FlockOperation;
use strongroom_model::Entropy;

use crate::core_error::CoreError;
use crate::crash;
use crate::filesystem::sync_folder_of;
use crate::limits::Limits;
use crate::requests::DriverSettings;

pub(crate) use reserve::ReserveFile;
use room::percent;
pub(crate) use room::{Fullness, Room};

const MARKER: &str = "strongroom-pool";
const MARKER_HEAD: &str = "strongroom pool 1\n";

/// How long to wait for room that is being freed, look by look.
const ROOM_COMES_BACK: [Duration; 4] = [
    Duration::from_millis(5),
    Duration::from_millis(15),
    Duration::from_millis(40),
    Duration::from_millis(80),
];

/// An open pool.
#[derive(Debug)]
pub(crate) struct Pool {
    root: PathBuf,
    /// The folder that holds the pool file, where there is one: its filesystem can fill up before the pool
    /// does.
    host: Option<PathBuf>,
    id: String,
    limits: Limits,
    reserve: ReserveFile,
    /// The lock; released when the pool is closed.
    _lock: File,
}

impl Pool {
    /// Opens the pool that `settings` name, making it when there is none. `known` is the id of the pool that
    /// the registry belongs to, if it has one.
    pub(crate) fn open(
        settings: &DriverSettings,
        known: Option<&str>,
        entropy: &dyn Entropy,
    ) -> Result<Self, CoreError> {
        let medium = medium::open(settings, known.is_some())?;
        crash::point!("pool.mounted");
        let (id, lock) = claim(&medium.root, known, entropy)?;
        for folder in ["volumes", "snapshots", "fresh"] {
            make_folder(&medium.root.join(folder))?;
        }
        let limits = settings.limits.clone();
        let wanted = limits.reserve.bytes(measure(&medium.root, medium.host.as_deref())?.total);
        let reserve = ReserveFile::new(&medium.root, wanted);
        Ok(Self { root: medium.root, host: medium.host, id, limits, reserve, _lock: lock })
    }

    /// What a driver does before it works with the pool: what was never finished goes, and the reserve is made.
    pub(crate) fn begin_afresh(&self) -> Result<(), CoreError> {
        self.empty_fresh()?;
        if let Err(error) = self.reserve.fill() {
            tracing::warn!(error = strongroom_model::chain(&error), "the pool has no room for its reserve");
        }
        Ok(())
    }

    /// The folder with the images.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// Which pool this is.
    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    /// How full it is. What the filesystem below a pool file cannot give counts as used.
    pub(crate) fn room(&self) -> Result<Room, CoreError> {
        measure(&self.root, self.host.as_deref())
    }

    /// How far it may be filled.
    pub(crate) const fn limits(&self) -> &Limits {
        &self.limits
    }

    /// What is kept back.
    pub(crate) const fn reserve(&self) -> &ReserveFile {
        &self.reserve
    }

    /// What is kept back so that deleting works when all else is full; 0 when there was no room for it.
    pub(crate) fn reserve_bytes(&self) -> u64 {
        self.reserve.held()
    }

    /// What the sizes of all volumes may add up to.
    pub(crate) fn provisionable(&self, room: Room) -> u64 {
        percent(room.total, self.limits.provision_percent)
    }

    /// Refuses `subject` when the pool is above its high-water mark.
    pub(crate) fn admit(&self, subject: &str) -> Result<Room, CoreError> {
        let mut room = self.room()?;
        let mark = room.high_water(&self.limits);
        // XFS frees the blocks of what was deleted a moment ago in the background. Who just made room is not refused.
        for pause in ROOM_COMES_BACK {
            if room.used <= mark {
                break;
            }
            std::thread::sleep(pause);
            room = self.room()?;
        }
        if room.used > mark {
            return Err(CoreError::PoolFull {
                subject: subject.to_owned(),
                reason: format!(
                    "{} of {} bytes are used, and {mark} is its high-water mark",
                    room.used, room.total
                ),
            });
        }
        Ok(room)
    }

    /// As [`Pool::admit`], for `bytes` more of volumes where `provisioned` are promised already.
    pub(crate) fn admit_volume(&self, subject: &str, provisioned: u64, bytes: u64) -> Result<(), CoreError> {
        let room = self.admit(subject)?;
        let limit = self.provisionable(room);
        if provisioned.saturating_add(bytes) > limit {
            return Err(CoreError::PoolFull {
                subject: subject.to_owned(),
                reason: format!(
                    "volumes of {provisioned} bytes are promised, {bytes} more would exceed the limit of {limit} ({} % of the pool)",
                    self.limits.provision_percent
                ),
            });
        }
        Ok(())
    }

    /// What lies here was never promised to anybody: a crash left it.
    fn empty_fresh(&self) -> Result<(), CoreError> {
        let folder = self.root.join("fresh");
        for entry in fs::read_dir(&folder).map_err(CoreError::system("listing", &folder))? {
            let path = entry.map_err(CoreError::system("listing", &folder))?.path();
            tracing::info!(path = %path.display(), "removing an image that was never finished");
            fs::remove_file(&path).map_err(CoreError::system("removing", &path))?;
        }
        Ok(())
    }
}

/// Gives a part of the reserve of a pool away that is not open yet and is a plain folder.
pub(crate) fn give_reserve_in(folder: &Path) -> bool {
    folder.join(MARKER).exists() && ReserveFile::of_unopened(folder).give()
}

fn measure(root: &Path, host: Option<&Path>) -> Result<Room, CoreError> {
    let stat = |path: &Path| {
        rustix::fs::statvfs(path)
            .map(|stat| (stat.f_blocks * stat.f_frsize, stat.f_bfree * stat.f_frsize))
            .map_err(CoreError::errno("measuring", path))
    };
    let (total, mut free) = stat(root)?;
    if let Some(host) = host {
        free = free.min(stat(host)?.1);
    }
    Ok(Room { total, used: total - free.min(total) })
}

/// Refuses a place where no pool was ever made, so that looking at it does not make one.
pub(crate) fn is_there(pool: &Path) -> Result<(), CoreError> {
    use std::os::unix::fs::FileTypeExt as _;
    let device = pool.metadata().is_ok_and(|meta| meta.file_type().is_block_device());
    if device || pool.join(MARKER).exists() || pool.join(medium::POOL_FILE).exists() {
        return Ok(());
    }
    Err(CoreError::NotFound { subject: format!("the pool {}", pool.display()) })
}

/// Makes a folder that only we may enter, if it is not there.
pub(crate) fn make_folder(path: &Path) -> Result<(), CoreError> {
    if path.is_dir() {
        return Ok(());
    }
    DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(CoreError::system("making", path))
}

/// Reads or writes the marker, and takes the lock on it.
fn claim(root: &Path, known: Option<&str>, entropy: &dyn Entropy) -> Result<(String, File), CoreError> {
    let path = root.join(MARKER);
    if !path.exists() {
        if let Some(known) = known {
            return Err(CoreError::Refused {
                subject: format!("the pool {}", root.display()),
                reason: format!(
                    "the registry belongs to the pool {known}, which is not there; is the right disk mounted?"
                ),
            });
        }
        let mut bytes = [0; 16];
        entropy.fill(&mut bytes);
        let id: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let part = root.join(".strongroom-pool.part");
        let written = || -> std::io::Result<()> {
            let mut file =
                OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&part)?;
            file.write_all(format!("{MARKER_HEAD}{id}\n").as_bytes())?;
            file.sync_all()?;
            crash::point!("pool.marking");
            fs::rename(&part, &path)
        };
        written().map_err(CoreError::system("making", &path))?;
        sync_folder_of(&path)?;
    }
    let file = File::open(&path).map_err(CoreError::system("opening", &path))?;
    rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).map_err(|_| CoreError::InUse {
        subject: format!("the pool {}", root.display()),
        holder: "another driver runs on it".to_owned(),
    })?;
    let text = fs::read_to_string(&path).map_err(CoreError::system("reading", &path))?;
    let id = text.strip_prefix(MARKER_HEAD).map(str::trim).filter(|id| !id.is_empty()).ok_or_else(|| {
        CoreError::Refused {
            subject: format!("the pool {}", root.display()),
            reason: "its marker was not written by this version of the driver".to_owned(),
        }
    })?;
    match known {
        Some(known) if known != id => Err(CoreError::Refused {
            subject: format!("the pool {}", root.display()),
            reason: format!("it is the pool {id}, and the registry belongs to the pool {known}"),
        }),
        _ => Ok((id.to_owned(), file)),
    }
}
