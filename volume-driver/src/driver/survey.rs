//! A look at everything at once, for those who watch: pool, volumes, what their filesystems hold.
//!
//! It takes no guard, waits for no operation and changes nothing. Volumes are not asked one by one: registry, mount table
//! and loop devices are each read once, so that a thousand volumes cost a thousand times two cheap system calls.
//! `statvfs` is answered by a frozen filesystem too: nothing of it is written, and no lock of the freeze is taken.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;
use std::time::Duration;

use rustix::fs::{Mode, OFlags};
use strongroom_model::VolumeId;

use crate::backend::Device;
use crate::core_error::CoreError;
use crate::driver::Driver;
use crate::driver::in_use::is_live;
use crate::image::ImageName;
use crate::mount_table::MountTable;
use crate::nouns::{Capacity, Mount, Usage, Volume};
use crate::registry::{DeliveryStep, MountRow, VolumeStep};

/// How many volumes are listed one by one. Far more than a node can hold pods, and about 2 MB of metrics.
pub(crate) const MOST: usize = 2000;

/// Everything at once.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Survey {
    pub(crate) capacity: Capacity,
    /// What is kept back for deleting.
    pub(crate) reserve_bytes: u64,
    /// By name.
    pub(crate) volumes: Vec<SurveyedVolume>,
    /// How many volumes there are beyond those.
    pub(crate) unlisted: usize,
    pub(crate) snapshots: usize,
    /// Images that nothing owns.
    pub(crate) unknown_images: usize,
    /// Snapshots of type backup that are not recovery points yet.
    pub(crate) undelivered: usize,
    /// How long the oldest of them has waited.
    pub(crate) oldest_undelivered: Duration,
}

/// A volume and what was seen of it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct SurveyedVolume {
    /// Its id, as text.
    pub(crate) id: String,
    pub(crate) volume: Volume,
    /// What its filesystem holds, while it is mounted.
    pub(crate) usage: Option<Usage>,
    pub(crate) snapshots: usize,
    /// How long writing stood still for the last snapshot.
    pub(crate) last_freeze: Option<Duration>,
}

impl SurveyedVolume {
    /// What its user knows it by.
    pub(crate) fn identity(&self) -> Vec<(&'static str, &str)> {
        let label = |key: &str| self.volume.labels.get(key).map_or("", String::as_str);
        vec![
            ("volume", self.volume.name.as_str()),
            ("volume_id", self.id.as_str()),
            ("kind", self.volume.kind.as_str()),
            ("namespace", label("pvc.namespace")),
            ("pvc", label("pvc.name")),
            ("policy", label("policy")),
        ]
    }
}

impl Driver {
    pub(crate) fn survey(&self) -> Result<Survey, CoreError> {
        let unknown_images = self.unknown_images()?;
        let mut rows = self.registry.volumes()?;
        rows.retain(|row| row.step != VolumeStep::Creating);
        let mut mounts: HashMap<VolumeId, Vec<MountRow>> = HashMap::new();
        for mount in self.registry.all_mounts()? {
            mounts.entry(mount.volume).or_default().push(mount);
        }
        let mut snapshots: BTreeMap<VolumeId, usize> = BTreeMap::new();
        for snapshot in self.registry.snapshots()?.iter().filter(|snapshot| snapshot.ready) {
            *snapshots.entry(snapshot.volume).or_default() += 1;
        }
        let devices: HashMap<ImageName, Device> = self.backend.devices().into_iter().collect();
        let table = MountTable::read()?;
        let listed = rows.iter().take(MOST).map(|row| {
            let device = devices.get(&row.image);
            let mounts = live(mounts.remove(&row.id).unwrap_or_default(), device, &table);
            let mut volume = self.describe_as(row, device.cloned(), mounts)?;
            // As its last snapshot found them; counting takes too long here.
            volume.extents = volume.last_snapshot.as_ref().map(|cost| cost.extents);
            Ok(SurveyedVolume {
                id: row.id.to_string(),
                usage: device.and_then(|device| usage(device, &table)),
                snapshots: snapshots.get(&row.id).copied().unwrap_or(0),
                last_freeze: volume.last_snapshot.as_ref().map(|cost| Duration::from_micros(cost.stall_us)),
                volume,
            })
        });
        let now = self.world.clock.now();
        let waiting: Vec<Duration> = self
            .registry
            .deliveries()?
            .iter()
            .filter(|delivery| delivery.step == DeliveryStep::Waiting)
            .map(|delivery| Duration::try_from(now.duration_since(delivery.taken_at)).unwrap_or_default())
            .collect();
        Ok(Survey {
            undelivered: waiting.len(),
            oldest_undelivered: waiting.into_iter().max().unwrap_or_default(),
            volumes: listed.collect::<Result<_, CoreError>>()?,
            capacity: self.capacity()?,
            reserve_bytes: self.pool.reserve_bytes(),
            unlisted: rows.len().saturating_sub(MOST),
            snapshots: snapshots.values().sum(),
            unknown_images,
        })
    }

    /// How many images nothing owns. Operations go on meanwhile, so an image counts only when the registry knows it neither
    /// before nor after.
    fn unknown_images(&self) -> Result<usize, CoreError> {
        let mut known = self.known_images()?;
        let (images, _) = self.backend.list()?;
        known.append(&mut self.known_images()?);
        Ok(images.iter().filter(|image| !known.contains(image)).count())
    }

    fn known_images(&self) -> Result<BTreeSet<ImageName>, CoreError> {
        let mut known: BTreeSet<ImageName> = self.registry.discarded()?.into_iter().collect();
        known.extend(self.registry.volumes()?.into_iter().map(|row| row.image));
        known.extend(self.registry.snapshots()?.iter().map(|row| row.image()));
        Ok(known)
    }
}

/// Those mounts of the registry that are there.
fn live(mounts: Vec<MountRow>, device: Option<&Device>, table: &MountTable) -> Vec<Mount> {
    let Some(device) = device else { return Vec::new() };
    mounts.into_iter().filter(|row| row.done && is_live(row, device, table)).map(|row| row.mount).collect()
}

/// What the filesystem on `device` holds, asked of the first place where it can be seen.
fn usage(device: &Device, table: &MountTable) -> Option<Usage> {
    table.of_device(device.number).find_map(|mount| measured(&mount.path, device.number))
}

/// `None`: something else is there by now, or hides it.
fn measured(path: &Path, device: (u32, u32)) -> Option<Usage> {
    // Opened as a path only: nothing is read, and what is measured is what was found there.
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let place = rustix::fs::open(path, flags, Mode::empty()).ok()?;
    let seen = rustix::fs::fstat(&place).ok()?.st_dev;
    if (rustix::fs::major(seen), rustix::fs::minor(seen)) != device {
        return None;
    }
    let stat = rustix::fs::fstatvfs(&place).ok()?;
    Some(Usage {
        total_bytes: stat.f_blocks * stat.f_frsize,
        used_bytes: Some(stat.f_blocks.saturating_sub(stat.f_bfree) * stat.f_frsize),
        available_bytes: Some(stat.f_bavail * stat.f_frsize),
        inodes: Some((stat.f_files, stat.f_files.saturating_sub(stat.f_ffree), stat.f_ffree)),
        condition: None,
    })
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use crate::nouns::{MountUse, VolumeKind};
    use crate::testing::{Bench, MIB};

    #[test]
    fn a_survey_shows_volumes_mounts_snapshots_and_what_leaked() {
        let Some(bench) = Bench::new() else { return };
        let (db, raw) =
            (bench.create("db", 64, VolumeKind::Ext4), bench.create("raw", 64, VolumeKind::Block));
        let folder = bench.mount(&db, "mnt");
        bench.snapshot(&db, "one");
        std::fs::write(folder.join("file"), vec![7; 4 << 20]).unwrap();
        rustix::fs::sync();
        let survey = bench.driver().survey().unwrap();
        assert_eq!((survey.snapshots, survey.unknown_images, survey.unlisted), (1, 0, 0));
        assert!(survey.reserve_bytes >= 8 * MIB);
        let [first, second] = survey.volumes.as_slice() else { panic!("{survey:?}") };
        assert_eq!((first.volume.id, first.snapshots), (db.id, 1));
        assert_eq!(first.volume.mounts[0].purpose, MountUse::Hand);
        let usage = first.usage.as_ref().unwrap();
        assert!(usage.used_bytes.unwrap() >= 4 << 20 && usage.total_bytes <= 64 * MIB, "{usage:?}");
        assert_eq!((second.volume.id, &second.usage), (raw.id, &None));
        assert!(first.last_freeze.is_some() && second.last_freeze.is_none());
        assert!(first.volume.extents.is_some_and(|extents| extents > 0));

        // One by one the driver says the same.
        for surveyed in &survey.volumes {
            let told = bench.driver().brief(surveyed.volume.id).unwrap();
            assert_eq!((&told.mounts, &told.device), (&surveyed.volume.mounts, &surveyed.volume.device));
        }
        let stray = format!("volumes/vol-{}.{}.img", "0".repeat(32), "0".repeat(16));
        std::fs::write(bench.driver().pool_root().join(stray), "").unwrap();
        assert_eq!(bench.driver().survey().unwrap().unknown_images, 1);
    }

    #[test]
    fn a_survey_does_not_wait_for_a_frozen_filesystem() {
        let Some(bench) = Bench::new() else { return };
        for (name, kind) in [("ext4", VolumeKind::Ext4), ("xfs", VolumeKind::Xfs)] {
            let volume = bench.create(name, 320, kind);
            let folder = bench.mount(&volume, name);
            let open = std::fs::File::open(&folder).unwrap();
            crate::sys::freeze(&open).unwrap();
            let began = Instant::now();
            let survey = bench.driver().survey();
            // Before anything can fail: a filesystem that stays frozen holds up the whole machine's tests.
            crate::sys::thaw(&open).unwrap();
            assert!(began.elapsed() < Duration::from_secs(30));
            let survey = survey.unwrap();
            let seen = survey.volumes.iter().find(|surveyed| surveyed.volume.id == volume.id).unwrap();
            assert!(seen.usage.is_some(), "{name}");
        }
    }
}
