//! A restic repository, as far as an import looks into it: snapshots, and files in them.
//!
//! All of it blocks, and the library below may panic where data is damaged: whoever calls does it through
//! [`guarded`], on a thread that may block.

use std::collections::HashSet;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;
use rustic_core::repofile::{Node, SnapshotFile};
use rustic_core::{
    Credentials, IndexedFullStatus, Repository, RepositoryBackends, RepositoryOptions, RusticError, TreeId,
};
use strongroom_repository::store::ObjectStore;
use tokio::runtime::Handle;
use zeroize::Zeroizing;

use crate::error::ImportError;
use crate::shelf::Shelf;

/// Folders nested deeper than this are not looked into.
const MOST_DEPTH: usize = 256;

/// So many folders without an image are remembered, so that each of many snapshots need not look into them again: 32
/// MB.
const MOST_REMEMBERED: usize = 1 << 20;

/// Images in one plan: with a row of about 400 bytes each it stays below 40 MB.
const MOST_FOUND: usize = 100_000;

/// An image is made of sectors.
const SECTOR_BYTES: u64 = 512;

/// An open restic repository, with its index in memory. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Restic {
    repository: Arc<Repository<IndexedFullStatus>>,
    shelf: Arc<Shelf>,
}

/// A file of a snapshot.
#[derive(Debug, Clone)]
pub(crate) struct Found {
    pub(crate) snapshot: Arc<SnapshotOf>,
    /// As it is in the snapshot, from its root.
    pub(crate) path: PathBuf,
    pub(crate) bytes: u64,
    /// The folder that holds it. Not the file's own entry: that lists its contents, 32 bytes for each blob.
    folder: TreeId,
}

/// What a snapshot says of itself.
#[derive(Debug, Clone)]
pub(crate) struct SnapshotOf {
    pub(crate) id: String,
    pub(crate) taken_at: Timestamp,
    pub(crate) host: String,
    pub(crate) tags: String,
}

/// Which files are images.
#[derive(Debug, Clone)]
pub(crate) struct Choice {
    /// These; else all that look like images.
    pub(crate) paths: Vec<PathBuf>,
    /// What looks like an image has at least so many bytes.
    pub(crate) min_bytes: u64,
    /// Only snapshots of this host.
    pub(crate) host: Option<String>,
}

/// What was found.
#[derive(Debug)]
pub(crate) struct Finding {
    /// The chosen files of all snapshots, in order of time.
    pub(crate) found: Vec<Found>,
    /// Snapshots that have none of them.
    pub(crate) without: Vec<Arc<SnapshotOf>>,
}

impl Restic {
    pub(crate) fn open(
        store: Arc<dyn ObjectStore>,
        runtime: Handle,
        password: &Zeroizing<String>,
    ) -> Result<Self, ImportError> {
        let place = store.location();
        let shelf = Arc::new(Shelf::new(store, runtime));
        let backends = RepositoryBackends::new(Arc::clone(&shelf) as _, None);
        // A cache of its own would outlive the import in somebody's home folder.
        let options = RepositoryOptions::default().no_cache(true);
        let opened = Repository::new(&options, &backends)
            .and_then(|repository| repository.open(&Credentials::password(password.as_str())));
        let opened = opened.map_err(|error| match shelf.trouble() {
            Some(cause) => ImportError::Store(cause),
            None if error.is_incorrect_password() => ImportError::WrongPassword { place: place.clone() },
            None => ImportError::Open { place: place.clone(), what: say(&error) },
        })?;
        let indexed = opened.to_indexed().map_err(|error| failed(&shelf, "the index", &error))?;
        Ok(Self { repository: Arc::new(indexed), shelf })
    }

    /// Looks through all snapshots.
    pub(crate) fn find(&self, choice: &Choice) -> Result<Finding, ImportError> {
        let mut snapshots =
            self.repository.get_all_snapshots().map_err(|error| self.failed("the snapshots", &error))?;
        snapshots.retain(|snapshot| choice.host.as_ref().is_none_or(|host| *host == snapshot.hostname));
        snapshots.sort_by_key(|snapshot| (snapshot.time.timestamp(), snapshot.id));
        let mut finding = Finding { found: Vec::new(), without: Vec::new() };
        let mut barren = HashSet::new();
        for snapshot in &snapshots {
            let of = Arc::new(said_by(snapshot));
            let before = finding.found.len();
            if choice.paths.is_empty() {
                let mut walk = Walk {
                    restic: self,
                    min_bytes: choice.min_bytes,
                    barren: &mut barren,
                    all: &mut finding.found,
                };
                walk.folder(&of, snapshot.tree, Path::new("/"), 0)?;
            }
            for path in &choice.paths {
                finding.found.extend(self.at(&of, snapshot.tree, path)?);
            }
            if finding.found.len() == before {
                finding.without.push(of);
            }
            if finding.found.len() > MOST_FOUND {
                return Err(ImportError::TooMany { most: MOST_FOUND });
            }
        }
        Ok(finding)
    }

    fn nodes(&self, tree: TreeId, path: &Path) -> Result<Vec<Node>, ImportError> {
        let tree = self.repository.get_tree(&tree);
        Ok(tree.map_err(|error| self.failed(&path.display().to_string(), &error))?.nodes)
    }

    /// The file at a path, if the snapshot has one.
    fn at(
        &self,
        snapshot: &Arc<SnapshotOf>,
        root: TreeId,
        path: &Path,
    ) -> Result<Option<Found>, ImportError> {
        let mut tree = root;
        let mut names = path
            .components()
            .filter_map(|part| match part {
                Component::Normal(name) => Some(name),
                _ => None,
            })
            .peekable();
        while let Some(name) = names.next() {
            let nodes = self.nodes(tree, path)?;
            let Some(node) = nodes.into_iter().find(|node| node.name() == name) else { return Ok(None) };
            match (names.peek(), node.subtree) {
                (None, _) if node.is_file() => {
                    let (snapshot, path) = (Arc::clone(snapshot), path.to_owned());
                    return Ok(Some(Found { snapshot, path, bytes: node.meta.size, folder: tree }));
                }
                (Some(_), Some(below)) => tree = below,
                _ => return Ok(None),
            }
        }
        Ok(None)
    }

    /// The entry of a file, with the list of its contents.
    pub(crate) fn node(&self, found: &Found) -> Result<Node, ImportError> {
        let nodes = self.nodes(found.folder, &found.path)?;
        let is_it = |node: &Node| Some(&*node.name()) == found.path.file_name() && node.is_file();
        nodes.into_iter().find(is_it).ok_or_else(|| ImportError::Read {
            what: found.path.display().to_string(),
            why: "its entry is gone".to_owned(),
        })
    }

    pub(crate) fn repository(&self) -> &Repository<IndexedFullStatus> {
        &self.repository
    }

    /// The error of something that the library could not read.
    pub(crate) fn failed(&self, what: &str, error: &RusticError) -> ImportError {
        failed(&self.shelf, what, error)
    }
}

/// A way through the folders of snapshots.
struct Walk<'a> {
    restic: &'a Restic,
    min_bytes: u64,
    /// Folders without an image.
    barren: &'a mut HashSet<TreeId>,
    all: &'a mut Vec<Found>,
}

impl Walk<'_> {
    /// Takes all that looks like an image below a folder.
    fn folder(
        &mut self,
        snapshot: &Arc<SnapshotOf>,
        tree: TreeId,
        path: &Path,
        depth: usize,
    ) -> Result<(), ImportError> {
        if depth > MOST_DEPTH || self.barren.contains(&tree) || self.all.len() > MOST_FOUND {
            return Ok(());
        }
        let before = self.all.len();
        for node in self.restic.nodes(tree, path)? {
            let path = path.join(node.name());
            let bytes = node.meta.size;
            if let Some(below) = node.subtree {
                self.folder(snapshot, below, &path, depth + 1)?;
            } else if node.is_file() && bytes >= self.min_bytes && bytes.is_multiple_of(SECTOR_BYTES) {
                self.all.push(Found { snapshot: Arc::clone(snapshot), path, bytes, folder: tree });
            }
        }
        if self.all.len() == before && self.barren.len() < MOST_REMEMBERED {
            self.barren.insert(tree);
        }
        Ok(())
    }
}

fn said_by(snapshot: &SnapshotFile) -> SnapshotOf {
    SnapshotOf {
        // In full: the library displays eight digits.
        id: snapshot.id.to_hex().as_str().to_owned(),
        taken_at: snapshot.time.timestamp(),
        host: snapshot.hostname.clone(),
        tags: snapshot.tags.to_string(),
    }
}

/// Does what may panic, and makes an error of it.
pub(crate) fn guarded<T>(work: impl FnOnce() -> Result<T, ImportError>) -> Result<T, ImportError> {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(work))
        .unwrap_or_else(|panic| Err(ImportError::Broken { what: panic_text(&*panic) }))
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no word").to_owned()
}

fn failed(shelf: &Shelf, what: &str, error: &RusticError) -> ImportError {
    match shelf.trouble() {
        Some(cause) => ImportError::Store(cause),
        None => ImportError::Read { what: what.to_owned(), why: say(error) },
    }
}

/// One line: the library's own text is a page with headings.
fn say(error: &RusticError) -> String {
    let log = error.display_log();
    let log = log.strip_prefix("Error: ").unwrap_or(&log);
    log.split_whitespace().collect::<Vec<_>>().join(" ")
}
