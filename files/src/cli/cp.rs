//! `files cp`.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use serde::Serialize;
use strongroom_console::{Console, Exit, Failed, Output, Size};
use strongroom_model::World;

use super::CpArgs;
use super::signals::{blocking, stop_flag};
use crate::copy::{Copied, Copier, CopyOptions};
use crate::error::FilesError;
use crate::names::shown;
use crate::source::{ChosenPoint, Fetched, Location, Source, chosen, tree};
use crate::tree::{Kind, Tree};
use crate::walk::{self, Found};

#[derive(Debug, Serialize)]
struct Answer {
    #[serde(flatten)]
    point: ChosenPoint,
    destination: PathBuf,
    #[serde(flatten)]
    copied: Copied,
    #[serde(flatten)]
    fetched: Fetched,
}

pub(super) async fn cp(args: CpArgs, console: &Console, world: &World) -> Result<Exit, Failed> {
    let (destination, sources) = args.places.split_last().expect("clap asks for two or more");
    let (words, paths) = understand(sources)?;
    let destination = PathBuf::from(destination);
    let to_stdout = destination.as_os_str() == "-";
    if to_stdout && (paths.len() != 1 || console.output() == Output::Json) {
        return Err(FilesError::NotOneFile.into());
    }
    let source = Source::open(&args.image.repository, world).await?;
    let point = source.point(&words, console).await?;
    let image = source.image(&point).await?;
    let head = chosen(&point, &image);
    let stop = stop_flag();
    let options = CopyOptions { force: args.force, as_root: rustix::process::geteuid().is_root() };
    let job = Job { paths, destination: destination.clone(), options, console: console.clone(), stop };
    let copied = blocking(move || {
        let tree = tree(image, args.image.partition)?;
        if to_stdout { job.pour(&*tree) } else { job.copy(&*tree) }
    })
    .await?;
    let answer = Answer { point: head, destination, copied, fetched: source.fetched() };
    answer.say(console, to_stdout)
}

/// All paths are of one point: the first names it, the others may leave it out.
fn understand(sources: &[std::ffi::OsString]) -> Result<(String, Vec<Vec<u8>>), FilesError> {
    let mut words = String::new();
    let mut paths = Vec::new();
    for source in sources {
        let (point, path) = Location::parse(source)?.needs_path()?;
        if words.is_empty() {
            words = point;
        } else if !point.is_empty() && point != words {
            let why = format!("one copy is out of one point, and {words} was named already");
            return Err(FilesError::NotAPoint { text: point, why });
        }
        paths.push(path);
    }
    Ok((words, paths))
}

struct Job {
    paths: Vec<Vec<u8>>,
    destination: PathBuf,
    options: CopyOptions,
    console: Console,
    stop: Arc<AtomicBool>,
}

impl Job {
    fn copier<'a>(&'a self, tree: &'a dyn Tree) -> Copier<'a> {
        let progress = self.console.progress("copying", None);
        Copier::new(tree, self.options, &self.console, progress, &self.stop)
    }

    fn pour(&self, tree: &dyn Tree) -> Result<Copied, Failed> {
        let found = walk::find(tree, &self.paths[0], true)?;
        if found.node.kind != Kind::File {
            return Err(FilesError::NotOneFile.into());
        }
        let mut copier = self.copier(tree);
        let poured = copier.pour(&found.node, &mut io::stdout().lock());
        match poured {
            // Whoever closed the pipe has read enough.
            Err(FilesError::Write { cause, .. }) if cause.kind() == io::ErrorKind::BrokenPipe => {}
            poured => poured?,
        }
        Ok(copier.done().clone())
    }

    fn copy(&self, tree: &dyn Tree) -> Result<Copied, Failed> {
        let found: Vec<Found> =
            self.paths.iter().map(|path| walk::find(tree, path, false)).collect::<Result<_, _>>()?;
        let mut copier = self.copier(tree);
        for found in &found {
            let (folder, name) = self.aim(found, found_alone(&self.paths))?;
            copier.copy(found, &folder, &name).map_err(stopped)?;
        }
        Ok(copier.done().clone())
    }

    /// Into the destination where it is a directory; else the destination is the name of the one thing that is copied.
    fn aim(&self, found: &Found, alone: bool) -> Result<(PathBuf, Vec<u8>), FilesError> {
        let own = found.path.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
        if self.destination.is_dir() {
            // The root has no name: its content goes into a directory that does not exist yet.
            if own.is_empty() {
                return Err(FilesError::Exists { path: self.destination.clone() });
            }
            return Ok((self.destination.clone(), own.to_vec()));
        }
        let named_a_directory = self.destination.as_os_str().as_bytes().ends_with(b"/");
        let name = self.destination.file_name().filter(|_| alone);
        if named_a_directory && found.node.kind != Kind::Directory {
            return Err(FilesError::NoPlace { path: self.destination.clone() });
        }
        let name = name.map(OsStr::as_bytes).ok_or(FilesError::NoPlace { path: self.destination.clone() })?;
        let folder = match self.destination.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        Ok((folder.to_owned(), name.to_vec()))
    }
}

fn found_alone(paths: &[Vec<u8>]) -> bool {
    paths.len() == 1
}

fn stopped(error: FilesError) -> Failed {
    match error {
        FilesError::Interrupted => Failed::with_exit(error, Exit::Interrupted),
        error => error.into(),
    }
}

impl Answer {
    fn say(&self, console: &Console, to_stdout: bool) -> Result<Exit, Failed> {
        let fetched = self.fetched.text(self.point.image_bytes);
        if to_stdout {
            console.talk(fetched);
            return Ok(Exit::Done);
        }
        let copied = &self.copied;
        if copied.without_attributes > 0 {
            let count = copied.without_attributes;
            console.warn(format_args!(
                "{count} copies lack owner or attributes: this user, or the filesystem here, may not have them"
            ));
        }
        if copied.failed > 0 && console.output() == Output::Text {
            console.talk(fetched);
            return Err(FilesError::Some { count: copied.failed, damaged: copied.damaged }.into());
        }
        console.result(self, |page| {
            let count = |number: u64, name: &str| (number > 0).then(|| format!("{number} {name}"));
            let parts = [
                count(copied.files, "files"),
                count(copied.directories, "directories"),
                count(copied.links, "links"),
                count(copied.hard_links, "hard links"),
                count(copied.skipped, "special files left out"),
            ];
            let parts: Vec<String> = parts.into_iter().flatten().collect();
            page.facts([
                ("copied", parts.join(", ")),
                ("to", shown(self.destination.as_os_str().as_bytes())),
                ("written", Size(copied.written_bytes).to_string()),
                ("out of", format!("{} of {}", self.point.point, self.point.volume)),
                ("cost", fetched),
            ]);
        });
        Ok(match (copied.failed, copied.damaged) {
            (0, _) => Exit::Done,
            (_, true) => Exit::Damaged,
            _ => Exit::FAILED,
        })
    }
}
