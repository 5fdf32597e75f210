//! What the agent says to whoever hands over: lines of `key value`, the whole file replaced at once.
//!
//! ```text
//! strongroom handover 1
//! system 7312345678901234567
//! segment-bytes 16777216
//! limit-bytes 268435456
//! wanted 000000010000000000000004
//! let-go 0/0
//! taken 000000010000000000000003 64 hexadecimal digits of BLAKE3
//! ```

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use strongroom_database::Position;

use super::segment::open_plain;
use super::{HandoverError, NOTE};

const FIRST_LINE: &str = "strongroom handover 1";

/// So many segments are remembered: 16 GiB of log. An older one that comes again is not compared any more.
const MOST_TAKEN: usize = 1024;

/// Nobody writes a longer one.
const MOST_BYTES: u64 = 1 << 20;

/// What the agent says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Note {
    /// Whose log is taken.
    pub(super) system: u64,
    pub(super) segment_bytes: u64,
    /// So much may wait in the folder.
    pub(super) limit_bytes: u64,
    /// The segment that is taken next: it is let in however much waits.
    pub(super) wanted: String,
    /// Nobody waits for what lies before: the server may forget it.
    pub(super) let_go: Position,
    /// Names and hashes of what was taken, oldest first.
    pub(super) taken: VecDeque<(String, String)>,
}

impl Note {
    /// `None`: there is none, or it says nothing.
    pub(super) fn read(folder: &Path) -> Option<Self> {
        let mut text = String::new();
        open_plain(&folder.join(NOTE)).ok()?.take(MOST_BYTES).read_to_string(&mut text).ok()?;
        Self::parse(&text)
    }

    fn parse(text: &str) -> Option<Self> {
        let mut lines = text.lines();
        let mut note = Self::default();
        if lines.next() != Some(FIRST_LINE) {
            return None;
        }
        for line in lines {
            let (key, value) = line.split_once(' ')?;
            match key {
                "system" => note.system = value.parse().ok()?,
                "segment-bytes" => note.segment_bytes = value.parse().ok()?,
                "limit-bytes" => note.limit_bytes = value.parse().ok()?,
                "wanted" => value.clone_into(&mut note.wanted),
                "let-go" => note.let_go = value.parse().ok()?,
                "taken" => {
                    let (name, hash) = value.split_once(' ')?;
                    note.remember(name, hash.to_owned());
                }
                _ => {}
            }
        }
        (note.segment_bytes > 0).then_some(note)
    }

    fn text(&self) -> String {
        let Self { system, segment_bytes, limit_bytes, wanted, let_go, taken } = self;
        let mut text = format!(
            "{FIRST_LINE}\nsystem {system}\nsegment-bytes {segment_bytes}\nlimit-bytes {limit_bytes}\nwanted {wanted}\nlet-go {let_go}\n"
        );
        for (name, hash) in taken {
            text.extend(["taken ", name, " ", hash, "\n"]);
        }
        text
    }

    /// Replaces the one that is there; durable when it answers.
    pub(super) fn write(&self, folder: &Path) -> Result<(), HandoverError> {
        let path = folder.join(NOTE);
        // Whoever writes has the lock, so it is alone; a link that somebody put here goes, and is not followed.
        let fresh = folder.join(".agent.note");
        let written = (|| {
            let _ = std::fs::remove_file(&fresh);
            let mut file = OpenOptions::new().write(true).create_new(true).mode(0o644).open(&fresh)?;
            file.write_all(self.text().as_bytes())?;
            file.sync_all()?;
            std::fs::rename(&fresh, &path)?;
            File::open(folder)?.sync_all()
        })();
        written.map_err(HandoverError::file(&path))
    }

    /// What a segment of this name had for a hash when it was taken.
    pub(super) fn hash_of(&self, name: &str) -> Option<&str> {
        self.taken.iter().rev().find(|(taken, _)| taken == name).map(|(_, hash)| hash.as_str())
    }

    pub(super) fn remember(&mut self, name: &str, hash: String) {
        self.taken.push_back((name.to_owned(), hash));
        while self.taken.len() > MOST_TAKEN {
            self.taken.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_agent_says_is_read_as_it_was_written_and_another_version_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let mut note = Note {
            system: 7,
            segment_bytes: 16 << 20,
            limit_bytes: 1 << 28,
            wanted: "00000001000000000000002A".into(),
            let_go: Position::new(0x1_2000_0000),
            taken: VecDeque::new(),
        };
        for number in 0..MOST_TAKEN + 5 {
            note.remember(&format!("{number:024X}"), "00".repeat(32));
        }
        note.write(folder.path()).unwrap();
        assert_eq!(Note::read(folder.path()), Some(note.clone()));
        assert_eq!(note.taken.len(), MOST_TAKEN);
        assert!(note.hash_of(&format!("{:024X}", 3)).is_none());
        assert!(note.hash_of(&format!("{:024X}", MOST_TAKEN)).is_some());
        assert_eq!(Note::parse("strongroom handover 2\nsegment-bytes 16777216\n"), None);
        assert_eq!(Note::parse(""), None);
    }
}
