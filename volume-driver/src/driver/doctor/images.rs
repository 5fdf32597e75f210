//! Images and rows that do not belong together, and making rows for images that have none.

use std::collections::BTreeSet;
use std::io::Read as _;

use strongroom_model::{SnapshotId, VolumeId, VolumeName};

use crate::core_error::CoreError;
use crate::driver::Driver;
use crate::findings::{Finding, Repair, Severity};
use crate::image::ImageName;
use crate::image_note::ImageNote;
use crate::loop_device;
use crate::nouns::VolumeKind;
use crate::registry::{SnapshotRow, VolumeRow, VolumeStep};

use super::finding;

const RESTORE: &str = "restore it from a recovery point, or delete it";

impl Driver {
    pub(super) fn examine_images(&self, found: &mut Vec<Finding>) -> Result<(), CoreError> {
        let (volumes, snapshots) = (self.registry.volumes()?, self.registry.snapshots()?);
        let discarded = self.registry.discarded()?;
        let (images, strangers) = self.backend.list()?;
        // Asked again, since both may have changed meanwhile: what is in both answers was there all the time.
        let known: BTreeSet<ImageName> = (volumes.iter().map(|row| row.image.clone()))
            .chain(self.registry.volumes()?.into_iter().map(|row| row.image))
            .chain(snapshots.iter().map(SnapshotRow::image))
            .chain(self.registry.snapshots()?.iter().map(SnapshotRow::image))
            .chain(discarded.iter().cloned())
            .collect();
        for image in images.iter().filter(|image| !known.contains(image)) {
            found.push(self.unknown_image(image));
        }
        for stranger in strangers {
            let message = "it lies in the pool and is not ours; it is left alone";
            let path = stranger.display().to_string();
            found.push(finding("file.unknown", Severity::Note, path, message, "move it elsewhere", None));
        }
        let there: BTreeSet<&ImageName> = images.iter().collect();
        for row in volumes.iter().filter(|row| row.step != VolumeStep::Creating) {
            if let Some(condition) = &row.condition {
                let advice = "see what the condition says; a snapshot before any repair keeps what is there";
                let condition = condition.as_str();
                found.push(finding(
                    "volume.condition",
                    Severity::Problem,
                    row.subject(),
                    condition,
                    advice,
                    None,
                ));
            }
            if !there.contains(&row.image) && !self.backend.path(&row.image).exists() {
                found.push(match self.backend.attached(&row.image)? {
                    None => finding("image.missing", Severity::Problem, row.subject(), "its image is missing", RESTORE, None),
                    Some(device) => finding(
                        "image.deleted",
                        Severity::Problem,
                        row.subject(),
                        format!("its image was deleted, and {} still holds its content", device.path.display()),
                        "copy what is mounted, or the device, before anything is unmounted: after that it is lost",
                        None,
                    ),
                });
            }
        }
        for row in snapshots.iter().filter(|row| row.ready && !self.backend.path(&row.image()).exists()) {
            let advice = "delete it: `strongroom snapshot delete`";
            let message = "its image is missing";
            found.push(finding("image.missing", Severity::Problem, row.subject(), message, advice, None));
        }
        let orphans: Vec<&SnapshotRow> = (snapshots.iter().filter(|row| row.ready))
            .filter(|row| volumes.iter().all(|volume| volume.id != row.volume))
            .collect();
        if !orphans.is_empty() {
            let bytes: u64 =
                orphans.iter().filter_map(|row| self.backend.allocated_bytes(&row.image()).ok()).sum();
            found.push(finding(
                "snapshot.orphaned",
                Severity::Note,
                format!("{} snapshots", orphans.len()),
                format!("their volumes are deleted; with what they share they take {bytes} bytes"),
                "that is allowed; delete those that nobody needs: `strongroom snapshot list`",
                None,
            ));
        }
        self.examine_half_made(&volumes, &snapshots, &discarded, found);
        self.examine_loops(&known, found);
        Ok(())
    }

    fn examine_half_made(
        &self,
        volumes: &[VolumeRow],
        snapshots: &[SnapshotRow],
        discarded: &[ImageName],
        found: &mut Vec<Finding>,
    ) {
        let advice = "`--repair` takes it back, and so does the next start of the driver";
        for row in volumes.iter().filter(|row| row.step == VolumeStep::Creating) {
            // Who has the guard is still making it.
            if self.guards.take(format!("volume {}", row.name)).is_ok() {
                let repair = Some(Repair::UndoVolume { volume: row.id });
                let message = "it was half made";
                found.push(finding(
                    "volume.half-made",
                    Severity::Problem,
                    row.subject(),
                    message,
                    advice,
                    repair,
                ));
            }
        }
        for row in snapshots.iter().filter(|row| !row.ready && row.group.is_none()) {
            if self.guards.take(row.volume).is_ok() {
                let repair = Some(Repair::UndoSnapshot { snapshot: row.id });
                let message = "it was half taken";
                found.push(finding(
                    "snapshot.half-made",
                    Severity::Problem,
                    row.subject(),
                    message,
                    advice,
                    repair,
                ));
            }
        }
        for image in discarded {
            let repair = Some(Repair::RemoveDiscarded { image: image.to_string() });
            let message = "it was discarded, and still lies in the pool";
            let advice = "`--repair` removes it, and so does the next start of the driver";
            let subject = format!("the image {image}");
            found.push(finding("image.discarded", Severity::Warning, subject, message, advice, repair));
        }
    }

    /// Loop devices on files of the pool that are not there for a volume.
    fn examine_loops(&self, known: &BTreeSet<ImageName>, found: &mut Vec<Finding>) {
        let volumes: BTreeSet<_> = (known.iter().filter(|image| image.as_str().starts_with("volumes/")))
            .map(|image| self.backend.path(image))
            .collect();
        for (device, path) in loop_device::below(self.pool.root()) {
            if !volumes.contains(loop_device::without_deleted_mark(&path)) {
                let message = format!("it is bound to {}, which the driver never attaches", path.display());
                let advice = "end what uses it, then `losetup -d` it";
                let device = device.path().display().to_string();
                found.push(finding("loop.unknown", Severity::Warning, device, message, advice, None));
            }
        }
    }

    fn unknown_image(&self, image: &ImageName) -> Finding {
        let bytes = self.backend.allocated_bytes(image).unwrap_or(0);
        let what = self.backend.noted(image).and_then(|text| ImageNote::parse(&text)).map_or_else(
            || "it says nothing of itself".to_owned(),
            |note| match note.label {
                Some(label) => format!("it says that it is the snapshot {label:?} of volume {:?}", note.name),
                None => format!("it says that it is volume {:?}", note.name),
            },
        );
        finding(
            "image.unknown",
            Severity::Problem,
            format!("the image {image}"),
            format!("the registry does not know it; it takes {bytes} bytes; {what}"),
            "`--repair` makes it a volume or snapshot again, which can then be used, or deleted if nobody needs it",
            Some(Repair::Adopt { image: image.to_string() }),
        )
    }

    /// Gives an image a row that the registry does not know.
    pub(super) fn adopt(&self, image: &ImageName) -> Result<(), CoreError> {
        let note = self.backend.noted(image).and_then(|text| ImageNote::parse(&text)).unwrap_or_default();
        let path = self.backend.path(image);
        let meta = path.metadata().map_err(CoreError::system("looking at", &path))?;
        let kind = note.kind.unwrap_or_else(|| kind_of(&path));
        let created_at = note.created_at.unwrap_or_else(|| self.world.clock.now());
        let stem = image.as_str().trim_end_matches(".img");
        if let Some(snapshot) = stem.strip_prefix("snapshots/").and_then(|id| id.parse::<SnapshotId>().ok()) {
            let _guard = self.guards.take(snapshot)?;
            return self.registry.insert_snapshot(&SnapshotRow {
                id: snapshot,
                volume: note.volume.unwrap_or_else(|| VolumeId::random(&*self.world.entropy)),
                volume_name: usable_name(&note.name, "unknown"),
                label: note.label.unwrap_or_else(|| snapshot.to_string()),
                owner: note.owner.unwrap_or_else(|| "user".to_owned()),
                labels: note.labels,
                kind,
                bytes: meta.len(),
                ready: true,
                quiesced: false,
                grow: note.grow,
                created_at,
                group: None,
            });
        }
        let named = stem.strip_prefix("volumes/").and_then(|stem| stem.split('.').next());
        let known = named
            .and_then(|id| id.parse::<VolumeId>().ok())
            .filter(|id| note.volume.is_none_or(|volume| volume == *id));
        let id = match known.or(note.volume) {
            Some(id) if self.registry.volume(id)?.is_none() => id,
            // The volume has another image by now; this one becomes a volume beside it.
            _ => VolumeId::random(&*self.world.entropy),
        };
        let _guard = self.guards.take(id)?;
        let mut name = usable_name(&note.name, &format!("found-{id}"));
        if self.registry.volume_named(&name)?.is_some() {
            name = usable_name("", &format!("found-{id}"));
        }
        self.registry.insert_volume(&VolumeRow {
            id,
            name,
            kind,
            bytes: meta.len(),
            image: image.clone(),
            step: if note.hydrating { VolumeStep::Hydrating } else { VolumeStep::Ready },
            grow: note.grow,
            source: None,
            labels: note.labels,
            condition: None,
            created_at,
        })
    }
}

fn usable_name(wanted: &str, otherwise: &str) -> VolumeName {
    wanted.parse().unwrap_or_else(|_| otherwise.parse().expect("it is made of letters, digits and `-`"))
}

/// What an image holds that says nothing of itself, by the marks that filesystems leave.
fn kind_of(path: &std::path::Path) -> VolumeKind {
    let mut head = vec![0; 0x1_1000];
    let read = std::fs::File::open(path).and_then(|mut file| file.read_exact(&mut head));
    if read.is_err() {
        VolumeKind::Block
    } else if head.starts_with(b"XFSB") {
        VolumeKind::Xfs
    } else if head[0x438..0x43a] == [0x53, 0xef] {
        VolumeKind::Ext4
    } else if &head[0x1_0040..0x1_0048] == b"_BHRfS_M" {
        VolumeKind::Btrfs
    } else {
        VolumeKind::Block
    }
}
