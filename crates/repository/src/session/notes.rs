//! What a session keeps on disk: its receipts.
//!
//! One file for each session, `sessions/<20 digits>` in the repository's state folder: a line of JSON that says
//! whose it is, then a row for each stored pack, appended and synced as the receipts come:
//!
//! | bytes | what |
//! |---|---|
//! | 0..60 | the receipt ([`StoredPack::to_note`]) |
//! | 60..68 | the first bytes of its BLAKE3 |
//!
//! A torn tail is ignored: what is missing there is sent again. The file is locked while its session lives, so
//! a second process of the same agent does not take it up.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::pack::StoredPack;

const NOTE: usize = 60;
const ROW: usize = NOTE + 8;

/// Whose notes these are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Owner {
    pub(super) session: u64,
    pub(super) agent: String,
    pub(super) purpose: String,
}

/// The notes of a living session.
#[derive(Debug)]
pub(super) struct Notes {
    path: PathBuf,
    /// Locked.
    file: File,
}

/// The notes of a session whose process is gone.
#[derive(Debug)]
pub(super) struct Left {
    pub(super) owner: Owner,
    pub(super) receipts: Vec<StoredPack>,
    pub(super) notes: Notes,
}

impl Notes {
    /// Begins the notes of a session.
    pub(super) fn begin(dir: &Path, owner: &Owner) -> io::Result<Self> {
        let dir = dir.join("sessions");
        fs::create_dir_all(&dir)?;
        let path = dir.join(format!("{:020}", owner.session));
        let mut file = File::options().read(true).append(true).create(true).open(&path)?;
        file.try_lock().map_err(io::Error::from)?;
        file.set_len(0)?;
        let mut line = serde_json::to_vec(owner)?;
        line.push(b'\n');
        file.write_all(&line)?;
        file.sync_all()?;
        File::open(&dir)?.sync_all()?;
        Ok(Self { path, file })
    }

    /// Adds receipts. Notes that cannot be written cost uploads after a kill, nothing else.
    pub(super) fn append(&mut self, receipts: &[StoredPack]) {
        let rows: Vec<u8> = receipts.iter().flat_map(row).collect();
        if let Err(cause) = self.file.write_all(&rows).and_then(|()| self.file.sync_data()) {
            tracing::warn!(path = %self.path.display(), %cause, "receipts cannot be noted; a run after a kill would send these packs again");
        }
    }

    /// The session is over.
    pub(super) fn remove(self) {
        if let Err(cause) = fs::remove_file(&self.path) {
            tracing::warn!(path = %self.path.display(), %cause, "the notes of an ended session cannot be removed");
        }
    }

    /// All notes in a folder that no living process holds, newest session first.
    pub(super) fn left_in(dir: &Path) -> Vec<Left> {
        let Ok(files) = fs::read_dir(dir.join("sessions")) else { return Vec::new() };
        let mut left: Vec<_> = files.filter_map(|file| Self::take_up(file.ok()?.path())).collect();
        left.sort_by_key(|left| std::cmp::Reverse(left.owner.session));
        left
    }

    fn take_up(path: PathBuf) -> Option<Left> {
        let mut file = File::options().read(true).append(true).open(&path).ok()?;
        file.try_lock().ok()?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).ok()?;
        let end = bytes.iter().position(|byte| *byte == b'\n')?;
        let owner: Owner = serde_json::from_slice(&bytes[..end]).ok()?;
        let rows = &bytes[end + 1..];
        let sound: Vec<_> = rows.chunks(ROW).map_while(read_row).collect();
        // What follows a torn row would never be read, so the tear is cut off before anything is added.
        file.set_len((end + 1 + sound.len() * ROW) as u64).ok()?;
        Some(Left { owner, receipts: sound, notes: Self { path, file } })
    }
}

fn row(receipt: &StoredPack) -> [u8; ROW] {
    let mut row = [0; ROW];
    row[..NOTE].copy_from_slice(&receipt.to_note());
    let check = blake3::hash(&row[..NOTE]);
    row[NOTE..].copy_from_slice(&check.as_bytes()[..8]);
    row
}

fn read_row(row: &[u8]) -> Option<StoredPack> {
    let (note, check) = row.split_at_checked(NOTE)?;
    (blake3::hash(note).as_bytes()[..8] == *check).then_some(())?;
    StoredPack::from_note(note).ok()
}
