//! A database restored beside the live one: its base in a new volume, its log replayed there, and then it is a database of its own.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Serialize;
use strongroom_archive::DatabaseArchive;
use strongroom_console::{Console, Failed};
use strongroom_database::postgres::{Segment, history_name, segments};
use strongroom_database::{Plan, StandsOn};
use strongroom_model::{VolumeName, World, chain};
use strongroom_repository::Repository;
use strongroom_repository::store::ObjectStore;
use strongroom_settings::Choice;

use super::show::Shown;
use super::{Engine, Recovery, RecoveryError, sqlite};
use crate::driver::Driver;
use crate::hydrate::{Bounds, SYNC_BYTES};
use crate::request::{Request, TargetRequest};
use crate::restore::Restore;

/// How deep below the volume's root a data folder is looked for: an image of Docker has it at `/data/pgdata` or so.
const DEEPEST: usize = 3;

/// What a restore of a base may have in memory.
const BUDGET_BYTES: u64 = 128 << 20;

/// All that is needed.
pub(super) struct Beside {
    pub(super) repository: Repository,
    pub(super) store: Arc<dyn ObjectStore>,
    pub(super) archive: Arc<DatabaseArchive>,
    pub(super) console: Console,
    pub(super) world: World,
    pub(super) state_dir: Option<PathBuf>,
    pub(super) endpoint: Option<String>,
    pub(super) volume: VolumeName,
    pub(super) target: VolumeName,
    /// The labels of the new volume, where it is no copy to be kept.
    pub(super) labels: Option<BTreeMap<String, String>>,
    pub(super) data_directory: Option<PathBuf>,
    pub(super) programs: Option<PathBuf>,
    pub(super) work_dir: PathBuf,
}

/// What came of it.
#[derive(Debug, Serialize)]
pub(super) struct Done {
    pub(super) plan: Shown,
    pub(super) target: VolumeName,
    pub(super) data_directory: String,
    pub(super) stopped_at: Option<strongroom_database::Position>,
    pub(super) seconds: u64,
}

/// The name of the new volume when nobody says one.
pub(super) fn default_name(volume: &VolumeName) -> Result<VolumeName, RecoveryError> {
    format!("{volume}-restored").parse().map_err(|cause| RecoveryError::Name { cause })
}

impl Beside {
    pub(super) async fn run(self, plan: Plan, shown: Shown) -> Result<Done, Failed> {
        let began = self.world.clock.now();
        // Asked for before anything is fetched.
        let is_sqlite = self.archive.engine() == sqlite::ENGINE;
        let files = if is_sqlite {
            Vec::new()
        } else {
            segments(&plan, self.archive.segment_bytes()).map_err(RecoveryError::Segments)?
        };
        let driver = Driver::connect(self.endpoint.as_deref()).await?;
        self.bring_base(&plan).await?;
        let folder = Folder::make(&self.work_dir, &self.world)?;
        let mounted = folder.0.join("volume");
        driver.mount(&self.target, &mounted).await?;
        let replayed = if is_sqlite {
            sqlite::rebuild(&self.archive, &plan, &mounted, self.data_directory.as_deref()).await
        } else {
            self.replay(&plan, &files, &folder.0, &mounted).await
        };
        // In any case: a volume that stays mounted cannot be used or removed.
        let unmounted = driver.unmount(&self.target, &mounted).await;
        let (data_directory, stopped_at) = replayed?;
        unmounted?;
        let seconds = self.world.clock.now().duration_since(began).as_secs();
        Ok(Done {
            plan: shown,
            target: self.target,
            data_directory,
            stopped_at,
            seconds: u64::try_from(seconds).unwrap_or_default(),
        })
    }

    /// Puts the plan's base into the new volume.
    pub(super) async fn bring_base(&self, plan: &Plan) -> Result<(), Failed> {
        let StandsOn::Point(point) = plan.base.stands_on else { return Err(RecoveryError::NotAPoint.into()) };
        let restore = Restore {
            repository: self.repository.clone(),
            store: Arc::clone(&self.store),
            console: self.console.clone(),
            world: self.world.clone(),
            state_dir: self.state_dir.clone(),
            watch: None,
            endpoint: self.endpoint.clone(),
            bounds: Bounds {
                budget_bytes: BUDGET_BYTES,
                workers: std::thread::available_parallelism().map_or(2, usize::from),
                sync_bytes: SYNC_BYTES,
            },
        };
        let request = Request {
            volume: Some(self.volume.clone()),
            choice: Choice::Id(point.to_string()),
            target: TargetRequest::Volume {
                name: self.target.clone(),
                bytes: None,
                fs: None,
                only: None,
                labels: self.labels.clone(),
            },
            verify: None,
            keep_going: false,
            start_over: false,
        };
        let mut prepared = restore.plan(&request).await?;
        restore.execute(&mut prepared).await?;
        Ok(())
    }

    async fn replay(
        &self,
        plan: &Plan,
        files: &[Segment],
        folder: &Path,
        mounted: &Path,
    ) -> Result<(String, Option<strongroom_database::Position>), Failed> {
        let (data, recovery) = self.prepare(plan, files, folder, mounted).await?;
        let stopped_at = tokio::task::spawn_blocking(move || {
            let recovered = recovery.run()?;
            let stopped_at = recovered.stopped_at;
            recovered.promote().map(|()| stopped_at)
        });
        let stopped_at = stopped_at.await.map_err(|_| RecoveryError::Ending)??;
        let within = data.strip_prefix(mounted).unwrap_or(&data);
        Ok((format!("/{}", within.display()), stopped_at))
    }

    /// The recovery of the copy that is mounted, with all the log that it will ask for; and its data folder.
    pub(super) async fn prepare(
        &self,
        plan: &Plan,
        files: &[Segment],
        folder: &Path,
        mounted: &Path,
    ) -> Result<(PathBuf, Recovery), Failed> {
        let data = match &self.data_directory {
            Some(path) => mounted.join(path.strip_prefix("/").unwrap_or(path)),
            None => find(mounted).ok_or_else(|| RecoveryError::NotADatabase {
                data: mounted.to_owned(),
                cause: io::ErrorKind::NotFound.into(),
            })?,
        };
        let engine = Engine::of(&data, self.programs.as_deref())?;
        let recovery = Recovery::prepare(&data, &folder.join("server"), engine, plan.stop, plan.lineage)?;
        self.lay_out(plan, files, &recovery.archive()).await?;
        Ok((data, recovery))
    }

    /// Puts segments and history files where the server asks for them. Each bundle is read once.
    async fn lay_out(&self, plan: &Plan, files: &[Segment], to: &Path) -> Result<(), Failed> {
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |cause| RecoveryError::Folder { path, cause }
        };
        for (lineage, history) in self.archive.histories() {
            let path = to.join(history_name(lineage));
            fs::write(&path, history).map_err(failed(&path))?;
        }
        let bytes = self.archive.segment_bytes();
        for (number, piece) in plan.log.iter().enumerate() {
            let log = self.archive.log(&piece.range).await?;
            for segment in files {
                for part in segment.parts.iter().filter(|part| part.piece == number) {
                    let path = to.join(&segment.name);
                    let place = |position: strongroom_database::Position| {
                        usize::try_from(position.since(piece.range.from)).unwrap_or(usize::MAX)
                    };
                    // A bundle has exactly as many bytes as positions.
                    let content = log.get(place(part.from)..place(part.to));
                    let content = content.ok_or(RecoveryError::ShortLog { from: part.from, to: part.to })?;
                    put(&path, bytes, part.from.since(segment.at), content).map_err(failed(&path))?;
                }
            }
        }
        Ok(())
    }
}

fn put(path: &Path, whole: u64, at: u64, content: &[u8]) -> io::Result<()> {
    let mut file = File::options().create(true).truncate(false).write(true).open(path)?;
    file.set_len(whole)?;
    file.seek(SeekFrom::Start(at))?;
    file.write_all(content)?;
    // The server that reads it is of another user.
    file.set_permissions(std::os::unix::fs::PermissionsExt::from_mode(0o644))
}

/// The data folder in a volume: the first that has what every one has.
fn find(root: &Path) -> Option<PathBuf> {
    let mut level = vec![root.to_owned()];
    for _ in 0..=DEEPEST {
        if let Some(found) = level.iter().find(|folder| folder.join("global/pg_control").is_file()) {
            return Some(found.clone());
        }
        let below = level.iter().flat_map(|folder| fs::read_dir(folder).into_iter().flatten().flatten());
        let is_folder = |entry: &fs::DirEntry| entry.file_type().is_ok_and(|kind| kind.is_dir());
        let mut next: Vec<_> = below.filter(is_folder).map(|entry| entry.path()).take(4096).collect();
        next.sort();
        level = next;
    }
    None
}

/// A folder of ours that goes when it is not needed any more.
struct Folder(PathBuf);

impl Folder {
    fn make(below: &Path, world: &World) -> Result<Self, RecoveryError> {
        let mut random = [0; 6];
        world.entropy.fill(&mut random);
        let name: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
        let path = below.join(format!("strongroom-db-{name}"));
        let failed = |cause| RecoveryError::Folder { path: path.clone(), cause };
        fs::create_dir(&path).map_err(failed)?;
        // The server is of another user, and has to get through; what is below is private.
        fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o711)).map_err(failed)?;
        fs::create_dir(path.join("volume")).map_err(failed)?;
        Ok(Self(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // The mount point only when it is empty: never the volume's own files.
        let mounted = self.0.join("volume");
        let gone = fs::remove_dir(&mounted).and_then(|()| fs::remove_dir_all(&self.0));
        if let Err(error) = gone {
            tracing::warn!(folder = %self.0.display(), error = chain(&error), "a folder of a restore stays");
        }
    }
}
