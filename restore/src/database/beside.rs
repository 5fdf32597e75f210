//! A database restored beside the live one: its base in a new volume, its log replayed there, and then it is a database of its own.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Serialize;
use strongroom_archive::DatabaseArchive;
use strongroom_console::{Console, Failed};
use strongroom_database::postgres::{Part, Segment, history_name, segments};
use strongroom_database::{Plan, Position, StandsOn};
use strongroom_model::{RecoveryPointId, RunId, VolumeName, World};
use strongroom_proto::control::{BeginRestoreRequest, VolumeState};
use strongroom_repository::store::ObjectStore;
use strongroom_repository::{Repository, Source};
use strongroom_settings::Choice;
use tokio_util::sync::CancellationToken;

use super::copy::{self, Asking, DatabaseCopy, Place};
use super::mark::{Mark, Purpose};
use super::show::Shown;
use super::workspace::{Workspace, sweep};
use super::{Engine, Recovery, RecoveryError, mariadb, sqlite};
use crate::driver::{Driver, IDENTITY, Labels, POINT, RUN, fs_of_word};
use crate::hydrate::{Bounds, SYNC_BYTES};
use crate::refusal::Refusal;
use crate::request::{Request, TargetRequest};
use crate::restore::Restore;

/// How deep below the volume's root a data folder is looked for: an image of Docker has it at `/data/pgdata` or so.
const DEEPEST: usize = 3;

/// Every data folder of PostgreSQL has it, and no other.
pub(super) const POSTGRES_MARK: &str = "global/pg_control";

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
    pub(super) labels: Option<Labels>,
    pub(super) data_directory: Option<PathBuf>,
    pub(super) programs: Option<PathBuf>,
    pub(super) work_dir: PathBuf,
    /// What the copy is for; `None`: it is there for a while only, and nobody's but the command's.
    pub(super) purpose: Option<Purpose>,
    pub(super) given_up: CancellationToken,
}

/// What of the log lies where the server asks for it: what is there is not fetched again.
#[derive(Debug, Default)]
pub(super) struct Laid(BTreeSet<(String, Position, Position)>);

/// The labels of a volume that is there for a while only.
pub(super) fn temporary_labels(volume: &VolumeName) -> Labels {
    Labels::from([(strongroom_proto::TEMPORARY_LABEL.to_owned(), volume.to_string())])
}

/// What came of it.
#[derive(Debug, Serialize)]
pub(super) struct Done {
    pub(super) plan: Shown,
    pub(super) target: VolumeName,
    pub(super) data_directory: String,
    pub(super) stopped_at: Option<Position>,
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
        let is_mariadb = self.archive.engine() == mariadb::ENGINE;
        let files = if is_sqlite || is_mariadb {
            Vec::new()
        } else {
            segments(&plan, self.archive.segment_bytes()).map_err(RecoveryError::Segments)?
        };
        let driver = Driver::connect(self.endpoint.as_deref()).await?;
        sweep(&self.work_dir, &driver).await;
        let begun = self.begun(&driver, &plan).await?;
        if !begun {
            tokio::select! {
                brought = self.clone_or_bring_base(&driver, &plan) => brought?,
                () = self.given_up.cancelled() => return Err(RecoveryError::Ending.into()),
            }
        }
        let workspace = Workspace::make(&self.work_dir, &self.target, false, &self.world)?;
        let mounted = workspace.volume();
        driver.mount(&self.target, &mounted).await?;
        let replayed = if begun && (is_sqlite || is_mariadb) {
            Err(Refusal::VolumeExists { name: self.target.clone() }.into())
        } else if is_sqlite {
            self.rebuild_sqlite(&plan, &workspace).await
        } else if is_mariadb {
            self.replay_mariadb(&plan, &workspace).await
        } else {
            self.replay(&plan, &files, &workspace, begun).await
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

    /// Whether the volume is there, and an earlier run may have been killed while it replayed: then it is gone on with.
    async fn begun(&self, driver: &Driver, plan: &Plan) -> Result<bool, Failed> {
        let StandsOn::Point(point) = plan.base.stands_on else { return Ok(false) };
        let Some(found) = driver.volume_named(&self.target).await? else { return Ok(false) };
        let same = found.labels.get(POINT).is_some_and(|of| *of == point.to_string());
        Ok(found.state() == VolumeState::Ready && same && found.mounts.is_empty())
    }

    /// Puts the plan's base into the new volume: from the snapshot that it was taken from, where the pool still keeps it, and
    /// then nothing is fetched; else from the repository.
    pub(super) async fn clone_or_bring_base(&self, driver: &Driver, plan: &Plan) -> Result<(), Failed> {
        let StandsOn::Point(point) = plan.base.stands_on else { return Err(RecoveryError::NotAPoint.into()) };
        if self.clone_snapshot(driver, point).await? { Ok(()) } else { self.bring_base(plan).await }
    }

    /// Puts the plan's base into the new volume, out of the repository.
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

    /// Clones the snapshot that a point was taken from. `false`: it is not kept here any more.
    async fn clone_snapshot(&self, driver: &Driver, id: RecoveryPointId) -> Result<bool, Failed> {
        let fold = self.repository.fold().await?;
        let Some(point) = fold.points.get(&id) else { return Ok(false) };
        let Source::Driver { volume: owner, snapshot, .. } = &point.info.source else { return Ok(false) };
        let snapshot = snapshot.to_string();
        let kept = driver.snapshots(None).await?;
        let Some(kept) = kept.iter().find(|kept| kept.id == snapshot && kept.volume_id == owner.to_string())
        else {
            return Ok(false);
        };
        let existing = driver.volume_named(&self.target).await?;
        if existing.is_some_and(|found| found.state() != VolumeState::Hydrating || found.made_from != kept.id)
        {
            // Whatever it is: the way through the repository knows what to say to it.
            return Ok(false);
        }
        let labels = self.labels.clone().unwrap_or_else(|| {
            let mut labels = point.info.labels.clone();
            labels.retain(|name, _| !name.starts_with("strongroom.restore."));
            let run = RunId::random(&*self.world.entropy);
            labels.extend([
                (RUN.to_owned(), run.to_string()),
                (POINT.to_owned(), id.to_string()),
                (IDENTITY.to_owned(), owner.to_string()),
            ]);
            labels
        });
        let begun = driver
            .begin_restore(BeginRestoreRequest {
                name: self.target.to_string(),
                fs: fs_of_word(point.info.fs.as_deref().unwrap_or("block")).into(),
                bytes: point.info.volume_bytes,
                labels: labels.into_iter().collect(),
                from_snapshot_id: kept.id.clone(),
                ..BeginRestoreRequest::default()
            })
            .await?;
        driver.finish_restore(&begun.volume_id).await?;
        self.console.talk(format_args!(
            "The base is a clone of {}, which is kept here: nothing is fetched.",
            kept.id
        ));
        Ok(true)
    }

    async fn replay(
        &self,
        plan: &Plan,
        files: &[Segment],
        workspace: &Workspace,
        begun: bool,
    ) -> Result<(String, Option<Position>), Failed> {
        let mounted = &workspace.volume();
        let data = data_folder(mounted, self.data_directory.as_deref())?;
        let failed = |cause| RecoveryError::Folder { path: data.clone(), cause };
        let can_go_on = Mark::of(&data).map_err(failed)?.is_some_and(|mark| mark.can_go_on());
        if begun && !(can_go_on && data.join("recovery.signal").exists()) {
            return Err(Refusal::VolumeExists { name: self.target.clone() }.into());
        }
        let engine = Engine::of(&data, self.programs.as_deref())?;
        let recovery = Recovery::prepare(&data, &workspace.server(), engine, plan.stop, plan.lineage)?;
        let purpose = self.purpose.unwrap_or(Purpose::Clone);
        Mark::new(purpose, self.archive.database(), &self.volume, plan.lineage, plan.cut)
            .hold(&data)
            .map_err(failed)?;
        let to = recovery.archive();
        lay_out(&self.archive, plan, files, &to, &mut Laid::default(), &self.given_up).await?;
        let recovery = recovery.until(self.given_up.clone());
        let stopped_at = tokio::task::spawn_blocking(move || {
            let recovered = recovery.run()?;
            let stopped_at = recovered.stopped_at;
            recovered.promote().map(|()| stopped_at)
        });
        let stopped_at = stopped_at.await.map_err(|_| RecoveryError::Ending)??;
        let within = data.strip_prefix(mounted).unwrap_or(&data);
        Ok((format!("/{}", within.display()), stopped_at))
    }

    async fn rebuild_sqlite(
        &self,
        plan: &Plan,
        workspace: &Workspace,
    ) -> Result<(String, Option<Position>), Failed> {
        let mounted = workspace.volume();
        // Nobody logs in to a file.
        let asking = Asking { role: String::new(), database: None };
        let mut copy = self.copy(mounted.clone(), workspace.server(), asking, self.given_up.clone())?;
        let file = copy.take_up(plan).await?;
        let stopped_at = copy.go_to(plan).await?;
        copy.check().await?;
        let purpose = self.purpose.unwrap_or(Purpose::Clone);
        copy.keep(Mark::new(purpose, self.archive.database(), &self.volume, plan.lineage, plan.cut)).await?;
        let within = file.strip_prefix(&mounted).unwrap_or(&file);
        Ok((format!("/{}", within.display()), stopped_at))
    }

    async fn replay_mariadb(
        &self,
        plan: &Plan,
        workspace: &Workspace,
    ) -> Result<(String, Option<Position>), Failed> {
        let mounted = &workspace.volume();
        let data = folder_with(mariadb::MARK, mounted, self.data_directory.as_deref())?;
        let (work, programs) = (workspace.server(), self.programs.as_deref());
        let replaying = mariadb::replay(&self.archive, plan, &data, &work, programs, &self.given_up);
        let stopped_at = replaying.await?;
        // It says that the restore is finished.
        let purpose = self.purpose.unwrap_or(Purpose::Clone);
        Mark::new(purpose, self.archive.database(), &self.volume, plan.lineage, plan.cut)
            .of_mariadb()
            .hold(&data)
            .map_err(|cause| RecoveryError::Folder { path: data.clone(), cause })?;
        let within = data.strip_prefix(mounted).unwrap_or(&data);
        Ok((format!("/{}", within.display()), Some(stopped_at)))
    }

    /// The copy in the new volume, once that is mounted.
    pub(super) fn copy(
        &self,
        mounted: PathBuf,
        server: PathBuf,
        asking: Asking,
        given_up: CancellationToken,
    ) -> Result<Box<dyn DatabaseCopy>, Failed> {
        let (data_directory, programs) = (self.data_directory.clone(), self.programs.clone());
        let place = Place { mounted, server, data_directory, programs, asking, given_up };
        copy::open(&self.archive, place)
    }
}

/// Puts segments and history files where the server asks for them. Each bundle is read once.
pub(super) async fn lay_out(
    archive: &DatabaseArchive,
    plan: &Plan,
    files: &[Segment],
    to: &Path,
    laid: &mut Laid,
    given_up: &CancellationToken,
) -> Result<(), Failed> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |cause| RecoveryError::Folder { path, cause }
    };
    for (lineage, history) in archive.histories() {
        let path = to.join(history_name(lineage));
        fs::write(&path, history).map_err(failed(&path))?;
    }
    let bytes = archive.segment_bytes();
    for (number, piece) in plan.log.iter().enumerate() {
        if given_up.is_cancelled() {
            return Err(RecoveryError::Ending.into());
        }
        if is_laid(files, number, laid) {
            continue;
        }
        let log = archive.log(&piece.range).await?;
        for segment in files {
            for part in segment.parts.iter().filter(|part| part.piece == number) {
                let path = to.join(&segment.name);
                let place = |position: Position| {
                    usize::try_from(position.since(piece.range.from)).unwrap_or(usize::MAX)
                };
                // A bundle has exactly as many bytes as positions.
                let content = log.get(place(part.from)..place(part.to));
                let content = content.ok_or(RecoveryError::ShortLog { from: part.from, to: part.to })?;
                put(&path, bytes, part.from.since(segment.at), content).map_err(failed(&path))?;
                laid.0.insert((segment.name.clone(), part.from, part.to));
            }
        }
    }
    Ok(())
}

/// Whether all that the segments take from a piece of the log is there.
fn is_laid(files: &[Segment], number: usize, laid: &Laid) -> bool {
    let is_there = |segment: &Segment, part: &Part| {
        part.piece != number || laid.0.contains(&(segment.name.clone(), part.from, part.to))
    };
    files.iter().all(|segment| segment.parts.iter().all(|part| is_there(segment, part)))
}

fn put(path: &Path, whole: u64, at: u64, content: &[u8]) -> io::Result<()> {
    let mut file = File::options().create(true).truncate(false).write(true).open(path)?;
    file.set_len(whole)?;
    file.seek(SeekFrom::Start(at))?;
    file.write_all(content)?;
    // The server that reads it is of another user.
    file.set_permissions(std::os::unix::fs::PermissionsExt::from_mode(0o644))
}

/// The data folder of PostgreSQL in a mounted volume: the one that was told, or that is found.
pub(super) fn data_folder(mounted: &Path, told: Option<&Path>) -> Result<PathBuf, RecoveryError> {
    folder_with(POSTGRES_MARK, mounted, told)
}

/// The same of an engine all of whose data folders have this file.
pub(super) fn folder_with(mark: &str, mounted: &Path, told: Option<&Path>) -> Result<PathBuf, RecoveryError> {
    let missing =
        || RecoveryError::NotADatabase { data: mounted.to_owned(), cause: io::ErrorKind::NotFound.into() };
    told.map_or_else(
        || find(mounted, mark).ok_or_else(missing),
        |path| Ok(mounted.join(path.strip_prefix("/").unwrap_or(path))),
    )
}

/// The data folder in a volume: the first that has what every one has.
fn find(root: &Path, mark: &str) -> Option<PathBuf> {
    let mut level = vec![root.to_owned()];
    for _ in 0..=DEEPEST {
        if let Some(found) = level.iter().find(|folder| folder.join(mark).is_file()) {
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
