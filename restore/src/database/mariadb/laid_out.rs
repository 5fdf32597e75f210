//! The archived log of a plan as files on disk, as the server wrote them.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use strongroom_archive::{ArchiveError, DatabaseArchive};
use strongroom_console::Failed;
use strongroom_database::mariadb::{GtidState, LogReader, Replay, ReplayScan, file, offset, place};
use strongroom_database::{Plan, Position};

use super::ReplayError;

/// What is read of a file at once.
const READ_BYTES: usize = 1 << 20;

/// Files of the binary log.
#[derive(Debug, Clone)]
pub(super) struct LaidOut {
    folder: PathBuf,
    log_name: String,
    numbers: BTreeSet<u32>,
}

impl LaidOut {
    /// Fetches them, from the first of the plan's base on. Each bundle is read once.
    pub(super) async fn of(
        archive: &DatabaseArchive,
        plan: &Plan,
        folder: &Path,
        log_name: &str,
    ) -> Result<Self, Failed> {
        let mut laid_out =
            Self { folder: folder.to_owned(), log_name: log_name.to_owned(), numbers: BTreeSet::new() };
        for piece in &plan.log {
            let log = archive.log(&piece.range).await?;
            let (from, to) = (piece.range.from, piece.range.to);
            let parts = from.split(to, log.len()).ok_or(ReplayError::Damaged { from, to })?;
            for (at, part) in parts.into_iter().filter(|(at, _)| file(*at) >= file(plan.base.start)) {
                laid_out.put(at, &log[part])?;
            }
        }
        Ok(laid_out)
    }

    fn path(&self, number: u32) -> PathBuf {
        self.folder.join(format!("{}.{number:06}", self.log_name))
    }

    fn put(&mut self, at: Position, bytes: &[u8]) -> Result<(), ReplayError> {
        let path = self.path(file(at));
        let write = || {
            let mut file = File::options().create(true).truncate(false).write(true).open(&path)?;
            file.seek(SeekFrom::Start(offset(at).into()))?;
            file.write_all(bytes)?;
            // The programs are of another user.
            file.set_permissions(fs::Permissions::from_mode(0o644))
        };
        write().map_err(|cause| ReplayError::Folder { path: path.clone(), cause })?;
        self.numbers.insert(file(at));
        Ok(())
    }

    /// The files with these numbers, in their order.
    pub(super) fn files(&self, from: u32, to: u32) -> impl Iterator<Item = PathBuf> {
        self.numbers.range(from..=to).map(|number| self.path(*number))
    }

    /// Which transactions of it are replayed on a copy that has these; `None`: it has what lies before the end of the base.
    pub(super) fn scan(&self, has: Option<GtidState>, plan: &Plan) -> Result<Replay, ReplayError> {
        let mut scan = match has {
            Some(has) => ReplayScan::behind(has, plan.cut),
            None => ReplayScan::from(plan.base.end, plan.cut),
        };
        let first = self.numbers.first().copied().unwrap_or_else(|| file(plan.base.end));
        let mut reader = LogReader::new(place(first, 0));
        for number in &self.numbers {
            let path = self.path(*number);
            let failed = |cause: io::Error| ReplayError::Folder { path: path.clone(), cause };
            let mut content = File::open(&path).map_err(failed)?;
            let mut at = place(*number, 0);
            let mut bytes = vec![0; READ_BYTES];
            loop {
                let read = content.read(&mut bytes).map_err(failed)?;
                if read == 0 {
                    break;
                }
                let read = reader.push(at, &bytes[..read], |event| {
                    scan.event(event);
                    Ok(())
                });
                read.map_err(ReplayError::Log)?;
                at = reader.position();
            }
        }
        Ok(scan.finish()?)
    }
}

impl From<ArchiveError> for ReplayError {
    fn from(cause: ArchiveError) -> Self {
        Self::Archive(cause)
    }
}
