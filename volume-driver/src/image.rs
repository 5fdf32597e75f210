//! The name of an image in the pool: made of ids of ours, so that no name from outside ever becomes a path.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use strongroom_model::{Entropy, SnapshotId, VolumeId};

/// `volumes/<volume id>.<16 hex>.img` or `snapshots/<snapshot id>.img`.
///
/// An image of a volume has a random part, since a volume can get another image in its life.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct ImageName(String);

/// The text is not the name of an image.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is not the name of an image")]
pub(crate) struct ImageNameError(String);

impl ImageName {
    /// A new image for a volume.
    pub(crate) fn of_volume(volume: VolumeId, entropy: &dyn Entropy) -> Self {
        let mut bytes = [0; 8];
        entropy.fill(&mut bytes);
        let random: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        Self(format!("volumes/{volume}.{random}.img"))
    }

    /// The image of a snapshot.
    pub(crate) fn of_snapshot(snapshot: SnapshotId) -> Self {
        Self(format!("snapshots/{snapshot}.img"))
    }

    /// As it is written into the registry.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// The volume that it is the image of; `None`: it is a snapshot's.
    pub(crate) fn volume(&self) -> Option<VolumeId> {
        self.0.strip_prefix("volumes/")?.split('.').next()?.parse().ok()
    }

    /// Where it lies.
    pub(crate) fn path(&self, root: &Path) -> PathBuf {
        root.join(&self.0)
    }

    /// Where it lies while it is being made.
    pub(crate) fn fresh_path(&self, root: &Path) -> PathBuf {
        root.join("fresh").join(self.0.replace('/', "."))
    }
}

impl FromStr for ImageName {
    type Err = ImageNameError;

    fn from_str(text: &str) -> Result<Self, ImageNameError> {
        let volume = |stem: &str| {
            stem.split_once('.').is_some_and(|(id, random)| {
                id.parse::<VolumeId>().is_ok()
                    && random.len() == 16
                    && random.bytes().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'))
            })
        };
        let stem = text.strip_suffix(".img").unwrap_or_default();
        let fine = match stem.split_once('/') {
            Some(("volumes", stem)) => volume(stem),
            Some(("snapshots", stem)) => stem.parse::<SnapshotId>().is_ok(),
            _ => false,
        };
        if fine { Ok(Self(text.to_owned())) } else { Err(ImageNameError(text.chars().take(64).collect())) }
    }
}

impl fmt::Display for ImageName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_made_of_our_ids_are_names_of_images() {
        let snapshot = ImageName::of_snapshot(SnapshotId::from_bytes([7; 16]));
        assert_eq!(snapshot.as_str().parse::<ImageName>().unwrap(), snapshot);
        for wrong in [
            "",
            "volumes/x.img",
            "snapshots/../../etc/passwd",
            "volumes/vol-07070707070707070707070707070707.img",
            "../x.img",
        ] {
            assert!(wrong.parse::<ImageName>().is_err(), "{wrong}");
        }
    }
}
