//! The archived log of a plan as files on disk, as the server wrote them.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use strongroom_archive::{ArchiveError, DatabaseArchive};
use strongroom_console::Failed;
use strongroom_database::mariadb::{
    FIRST_EVENT, HEADER_BYTES, LogReader, Replay, ReplayScan, file, offset, place,
};
use strongroom_database::{Plan, Position};

use super::ReplayError;

/// What is read of a file at once.
const READ_BYTES: usize = 1 << 20;

/// Where a file says when its server was started: behind the magic, a header, the format's version and the server's.
const STARTED_AT: u64 = FIRST_EVENT as u64 + HEADER_BYTES as u64 + 2 + 50;

/// Files of the binary log in a folder.
#[derive(Debug, Clone)]
pub struct LaidOutLog {
    folder: PathBuf,
    log_name: String,
    numbers: BTreeSet<u32>,
    /// The stretches that are there.
    stretches: BTreeSet<(Position, Position)>,
}

impl LaidOutLog {
    pub(super) fn new(folder: PathBuf, log_name: String) -> Self {
        Self { folder, log_name, numbers: BTreeSet::new(), stretches: BTreeSet::new() }
    }

    /// Fetches what a plan needs and is not there yet, from the first file of the plan's base on. Each bundle is read once.
    pub(in super::super) async fn fetch(
        &mut self,
        archive: &DatabaseArchive,
        plan: &Plan,
    ) -> Result<(), Failed> {
        for piece in &plan.log {
            let (from, to) = (piece.range.from, piece.range.to);
            if self.stretches.contains(&(from, to)) {
                continue;
            }
            let log = archive.log(&piece.range).await?;
            self.put_stretch(from, to, &log, plan.base.start)?;
        }
        Ok(())
    }

    /// Puts the bytes of a stretch of log to where they belong, from the file on in which the log of a base begins. What is there
    /// already is not put there again.
    ///
    /// # Errors
    /// When the bytes are not those of such a stretch, or the disk fails.
    pub fn put_stretch(
        &mut self,
        from: Position,
        to: Position,
        log: &[u8],
        base: Position,
    ) -> Result<(), ReplayError> {
        if !self.stretches.insert((from, to)) {
            return Ok(());
        }
        let parts = from.split(to, log.len()).ok_or(ReplayError::Damaged { from, to })?;
        for (at, part) in parts.into_iter().filter(|(at, _)| file(*at) >= file(base)) {
            self.put(at, &log[part])?;
        }
        Ok(())
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

    /// The files from one to another, in their order, apart where the server was started in between: there its sessions ended.
    pub(super) fn lives(&self, from: u32, to: u32) -> Result<Vec<Vec<PathBuf>>, ReplayError> {
        let mut lives: Vec<Vec<PathBuf>> = Vec::new();
        for number in self.numbers.range(from..=to) {
            let path = self.path(*number);
            let began =
                begins_a_life(&path).map_err(|cause| ReplayError::Folder { path: path.clone(), cause })?;
            match lives.last_mut().filter(|_| !began) {
                Some(life) => life.push(path),
                None => lives.push(vec![path]),
            }
        }
        Ok(lives)
    }

    /// What of it is replayed. Read from `from` on, which lies between two transactions; without it, from the first file on, or
    /// from that of `first` where there is none.
    pub(super) fn scan(
        &self,
        mut scan: ReplayScan,
        from: Option<Position>,
        first: Position,
    ) -> Result<Replay, ReplayError> {
        let first = from.map_or_else(|| self.numbers.first().copied().unwrap_or_else(|| file(first)), file);
        let begin = from.unwrap_or_else(|| place(first, 0));
        let mut reader = LogReader::new(begin);
        for number in self.numbers.range(first..) {
            let skip = if *number == first { offset(begin) } else { 0 };
            self.read(&mut reader, *number, skip, &mut scan)?;
        }
        Ok(scan.finish()?)
    }

    fn read(
        &self,
        reader: &mut LogReader,
        number: u32,
        skip: u32,
        scan: &mut ReplayScan,
    ) -> Result<(), ReplayError> {
        let path = self.path(number);
        let failed = |cause: io::Error| ReplayError::Folder { path: path.clone(), cause };
        let mut content = File::open(&path).map_err(failed)?;
        content.seek(SeekFrom::Start(skip.into())).map_err(failed)?;
        let mut at = place(number, skip);
        let mut bytes = vec![0; READ_BYTES];
        loop {
            let read = content.read(&mut bytes).map_err(failed)?;
            if read == 0 {
                return Ok(());
            }
            let read = reader.push(at, &bytes[..read], |event| {
                scan.event(event);
                Ok(())
            });
            read.map_err(ReplayError::Log)?;
            at = reader.position();
        }
    }
}

/// Whether a file is the first that a server wrote since it was started: its description says when that was.
fn begins_a_life(path: &Path) -> io::Result<bool> {
    let mut file = File::open(path)?;
    file.seek(SeekFrom::Start(STARTED_AT))?;
    let mut started = [0; 4];
    match file.read_exact(&mut started) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
        Ok(()) => Ok(started != [0; 4]),
    }
}

impl From<ArchiveError> for ReplayError {
    fn from(cause: ArchiveError) -> Self {
        Self::Archive(cause)
    }
}
