//! Copies files out of an image, into a directory of this machine.
//!
//! What always holds:
//! * Nothing outside of the destination is written, whatever the image says: every directory is opened from the one above it,
//!   by one name, and never through a symbolic link ([`place`]).
//! * A name appears only when what it names is whole: files and links are made under another name and renamed. What cannot
//!   be read is not there, rather than cut or filled with zeros.
//! * Nothing that exists is replaced unless `force` says so; a directory that exists is filled, never replaced.
//! * A failure of one file is told, counted, and the rest goes on; a place that cannot be written ends everything.
//!
//! Modes, times and holes are kept always; owners, all extended attributes and access control lists where the program runs as
//! root. Sockets, pipes and devices are left out with a note: data is what is wanted out of a backup, and a device node made
//! from an image of somebody else is a door.

mod place;

use std::collections::HashMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use serde::Serialize;
use strongroom_console::{Console, Progress};
use strongroom_model::chain;

use crate::error::FilesError;
use crate::names::{joined, shown};
use crate::tree::{Kind, Node, NodeId, Piece, Tree};
use crate::walk::{Found, sorted};
use place::{Folder, Problem};

/// So much is read and written at once.
const STEP: usize = 1 << 20;
/// Directories below each other: each keeps a descriptor open, and processes usually have 1024.
const MOST_LEVELS: usize = 512;
/// Files with several names whose first copy is remembered; beyond that, further names become copies of their own.
const MOST_LINKED: usize = 1 << 20;
/// Reasons that are told one by one; the rest is only counted.
const MOST_TOLD: u64 = 100;

/// How to copy.
#[derive(Debug, Clone, Copy)]
pub struct CopyOptions {
    /// Replace files and links that exist.
    pub force: bool,
    /// Give copies the owners they had, and all attributes.
    pub as_root: bool,
}

/// What copying came to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Copied {
    /// Regular files that were written.
    pub files: u64,
    /// Directories that were made or filled.
    pub directories: u64,
    /// Symbolic links.
    pub links: u64,
    /// Further names of files that were written already.
    pub hard_links: u64,
    /// Sockets, pipes and devices, which are left out.
    pub skipped: u64,
    /// What could not be read.
    pub failed: u64,
    /// Bytes of content that were written; holes are not.
    pub written_bytes: u64,
    /// Files that lack owner or attributes, as the place or the user may not have them.
    pub without_attributes: u64,
    /// Whether something failed because stored data is damaged or missing.
    #[serde(skip)]
    pub damaged: bool,
}

/// Copies out of one tree.
#[derive(Debug)]
pub struct Copier<'a> {
    tree: &'a dyn Tree,
    options: CopyOptions,
    console: &'a Console,
    progress: Progress,
    stop: &'a AtomicBool,
    /// Where the first copy of a file with several names is, below the destination.
    linked: HashMap<NodeId, PathBuf>,
    done: Copied,
}

impl<'a> Copier<'a> {
    /// A copier that ends early when `stop` is set.
    pub fn new(
        tree: &'a dyn Tree,
        options: CopyOptions,
        console: &'a Console,
        progress: Progress,
        stop: &'a AtomicBool,
    ) -> Self {
        Self { tree, options, console, progress, stop, linked: HashMap::new(), done: Copied::default() }
    }

    /// What was done so far.
    #[must_use]
    pub fn done(&self) -> &Copied {
        &self.done
    }

    /// Copies what was found into `folder`, under `name`, with all that is below it.
    ///
    /// # Errors
    /// When the place cannot be written or something is in the way. What cannot be read is counted in [`Copier::done`].
    pub fn copy(&mut self, found: &Found, folder: &Path, name: &[u8]) -> Result<(), FilesError> {
        let place = Folder::open(folder)?;
        // Names are linked only within one destination.
        self.linked.clear();
        self.one(found, &place, &place, Path::new(""), name, 0)
    }

    /// Writes the content of a file to `out`.
    ///
    /// # Errors
    /// When it cannot be read or written.
    pub fn pour(&mut self, file: &Node, out: &mut dyn Write) -> Result<(), FilesError> {
        let failed = |cause| FilesError::Write { path: "standard output".into(), cause };
        let mut buffer = vec![0; STEP];
        let zeros = vec![0; 64 << 10];
        self.pieces(file, &mut buffer, &mut |part| match part {
            Part::Bytes(bytes) => out.write_all(bytes).map_err(failed),
            Part::Zeros(mut count) => {
                while count > 0 {
                    let step = usize::try_from(count).unwrap_or(usize::MAX).min(zeros.len());
                    out.write_all(&zeros[..step]).map_err(failed)?;
                    count -= step as u64;
                }
                Ok(())
            }
        })?;
        self.done.files += 1;
        out.flush().map_err(failed)
    }

    fn one(
        &mut self,
        found: &Found,
        base: &Folder,
        folder: &Folder,
        below: &Path,
        name: &[u8],
        level: usize,
    ) -> Result<(), FilesError> {
        if self.stop.load(Ordering::Relaxed) {
            return Err(FilesError::Interrupted);
        }
        let copied = match found.node.kind {
            Kind::Directory => self.directory(found, base, folder, below, name, level),
            Kind::File => self.file(found, base, folder, below, name),
            Kind::Link => self.link(found, folder, name),
            Kind::Pipe | Kind::Socket | Kind::CharDevice | Kind::BlockDevice => {
                self.done.skipped += 1;
                if self.done.skipped <= MOST_TOLD {
                    let kind = found.node.kind.letter();
                    self.console
                        .talk(format_args!("left out: {} (kind {kind}, no data)", shown(&found.path)));
                }
                Ok(())
            }
        };
        match copied {
            Err(Problem::Read(cause)) => {
                self.failed(&found.path, &cause);
                Ok(())
            }
            Err(Problem::Write(cause)) => Err(cause),
            Ok(()) => Ok(()),
        }
    }

    fn failed(&mut self, path: &[u8], cause: &FilesError) {
        self.done.failed += 1;
        self.done.damaged |= strongroom_model::Failure::remedy(cause) == strongroom_model::Remedy::FixData;
        if self.done.failed <= MOST_TOLD {
            self.console.warn(format_args!("{}: {}", shown(path), chain(cause)));
        }
    }

    fn directory(
        &mut self,
        found: &Found,
        base: &Folder,
        folder: &Folder,
        below: &Path,
        name: &[u8],
        level: usize,
    ) -> Result<(), Problem> {
        if level >= MOST_LEVELS {
            let path = shown(&found.path[..found.path.len().min(200)]);
            return Err(Problem::Read(FilesError::TooDeep { path }));
        }
        let names = sorted(self.tree, &found.node).map_err(Problem::Read)?;
        let (own, is_new) = folder.enter(name, self.options.force)?;
        let below = below.join(place::os(name));
        for (name, id) in names {
            let path = joined(&found.path, &name);
            match self.tree.node(id) {
                Ok(node) => self.one(&Found { path, node }, base, &own, &below, &name, level + 1)?,
                Err(cause) => self.failed(&path, &cause),
            }
        }
        // A directory that was there keeps its own rights.
        if is_new {
            let attributes = self.attributes(&found.node)?;
            let complete = own.finish_self(&found.node, &attributes, self.options.as_root)?;
            self.done.without_attributes += u64::from(!complete);
        }
        self.done.directories += 1;
        Ok(())
    }

    fn file(
        &mut self,
        found: &Found,
        base: &Folder,
        folder: &Folder,
        below: &Path,
        name: &[u8],
    ) -> Result<(), Problem> {
        let node = &found.node;
        if let Some(first) = self.linked.get(&node.id)
            && folder.link(base, first, name, self.options.force)?
        {
            self.done.hard_links += 1;
            return Ok(());
        }
        folder.refuse_existing(name, self.options.force)?;
        let mut draft = folder.draft(name)?;
        let mut buffer = vec![0; STEP];
        self.pieces(node, &mut buffer, &mut |part| match part {
            Part::Bytes(bytes) => draft.write(bytes),
            Part::Zeros(count) => draft.skip(count),
        })
        .map_err(|cause| match cause {
            // A size that no file here can have is the image's fault, and no reason to stop.
            FilesError::Write { cause: ref why, .. } if is_too_large(why) => Problem::Read(cause),
            FilesError::Write { .. } | FilesError::Interrupted => Problem::Write(cause),
            cause => Problem::Read(cause),
        })?;
        let attributes = self.attributes(node)?;
        let complete = draft.finish(node, &attributes, self.options)?;
        self.done.without_attributes += u64::from(!complete);
        self.done.files += 1;
        if node.links > 1 && self.linked.len() < MOST_LINKED {
            self.linked.insert(node.id, below.join(place::os(name)));
        }
        Ok(())
    }

    fn link(&mut self, found: &Found, folder: &Folder, name: &[u8]) -> Result<(), Problem> {
        let target = self.tree.target(&found.node).map_err(Problem::Read)?;
        folder.symlink(name, &target, &found.node, self.options)?;
        self.done.links += 1;
        Ok(())
    }

    fn attributes(&self, node: &Node) -> Result<Vec<crate::tree::Attribute>, Problem> {
        self.tree.attributes(node).map_err(Problem::Read)
    }

    /// The content of a file, part by part, to its very end.
    fn pieces(
        &mut self,
        file: &Node,
        buffer: &mut [u8],
        each: &mut dyn FnMut(Part<'_>) -> Result<(), FilesError>,
    ) -> Result<(), FilesError> {
        let mut at = 0;
        while at < file.bytes {
            if self.stop.load(Ordering::Relaxed) {
                return Err(FilesError::Interrupted);
            }
            let left = file.bytes - at;
            let step = match self.tree.piece(file, at)? {
                Piece::Data { at: disk, bytes } => {
                    let step = bytes.min(left).min(buffer.len() as u64);
                    let part = &mut buffer[..usize::try_from(step).unwrap_or_default()];
                    self.tree.read_at(disk, part).map_err(FilesError::from_disk)?;
                    each(Part::Bytes(part))?;
                    self.done.written_bytes += step;
                    step
                }
                Piece::Inline(bytes) => {
                    let step = left.min(bytes.len() as u64);
                    each(Part::Bytes(&bytes[..usize::try_from(step).unwrap_or_default()]))?;
                    self.done.written_bytes += step;
                    step
                }
                Piece::Hole { bytes } => {
                    let step = bytes.min(left);
                    each(Part::Zeros(step))?;
                    step
                }
            };
            if step == 0 {
                return Err(FilesError::Nonsense { what: format!("inode {} has an empty piece", file.id) });
            }
            at += step;
            self.progress.advance(step);
        }
        Ok(())
    }
}

fn is_too_large(cause: &std::io::Error) -> bool {
    use rustix::io::Errno;
    matches!(Errno::from_io_error(cause), Some(Errno::FBIG | Errno::INVAL | Errno::OVERFLOW))
}

enum Part<'a> {
    Bytes(&'a [u8]),
    Zeros(u64),
}
