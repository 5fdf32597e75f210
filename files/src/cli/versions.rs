//! `files versions`: one path in many points.

use std::os::unix::ffi::OsStrExt as _;
use std::sync::atomic::Ordering;

use jiff::Timestamp;
use serde::Serialize;
use strongroom_console::{Console, Exit, Failed, Size, Table, local};
use strongroom_model::{RecoveryPointId, VolumeName, World, chain};
use strongroom_repository::Point;

use super::VersionsArgs;
use super::signals::{blocking, stop_flag};
use crate::error::FilesError;
use crate::names::shown;
use crate::source::{Fetched, Source, tree};
use crate::tree::Kind;
use crate::walk;

/// The file in one point.
#[derive(Debug, Serialize)]
struct Version {
    point: RecoveryPointId,
    taken_at: Timestamp,
    /// Unknown where the file is not in the point, or cannot be read.
    kind: Option<Kind>,
    size_bytes: Option<u64>,
    modified_at: Option<Timestamp>,
    /// Size, time of change and inode are those of the next older point that was looked into.
    unchanged: bool,
    /// Why it is not known.
    missing: Option<String>,
    #[serde(skip)]
    inode: u64,
}

#[derive(Debug, Serialize)]
struct Answer {
    volume: VolumeName,
    path: String,
    versions: Vec<Version>,
    #[serde(flatten)]
    fetched: Fetched,
}

pub(super) async fn versions(args: VersionsArgs, console: &Console, world: &World) -> Result<Exit, Failed> {
    let path = args.path.as_bytes().to_vec();
    if !path.starts_with(b"/") {
        return Err(FilesError::NotAPath { text: shown(&path) }.into());
    }
    let source = Source::open(&args.image.repository, world).await?;
    // Also refuses a volume of which there is no point.
    source.point(&format!("{}@latest", args.volume), console).await?;
    let fold = source.opened.repository.fold().await?;
    let mut points: Vec<Point> =
        fold.points.values().filter(|point| point.volume == args.volume).cloned().collect();
    points.sort_by_key(|point| std::cmp::Reverse((point.info.taken_at, point.number)));
    points.truncate(args.last.max(1));
    let stop = stop_flag();
    let mut found: Vec<Version> = Vec::new();
    for point in points {
        if stop.load(Ordering::Relaxed) {
            return Err(Failed::with_exit(FilesError::Interrupted, Exit::Interrupted));
        }
        let image = source.image(&point).await?;
        let (path, partition) = (path.clone(), args.image.partition);
        let looked =
            blocking(move || Ok(tree(image, partition).and_then(|tree| walk::find(&*tree, &path, false))));
        let version = version(&point, looked.await?);
        if let Some(newer) = found.last_mut() {
            newer.unchanged = newer.same_as(&version);
        }
        found.push(version);
    }
    let answer =
        Answer { volume: args.volume, path: shown(&path), versions: found, fetched: source.fetched() };
    console.result(&answer, |page| {
        let mut table = Table::new(["POINT", "TAKEN", "SIZE", "CHANGED", ""]).short([0]).right([2]);
        for version in &answer.versions {
            let time = |at: Timestamp| local(at, console.time_zone());
            table.row([
                version.point.to_string(),
                time(version.taken_at),
                version.size_bytes.map(|bytes| Size(bytes).to_string()).unwrap_or_default(),
                version.modified_at.map(time).unwrap_or_default(),
                match &version.missing {
                    Some(why) => why.clone(),
                    None if version.unchanged => "same as the one before".to_owned(),
                    None => String::new(),
                },
            ]);
        }
        page.table(&table);
    });
    Ok(Exit::Done)
}

fn version(point: &Point, looked: Result<walk::Found, FilesError>) -> Version {
    let (node, missing) = match looked {
        Ok(found) => (Some(found.node), None),
        Err(FilesError::NoSuchFile { .. }) => (None, Some("not there".to_owned())),
        Err(error) => (None, Some(chain(&error))),
    };
    Version {
        point: point.id,
        taken_at: point.info.taken_at,
        kind: node.as_ref().map(|node| node.kind),
        size_bytes: node.as_ref().map(|node| node.bytes),
        modified_at: node.as_ref().map(|node| node.modified.timestamp()),
        unchanged: false,
        missing,
        inode: node.map(|node| node.id).unwrap_or_default(),
    }
}

impl Version {
    fn same_as(&self, older: &Self) -> bool {
        self.missing.is_none()
            && older.missing.is_none()
            && (self.kind, self.size_bytes, self.modified_at, self.inode)
                == (older.kind, older.size_bytes, older.modified_at, older.inode)
    }
}
