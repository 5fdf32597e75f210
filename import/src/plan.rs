//! Which images become recovery points: made from what was found and from the points that there are, and complete
//! before anything is done. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use jiff::Timestamp;
use serde::Serialize;
use strongroom_model::{RecoveryPointId, VolumeName};
use strongroom_repository::Fold;

use crate::error::ImportError;
use crate::restic::Found;

/// The label that holds the id of the snapshot.
const SNAPSHOT: &str = "restic.snapshot";
/// The label that holds the path of the file in it.
const PATH: &str = "restic.path";

/// What an import does, in order.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) images: Vec<Planned>,
}

/// One image of one snapshot.
#[derive(Debug)]
pub(crate) struct Planned {
    pub(crate) volume: VolumeName,
    pub(crate) found: Found,
    /// The point that was made of it before.
    pub(crate) already: Option<RecoveryPointId>,
}

/// A row of the plan, for people and programs.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Row {
    pub(crate) volume: VolumeName,
    pub(crate) snapshot: String,
    pub(crate) taken_at: Timestamp,
    pub(crate) host: String,
    pub(crate) path: String,
    pub(crate) image_bytes: u64,
    /// The point that there is already; it is not made again.
    pub(crate) already: Option<RecoveryPointId>,
}

impl Planned {
    pub(crate) fn row(&self) -> Row {
        let snapshot = &self.found.snapshot;
        Row {
            volume: self.volume.clone(),
            snapshot: snapshot.id.clone(),
            taken_at: snapshot.taken_at,
            host: snapshot.host.clone(),
            path: shown(&self.found.path),
            image_bytes: self.found.bytes,
            already: self.already,
        }
    }

    /// What the point will say of where it came from.
    pub(crate) fn labels(&self) -> BTreeMap<String, String> {
        let snapshot = &self.found.snapshot;
        let labels = [
            (SNAPSHOT, snapshot.id.clone()),
            (PATH, shown(&self.found.path)),
            ("restic.host", snapshot.host.clone()),
            ("restic.tags", snapshot.tags.clone()),
        ];
        labels
            .into_iter()
            .filter(|(_, value)| !value.is_empty())
            .map(|(key, value)| (key.to_owned(), value))
            .collect()
    }
}

impl Plan {
    /// Gives every file its volume, and looks which are here already.
    pub(crate) fn make(
        found: Vec<Found>,
        volume: Option<&VolumeName>,
        fold: &Fold,
    ) -> Result<Self, ImportError> {
        let names = names(&found, volume)?;
        let done: BTreeMap<_, _> = names.values().flat_map(|volume| imported(fold, volume)).collect();
        let images = found.into_iter().map(|found| {
            let volume = names[&file_of(&found)].clone();
            let of = (volume.clone(), found.snapshot.id.clone(), shown(&found.path));
            let already = done.get(&of).copied();
            Planned { volume, found, already }
        });
        Ok(Self { images: images.collect() })
    }

    pub(crate) fn rows(&self) -> Vec<Row> {
        self.images.iter().map(Planned::row).collect()
    }

    pub(crate) fn to_do(&self) -> impl Iterator<Item = &Planned> {
        self.images.iter().filter(|image| image.already.is_none())
    }
}

/// A file on a host: what has one history.
type File = (String, String);

fn file_of(found: &Found) -> File {
    (found.snapshot.host.clone(), shown(&found.path))
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}

/// The names of the volumes.
fn names(found: &[Found], volume: Option<&VolumeName>) -> Result<BTreeMap<File, VolumeName>, ImportError> {
    let files: BTreeSet<File> = found.iter().map(file_of).collect();
    if let (Some(_), 2..) = (volume, files.len()) {
        return Err(ImportError::OneName { count: files.len() });
    }
    let mut by_name: BTreeMap<VolumeName, File> = BTreeMap::new();
    let mut names = BTreeMap::new();
    for file in files {
        let name = match volume {
            Some(name) => name.clone(),
            None => name_of(&file.1)?,
        };
        if let Some(one) = by_name.insert(name.clone(), file.clone()) {
            let say = |(host, path): File| format!("{path} of the host {host}");
            return Err(ImportError::SameName { one: say(one), other: say(file), volume: name.to_string() });
        }
        names.insert(file, name);
    }
    Ok(names)
}

/// What of restic is a point of a volume already.
fn imported(
    fold: &Fold,
    volume: &VolumeName,
) -> impl Iterator<Item = ((VolumeName, String, String), RecoveryPointId)> {
    fold.points_of(volume).into_iter().filter_map(|point| {
        let labels = &point.info.labels;
        let of = (volume.clone(), labels.get(SNAPSHOT)?.clone(), labels.get(PATH)?.clone());
        Some((of, point.id))
    })
}

/// The name of the file, without what says that it is an image.
fn name_of(path: &str) -> Result<VolumeName, ImportError> {
    let file = Path::new(path);
    let is_image = file
        .extension()
        .and_then(|extension| extension.to_str())
        .is_some_and(|extension| ["img", "raw", "image", "ext4", "xfs"].contains(&extension));
    let name = if is_image { file.file_stem() } else { file.file_name() };
    let name = name.unwrap_or_default().to_string_lossy();
    name.parse().map_err(|cause| ImportError::Name { path: path.to_owned(), cause })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_volume_is_named_after_the_file() {
        for (path, name) in [("/srv/db.img", "db"), ("/dev/vg/data", "data"), ("/a/disk.qcow2", "disk.qcow2")]
        {
            assert_eq!(name_of(path).unwrap().as_str(), name);
        }
        assert!(matches!(name_of("/"), Err(ImportError::Name { .. })));
    }
}
