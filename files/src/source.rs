//! From words to a tree: which repository, which point, which partition.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::sync::Arc;

use jiff::Timestamp;
use serde::Serialize;
use strongroom_console::{Console, Failed, Size};
use strongroom_model::{RecoveryPointId, VolumeName, World};
use strongroom_repository::Point;
use strongroom_settings::{
    Candidate, OpenedRepository, RepositoryArgs, Selection, open_repository_to_read, select,
};

use crate::disk::Disk;
use crate::error::FilesError;
use crate::filesystem;
use crate::image::PointImage;
use crate::names::shown;
use crate::tree::Tree;

/// What of an image may be in memory at once.
const BUDGET_BYTES: usize = 64 << 20;

/// `POINT` or `POINT:/PATH`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Location {
    /// The words that choose a point.
    pub point: String,
    /// The path in it.
    pub path: Option<Vec<u8>>,
}

impl Location {
    /// Divides at the first `:/`, since a path begins with a slash and a time never does.
    ///
    /// # Errors
    /// When what stands before it is no text.
    pub fn parse(text: &OsStr) -> Result<Self, FilesError> {
        let bytes = text.as_bytes();
        let divide = bytes.windows(2).position(|pair| pair == b":/");
        let (point, path) = match divide {
            Some(at) => (&bytes[..at], Some(bytes[at + 1..].to_vec())),
            None => (bytes, None),
        };
        let not_a_point = || FilesError::NotAPoint { text: shown(bytes), why: "it is no text".into() };
        Ok(Self { point: std::str::from_utf8(point).map_err(|_| not_a_point())?.to_owned(), path })
    }

    /// The path, which has to be there.
    ///
    /// # Errors
    /// When it is not.
    pub fn needs_path(self) -> Result<(String, Vec<u8>), FilesError> {
        match self.path {
            Some(path) => Ok((self.point, path)),
            None => Err(FilesError::NotAPath { text: self.point }),
        }
    }
}

/// Which point it came to be: part of every result.
#[derive(Debug, Clone, Serialize)]
pub struct ChosenPoint {
    /// The point.
    pub point: RecoveryPointId,
    /// Whose content it is.
    pub volume: VolumeName,
    /// The moment of the content.
    pub taken_at: Timestamp,
    /// The size of its image.
    pub image_bytes: u64,
}

/// What was asked of the store so far: part of every result.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Fetched {
    /// Bytes that came.
    pub fetched_bytes: u64,
    /// Requests that were made, those of opening the repository among them.
    pub requests: u64,
}

impl Fetched {
    /// `fetched 3.2 MiB in 12 requests of 4 GiB`
    #[must_use]
    pub fn text(&self, image_bytes: u64) -> String {
        format!(
            "fetched {} in {} requests, of an image of {}",
            Size(self.fetched_bytes),
            self.requests,
            Size(image_bytes)
        )
    }
}

/// An open repository from which points are chosen.
#[derive(Debug)]
pub struct Source {
    /// The repository, its store and the counters of its requests.
    pub opened: OpenedRepository,
    world: World,
}

impl Source {
    /// Opens the repository.
    ///
    /// # Errors
    /// When it does not open.
    pub async fn open(args: &RepositoryArgs, world: &World) -> Result<Self, Failed> {
        let settings = args.resolve()?;
        Ok(Self { opened: open_repository_to_read(&settings, world).await?, world: world.clone() })
    }

    /// The point that the words choose.
    ///
    /// # Errors
    /// When they choose none, or more than one.
    pub async fn point(&self, words: &str, console: &Console) -> Result<Point, Failed> {
        let now = self.world.clock.now();
        let chosen = Selection::parse(words, now, console.time_zone())
            .map_err(|why| FilesError::NotAPoint { text: words.chars().take(80).collect(), why })?;
        let fold = self.opened.repository.fold().await?;
        let candidates: Vec<Candidate> = fold.points.values().map(Candidate::from).collect();
        let chosen = select(&candidates, chosen.volume.as_ref(), &chosen.choice)?;
        Ok(fold.points[&chosen.id].clone())
    }

    /// The image of a point.
    ///
    /// # Errors
    /// When its map cannot be read.
    pub async fn image(&self, point: &Point) -> Result<PointImage, FilesError> {
        PointImage::open(&self.opened.repository, point, BUDGET_BYTES).await.map_err(FilesError::Image)
    }

    /// What was asked of the store so far.
    #[must_use]
    pub fn fetched(&self) -> Fetched {
        let counts = &self.opened.counts;
        Fetched { fetched_bytes: counts.received_bytes(), requests: counts.all_requests() }
    }
}

/// What a result says of a point.
#[must_use]
pub fn chosen(point: &Point, image: &PointImage) -> ChosenPoint {
    ChosenPoint {
        point: point.id,
        volume: point.volume.clone(),
        taken_at: point.info.taken_at,
        image_bytes: image.bytes(),
    }
}

/// The tree of files in an image. Blocks, so it is not to be called on a thread of the runtime.
///
/// # Errors
/// When there is none that can be read here.
pub fn tree(image: PointImage, partition: Option<u32>) -> Result<Arc<dyn Tree>, FilesError> {
    let disk: Arc<dyn Disk> = Arc::new(image);
    let (disk, _) = filesystem::part(disk, partition)?;
    filesystem::open(disk)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_point_and_a_path_are_divided_where_the_path_begins() {
        for (text, point, path) in [
            ("rp-1a2b", "rp-1a2b", None),
            ("rp-1a2b:/etc/passwd", "rp-1a2b", Some("/etc/passwd")),
            ("db@today 14:03:20:/a:/b", "db@today 14:03:20", Some("/a:/b")),
            ("db@2026-11-21T14:03:20+01:00", "db@2026-11-21T14:03:20+01:00", None),
        ] {
            let found = Location::parse(OsStr::new(text)).unwrap();
            assert_eq!(
                (found.point.as_str(), found.path.as_deref()),
                (point, path.map(str::as_bytes)),
                "{text}"
            );
        }
        let raw = Location::parse(OsStr::from_bytes(b"rp-1:/\xff")).unwrap();
        assert_eq!(raw.path.as_deref(), Some(&b"/\xff"[..]));
    }
}
