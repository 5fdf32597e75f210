//! `strongroom db fetch-wal`: the `restore_command` of a server in recovery, such as a standby of one's own.
//!
//! It answers out of the repository alone. PostgreSQL takes every ordinary failure for "there is no more", and would end its recovery
//! there: so only what is surely not archived is answered with 1, and all else with a number above 125, with which it stops.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;
use strongroom_archive::DatabaseArchive;
use strongroom_console::{Console, Exit, Failed};
use strongroom_database::postgres::FileName;
use strongroom_model::{Failure, Remedy, World};
use strongroom_settings::open_repository_to_read;

use super::WhichArgs;

/// `strongroom db fetch-wal`
#[derive(Debug, Args)]
pub struct FetchWalArgs {
    #[command(flatten)]
    which: WhichArgs,
    /// The file that is wanted: %f
    #[arg(value_name = "NAME")]
    name: String,
    /// Where the server wants it: %p
    #[arg(value_name = "PATH")]
    path: PathBuf,
}

/// Why a server did not get a file.
#[derive(Debug, thiserror::Error)]
pub(super) enum FetchWalError {
    #[error("{name} is not archived")]
    NotThere { name: String },
    #[error("the log of a {engine} database has no such files")]
    Engine { engine: String },
    #[error("writing {}", path.display())]
    Write {
        path: PathBuf,
        #[source]
        cause: io::Error,
    },
}

impl Failure for FetchWalError {
    fn code(&self) -> &'static str {
        match self {
            Self::NotThere { .. } => "fetch-wal.not-there",
            Self::Engine { .. } => "fetch-wal.engine",
            Self::Write { .. } => "fetch-wal.write",
        }
    }

    fn remedy(&self) -> Remedy {
        match self {
            Self::NotThere { .. } => Remedy::Wait,
            Self::Engine { .. } => Remedy::FixRequest,
            Self::Write { .. } => Remedy::FixSurroundings,
        }
    }

    fn advice(&self) -> String {
        match self {
            Self::NotThere { .. } => "A standby asks again by itself. A segment is given when all of it is archived; `strongroom db list` shows how far the log goes.".into(),
            Self::Engine { .. } => "This is for PostgreSQL: name its volume.".into(),
            Self::Write { .. } => "Check the disk and the rights of the server's folder; use %p as the last word of restore_command.".into(),
        }
    }
}

#[derive(Debug, Serialize)]
struct Fetched<'a> {
    file: &'a str,
    bytes: usize,
}

impl FetchWalArgs {
    /// Carries the command out.
    pub(super) async fn run(&self, console: &Console, world: &World) -> Result<Exit, Failed> {
        let found = match self.fetch(world).await {
            Ok(Some(bytes)) => write(&self.path, &bytes).map(|()| bytes.len()).map_err(Failed::from),
            Ok(None) => {
                let error = FetchWalError::NotThere { name: self.name.clone() };
                return Err(Failed::with_exit(error, Exit::FAILED));
            }
            Err(failed) => Err(failed),
        };
        let bytes = found.map_err(|failed| failed.exiting(Exit::StopRecovery))?;
        console.result(&Fetched { file: &self.name, bytes }, |_| {});
        Ok(Exit::Done)
    }

    async fn fetch(&self, world: &World) -> Result<Option<Vec<u8>>, Failed> {
        let kind = FileName::parse(&self.name);
        if !matches!(kind, Some(FileName::Segment { .. } | FileName::History(_))) {
            return Ok(None);
        }
        let settings = self.which.repository.resolve()?;
        let repository = open_repository_to_read(&settings, world).await?.repository;
        let fold = repository.fold().await?;
        let name = DatabaseArchive::choose(&fold, &self.which.volume, self.which.database.as_deref())?;
        let archive = DatabaseArchive::open(&repository, &fold, &name).await?;
        if archive.engine() != "postgresql" {
            return Err(FetchWalError::Engine { engine: archive.engine().to_owned() }.into());
        }
        match kind {
            Some(FileName::History(timeline)) => {
                let mut histories = archive.histories();
                let found = histories.find(|(lineage, _)| *lineage == timeline);
                Ok(found.map(|(_, history)| history.as_bytes().to_vec()))
            }
            Some(FileName::Segment { timeline, .. }) => {
                let at = kind.and_then(|kind| kind.position(archive.segment_bytes()));
                match at {
                    Some(at) => Ok(archive.segment(timeline, at).await?),
                    None => Ok(None),
                }
            }
            _ => Ok(None),
        }
    }
}

/// All of it, or no file: the server reads what is there.
fn write(path: &Path, bytes: &[u8]) -> Result<(), FetchWalError> {
    let written = (|| {
        let mut file: File = OpenOptions::new().create(true).truncate(true).write(true).open(path)?;
        file.write_all(bytes)?;
        file.sync_all()
    })();
    written.map_err(|cause| {
        let _ = std::fs::remove_file(path);
        FetchWalError::Write { path: path.to_owned(), cause }
    })
}
