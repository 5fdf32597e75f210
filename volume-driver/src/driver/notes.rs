//! Keeping the notes on images true.

use crate::driver::Driver;
use crate::image::ImageName;
use crate::image_note::ImageNote;
use crate::registry::{SnapshotRow, VolumeRow};

impl Driver {
    /// After a volume was made or changed.
    pub(super) fn note_volume(&self, row: &VolumeRow) {
        self.note(&row.image, &ImageNote::of_volume(row));
    }

    /// After a snapshot was taken.
    pub(super) fn note_snapshot(&self, row: &SnapshotRow) {
        self.note(&row.image(), &ImageNote::of_snapshot(row));
    }

    /// A note is an aid: without it everything works but the rebuilding of a lost registry.
    fn note(&self, image: &ImageName, note: &ImageNote) {
        let text = note.to_text();
        if self.backend.noted(image).is_some_and(|there| there == text) {
            return;
        }
        if let Err(error) = self.backend.note(image, &text) {
            tracing::debug!(%image, error = strongroom_model::chain(&error), "no note was written on an image");
        }
    }
}
