//! What `files ls` and `files find` answer: rows, and the tests that a row must pass.

use jiff::Timestamp;
use serde::Serialize;

use crate::error::FilesError;
use crate::names::{Pattern, exact, shown};
use crate::tree::{Kind, Node, Tree};
use crate::walk::Found;

/// One file, directory or link.
#[derive(Debug, Clone, Serialize)]
pub struct Row {
    /// Its path from the root of the image on, escaped where it is not plain text.
    pub path: String,
    /// The exact bytes of the path in hexadecimal, where `path` is escaped.
    pub path_hex: Option<String>,
    /// What it is.
    pub kind: Kind,
    /// Permissions in octal, with set-uid, set-gid and sticky.
    pub mode: String,
    /// The owner.
    pub uid: u32,
    /// The group.
    pub gid: u32,
    /// Its size.
    pub size_bytes: u64,
    /// How many names it has.
    pub links: u32,
    /// When its content last changed.
    pub modified_at: Timestamp,
    /// Where a link leads, escaped.
    pub target: Option<String>,
}

impl Row {
    /// Reads what the row needs beside the node: the target of a link.
    ///
    /// # Errors
    /// When the target cannot be read.
    pub fn of(tree: &dyn Tree, found: &Found) -> Result<Self, FilesError> {
        let node = &found.node;
        let target = if node.kind == Kind::Link { Some(shown(&tree.target(node)?)) } else { None };
        Ok(Self {
            path: shown(&found.path),
            path_hex: exact(&found.path),
            kind: node.kind,
            mode: format!("{:04o}", node.mode),
            uid: node.uid,
            gid: node.gid,
            size_bytes: node.bytes,
            links: node.links,
            modified_at: node.modified.timestamp(),
            target,
        })
    }

    /// As `ls -l` has it.
    #[must_use]
    pub fn long(&self, letters: &str, zone: &jiff::tz::TimeZone) -> String {
        let target = self.target.as_ref().map(|target| format!(" -> {target}")).unwrap_or_default();
        format!(
            "{letters} {:>3} {:>6} {:>6} {:>13} {} {}{target}",
            self.links,
            self.uid,
            self.gid,
            self.size_bytes,
            strongroom_console::local(self.modified_at, zone),
            self.path,
        )
    }
}

/// `drwxr-xr-x`
#[must_use]
pub fn letters(node: &Node) -> String {
    let mut text = String::from(node.kind.letter());
    for (shift, special, set, unset) in [(6, 0o4000, 's', 'S'), (3, 0o2000, 's', 'S'), (0, 0o1000, 't', 'T')]
    {
        let bits = node.mode >> shift;
        text.push(if bits & 4 != 0 { 'r' } else { '-' });
        text.push(if bits & 2 != 0 { 'w' } else { '-' });
        text.push(match (node.mode & special != 0, bits & 1 != 0) {
            (true, true) => set,
            (true, false) => unset,
            (false, true) => 'x',
            (false, false) => '-',
        });
    }
    text
}

/// Which rows are wanted.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// The last part of the path fits this.
    pub name: Option<Pattern>,
    /// The whole path fits this.
    pub path: Option<Pattern>,
    /// It is one of these; all kinds where empty.
    pub kinds: Vec<Kind>,
    /// At least so many bytes; only regular files have a size that means anything here.
    pub at_least: Option<u64>,
    /// At most so many bytes.
    pub at_most: Option<u64>,
    /// Changed after this.
    pub newer: Option<Timestamp>,
    /// Changed before this.
    pub older: Option<Timestamp>,
    /// Owned by this user.
    pub uid: Option<u32>,
}

impl Filter {
    /// Whether the row is wanted.
    #[must_use]
    pub fn takes(&self, found: &Found) -> bool {
        let node = &found.node;
        let name = found.path.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
        let sized = |fits: &dyn Fn(u64) -> bool| node.kind == Kind::File && fits(node.bytes);
        self.name.as_ref().is_none_or(|pattern| pattern.matches(name))
            && self.path.as_ref().is_none_or(|pattern| pattern.matches(&found.path))
            && (self.kinds.is_empty() || self.kinds.contains(&node.kind))
            && self.at_least.is_none_or(|least| sized(&|bytes| bytes >= least))
            && self.at_most.is_none_or(|most| sized(&|bytes| bytes <= most))
            && self.newer.is_none_or(|newer| node.modified.timestamp() > newer)
            && self.older.is_none_or(|older| node.modified.timestamp() < older)
            && self.uid.is_none_or(|uid| node.uid == uid)
    }
}
