//! The server's side: what `archive_command` does with one file.

use std::fs::{File, FileTimes, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use strongroom_database::postgres::{FileName, history_name};

use super::note::Note;
use super::segment::{check, each_step, hash, open_plain};
use super::{HandoverError, MOST_HISTORY_BYTES, is_taken_from};

/// How long an agent that is being started again is waited for.
const PATIENCE: Duration = Duration::from_secs(5);

/// How a file was handed over. In each case the server may forget it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Given {
    /// It is durable in the folder.
    Kept,
    /// The very same was handed over before.
    Known,
    /// No restore needs it: what is in it comes in another file, or nowhere matters.
    NotNeeded,
    /// The agent let go of this part of the log: the server kept as much as it may.
    LetGo,
}

/// Hands over the file at `path`, which the server calls by its name.
///
/// # Errors
/// When it is not durable in the folder, or not what it should be; the server keeps it then and tries again.
pub fn give(path: &Path, folder: &Path) -> Result<Given, HandoverError> {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
    let kind = FileName::parse(&name).ok_or_else(|| HandoverError::NoName { name: name.clone() })?;
    let note = listening(folder)?;
    match kind {
        FileName::Segment { timeline, .. } => {
            // A server that was promoted with its archiving off never hands over how its timeline came about: whoever
            // takes the first segment of it wants to know.
            let history = path.with_file_name(history_name(timeline));
            if history.exists() {
                give_history(&history, folder)?;
            }
            give_segment(path, &name, folder, &note)
        }
        FileName::History(_) => give_history(path, folder),
        // What a timeline left in a segment that was not filled comes in the first segment of the next one, up to the fork.
        FileName::Partial | FileName::Label => Ok(Given::NotNeeded),
    }
}

/// What the agent says, once there is one.
fn listening(folder: &Path) -> Result<Note, HandoverError> {
    let since = Instant::now();
    loop {
        if is_taken_from(folder)
            && let Some(note) = Note::read(folder)
        {
            return Ok(note);
        }
        if since.elapsed() >= PATIENCE {
            return Err(HandoverError::NoAgent { folder: folder.to_owned() });
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn give_segment(path: &Path, name: &str, folder: &Path, note: &Note) -> Result<Given, HandoverError> {
    let mut file = File::open(path).map_err(HandoverError::file(path))?;
    let (_, at) = check(&mut file, path, name, (note.system, note.segment_bytes))?;
    let there = folder.join(name);
    let waiting = match open_plain(&there) {
        Ok(mut waiting) => Some(hash(&mut waiting, &there)?),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(cause) => return Err(HandoverError::File { path: there, cause }),
    };
    if let Some(known) = waiting.as_deref().or_else(|| note.hash_of(name)) {
        return if hash(&mut file, path)? == known {
            // Whoever put it there may not have lived to see it durable.
            File::open(folder).and_then(|folder| folder.sync_all()).map_err(HandoverError::file(folder))?;
            Ok(Given::Known)
        } else {
            Err(HandoverError::Differs { name: name.to_owned() })
        };
    }
    if at.plus(note.segment_bytes) <= note.let_go {
        return Ok(Given::LetGo);
    }
    let bytes = waiting_bytes(folder)?;
    // What is taken next is let in: without it nothing there ever gets less.
    let is_wanted = !note.wanted.is_empty() && name.get(8..) <= note.wanted.get(8..);
    if bytes >= note.limit_bytes && !is_wanted {
        return Err(HandoverError::Full { folder: folder.to_owned(), bytes });
    }
    put(&mut file, path, &there, note.segment_bytes)?;
    Ok(Given::Kept)
}

fn give_history(path: &Path, folder: &Path) -> Result<Given, HandoverError> {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
    let read = |path: &Path, file: File| {
        let mut bytes = Vec::new();
        file.take(MOST_HISTORY_BYTES).read_to_end(&mut bytes).map_err(HandoverError::file(path))?;
        Ok(bytes)
    };
    let ours = read(path, File::open(path).map_err(HandoverError::file(path))?)?;
    let there = folder.join(&name);
    match open_plain(&there) {
        Ok(file) => {
            if read(&there, file)? == ours {
                Ok(Given::Known)
            } else {
                Err(HandoverError::Differs { name })
            }
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            put(&mut ours.as_slice(), path, &there, MOST_HISTORY_BYTES)?;
            Ok(Given::Kept)
        }
        Err(cause) => Err(HandoverError::File { path: there, cause }),
    }
}

/// What waits in the folder.
fn waiting_bytes(folder: &Path) -> Result<u64, HandoverError> {
    let entries = std::fs::read_dir(folder).map_err(HandoverError::file(folder))?;
    let sizes = entries.flatten().filter(|entry| {
        let name = entry.file_name();
        name.to_str().and_then(FileName::parse).is_some_and(|name| matches!(name, FileName::Segment { .. }))
    });
    Ok(sizes.filter_map(|entry| Some(entry.metadata().ok()?.len())).sum())
}

/// Writes all of `from` under a name that it gets only when it is durable, with the time at which the server wrote to it last.
fn put(from: &mut impl io::Read, path: &Path, there: &Path, most: u64) -> Result<(), HandoverError> {
    let name = there.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let fresh = there.with_file_name(format!(".{name}.{}", std::process::id()));
    let written = write(from, path, &fresh, most).and_then(|()| {
        std::fs::rename(&fresh, there).map_err(HandoverError::file(there))?;
        let folder: PathBuf = there.parent().unwrap_or(there).to_owned();
        File::open(&folder).and_then(|folder| folder.sync_all()).map_err(HandoverError::file(&folder))
    });
    if written.is_err() {
        let _ = std::fs::remove_file(&fresh);
    }
    written
}

fn write(from: &mut impl io::Read, path: &Path, fresh: &Path, most: u64) -> Result<(), HandoverError> {
    let modified = std::fs::metadata(path).and_then(|of| of.modified()).map_err(HandoverError::file(path))?;
    // The agent may be another user, of the folder's group.
    let opened = OpenOptions::new().write(true).create_new(true).mode(0o640).open(fresh);
    let mut file = opened.map_err(HandoverError::file(fresh))?;
    each_step(&mut from.take(most), |bytes| file.write_all(bytes).map_err(HandoverError::file(fresh)), path)?;
    let done = file.set_times(FileTimes::new().set_modified(modified)).and_then(|()| file.sync_all());
    done.map_err(HandoverError::file(fresh))
}
