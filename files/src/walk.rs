//! From a path to a node, and from a directory to all that is below it.
//!
//! Links inside of the image lead to places inside of the image: a path begins again at the image's root, never at this
//! machine's. A directory is entered once in a walk, whoever names it, so a filesystem whose directories hold themselves
//! ends like any other.

use std::collections::HashSet;
use std::collections::VecDeque;

use crate::error::FilesError;
use crate::names::{joined, shown};
use crate::tree::{Kind, Node, NodeId, Tree};

/// As many symbolic links as the kernel follows in one path.
const MOST_LINKS: usize = 40;
/// Directories below each other; a path of the kernel's 4096 bytes has at most half as many.
const MOST_LEVELS: usize = 2048;

/// A node and the path by which it was found.
#[derive(Debug, Clone)]
pub struct Found {
    /// The path from the image's root on, without links in it.
    pub path: Vec<u8>,
    /// The node.
    pub node: Node,
}

/// Finds what lies at a path. The last part is taken as it is, also where it is a link, unless a slash follows it or
/// `follow_last` says so.
///
/// # Errors
/// When there is nothing, or it cannot be read.
pub fn find(tree: &dyn Tree, path: &[u8], follow_last: bool) -> Result<Found, FilesError> {
    let missing = || FilesError::NoSuchFile { path: shown(path) };
    let follow_last = follow_last || path.ends_with(b"/");
    let mut parts: VecDeque<Vec<u8>> = parts(path).collect();
    let mut trail = vec![(Vec::new(), tree.node(tree.root())?)];
    let mut links = 0;
    while let Some(part) = parts.pop_front() {
        if part == b".." {
            // Above the root is the root.
            if trail.len() > 1 {
                trail.pop();
            }
            continue;
        }
        let directory = &trail.last().expect("the root stays").1;
        if directory.kind != Kind::Directory {
            return Err(FilesError::NotADirectory { path: path_of(&trail) });
        }
        let id = named(tree, directory, &part)?.ok_or_else(missing)?;
        let node = tree.node(id)?;
        if node.kind == Kind::Link && (follow_last || !parts.is_empty()) {
            links += 1;
            if links > MOST_LINKS {
                return Err(FilesError::TooManyLinks { path: shown(path) });
            }
            let target = tree.target(&node)?;
            if target.starts_with(b"/") {
                trail.truncate(1);
            }
            for part in self::parts(&target).rev() {
                parts.push_front(part);
            }
            continue;
        }
        if trail.len() >= MOST_LEVELS {
            return Err(FilesError::TooDeep { path: shown(&path[..path.len().min(200)]) });
        }
        trail.push((part, node));
    }
    let whole = trail.iter().skip(1).fold(b"/".to_vec(), |path, (name, _)| joined(&path, name));
    let (_, node) = trail.pop().expect("the root stays");
    if path.ends_with(b"/") && node.kind != Kind::Directory {
        return Err(FilesError::NotADirectory { path: shown(path) });
    }
    Ok(Found { path: whole, node })
}

fn parts(path: &[u8]) -> impl DoubleEndedIterator<Item = Vec<u8>> {
    path.split(|byte| *byte == b'/').filter(|part| !part.is_empty() && *part != b".").map(<[u8]>::to_vec)
}

fn path_of(trail: &[(Vec<u8>, Node)]) -> String {
    shown(&trail.iter().skip(1).fold(b"/".to_vec(), |path, (name, _)| joined(&path, name)))
}

fn named(tree: &dyn Tree, directory: &Node, name: &[u8]) -> Result<Option<NodeId>, FilesError> {
    let mut found = None;
    tree.entries(directory, &mut |entry| {
        if entry.name == name {
            found = Some(entry.id);
        }
        found.is_none()
    })?;
    Ok(found)
}

/// The names in a directory, sorted by their bytes.
///
/// # Errors
/// When the directory cannot be read.
pub fn sorted(tree: &dyn Tree, directory: &Node) -> Result<Vec<(Vec<u8>, NodeId)>, FilesError> {
    let mut names = Vec::new();
    tree.entries(directory, &mut |entry| {
        names.push((entry.name, entry.id));
        true
    })?;
    names.sort_unstable();
    Ok(names)
}

/// What a walk meets.
#[derive(Debug)]
pub enum Step {
    /// A node.
    Node(Found),
    /// Something below this path cannot be read.
    Unreadable {
        /// Where.
        path: Vec<u8>,
        /// Why.
        cause: FilesError,
    },
}

/// Walks everything below a directory, in the order of names, a directory before what is in it, and calls `each` until it
/// answers false. What cannot be read is told and left out; the rest is walked all the same.
pub fn below(tree: &dyn Tree, start: &Found, recursive: bool, each: &mut dyn FnMut(Step) -> bool) {
    let mut entered: HashSet<NodeId> = HashSet::from([start.node.id]);
    let mut levels = Vec::new();
    match sorted(tree, &start.node) {
        Ok(names) => levels.push((start.path.clone(), names.into_iter())),
        Err(cause) => {
            each(Step::Unreadable { path: start.path.clone(), cause });
            return;
        }
    }
    while let Some((directory, names)) = levels.last_mut() {
        let Some((name, id)) = names.next() else {
            levels.pop();
            continue;
        };
        let path = joined(directory, &name);
        let node = match tree.node(id) {
            Ok(node) => node,
            Err(cause) => {
                if !each(Step::Unreadable { path, cause }) {
                    return;
                }
                continue;
            }
        };
        let enter = recursive && node.kind == Kind::Directory;
        let below = enter.then(|| enter_once(tree, &node, &path, &mut entered, levels.len()));
        if !each(Step::Node(Found { path: path.clone(), node })) {
            return;
        }
        let Some(below) = below else { continue };
        let go_on = match below {
            Ok(names) => {
                levels.push((path, names.into_iter()));
                true
            }
            Err(cause) => each(Step::Unreadable { path, cause }),
        };
        if !go_on {
            return;
        }
    }
}

fn enter_once(
    tree: &dyn Tree,
    node: &Node,
    path: &[u8],
    entered: &mut HashSet<NodeId>,
    level: usize,
) -> Result<Vec<(Vec<u8>, NodeId)>, FilesError> {
    if !entered.insert(node.id) {
        return Err(FilesError::Nonsense { what: format!("directory {} has more than one name", node.id) });
    }
    if level >= MOST_LEVELS {
        return Err(FilesError::TooDeep { path: shown(&path[..path.len().min(200)]) });
    }
    sorted(tree, node)
}
