//! A survey, written down as metrics. docs/metrics.md explains each; a test compares the two.

use std::fmt;
use std::time::Duration;

use strongroom_monitoring::{Page, Sample};

use crate::driver::{Survey, SurveyedVolume};
use crate::{MountUse, VolumeState};

/// What is known without looking.
pub(super) fn process(page: &mut Page<'_>, node: &str, findings: usize, uptime: Duration) -> fmt::Result {
    page.gauges(
        "strongroom_driver_info",
        "Always 1; its labels say which driver this is",
        [(vec![("version", env!("CARGO_PKG_VERSION")), ("node", node)], 1.0)],
    )?;
    page.gauge(
        "strongroom_driver_uptime_seconds",
        "How long the driver has been running",
        uptime.as_secs_f64(),
    )?;
    page.gauge(
        "strongroom_driver_start_findings",
        "How many things the driver found not to agree when it started, most of which it mended",
        findings as f64,
    )
}

/// How old the survey is.
pub(super) fn freshness(page: &mut Page<'_>, age: Duration, took: Duration) -> fmt::Result {
    page.gauge(
        "strongroom_driver_survey_age_seconds",
        "How old the figures of pool and volumes are; grows while a filesystem does not answer",
        age.as_secs_f64(),
    )?;
    page.gauge(
        "strongroom_driver_survey_duration_seconds",
        "How long gathering them took",
        took.as_secs_f64(),
    )
}

pub(super) fn survey(page: &mut Page<'_>, survey: &Survey) -> fmt::Result {
    pool(page, survey)?;
    each(page, survey)
}

fn pool(page: &mut Page<'_>, survey: &Survey) -> fmt::Result {
    let room = &survey.capacity;
    let mut bytes = |name: &str, help: &str, value: u64| page.gauge(name, help, value as f64);
    bytes("strongroom_driver_pool_bytes", "Size of the pool", room.pool_bytes)?;
    bytes("strongroom_driver_pool_used_bytes", "What is taken in the pool", room.used_bytes)?;
    bytes(
        "strongroom_driver_pool_high_water_bytes",
        "New volumes and snapshots are refused when more than this is taken",
        room.high_water_bytes,
    )?;
    bytes(
        "strongroom_driver_pool_reserve_bytes",
        "Space that is kept back so that deleting works when all else is full",
        survey.reserve_bytes,
    )?;
    bytes(
        "strongroom_driver_pool_provisioned_bytes",
        "Sum of the sizes of all volumes",
        room.provisioned_bytes,
    )?;
    bytes("strongroom_driver_pool_provisionable_bytes", "What that sum may reach", room.provisionable_bytes)?;
    bytes(
        "strongroom_driver_pool_largest_new_volume_bytes",
        "The largest volume that would be created now; 0: none",
        room.available_bytes,
    )?;
    page.gauge(
        "strongroom_driver_pool_condition",
        "1: something is wrong with the pool, such as being above its high-water mark; 0: nothing is",
        truth(room.condition.is_some()),
    )?;
    let in_state = |state: VolumeState| {
        survey.volumes.iter().filter(|surveyed| surveyed.volume.state == state).count() as f64
    };
    page.gauges(
        "strongroom_driver_volumes",
        "Volumes by state",
        [
            (vec![("state", "ready")], in_state(VolumeState::Ready)),
            (vec![("state", "hydrating")], in_state(VolumeState::Hydrating)),
        ],
    )?;
    page.gauge(
        "strongroom_driver_volumes_unlisted",
        "Volumes beyond the number that is listed one by one",
        survey.unlisted as f64,
    )?;
    page.gauge("strongroom_driver_snapshots", "Snapshots of all volumes", survey.snapshots as f64)?;
    page.gauge(
        "strongroom_driver_unknown_images",
        "Images in the pool that no volume and no snapshot owns: something leaked",
        survey.unknown_images as f64,
    )?;
    page.gauge(
        "strongroom_driver_undelivered_backups",
        "Snapshots of type backup that are not recovery points yet",
        survey.undelivered as f64,
    )?;
    page.gauge(
        "strongroom_driver_oldest_undelivered_backup_seconds",
        "How long the oldest of them has waited for the agent",
        survey.oldest_undelivered.as_secs_f64(),
    )
}

fn each(page: &mut Page<'_>, survey: &Survey) -> fmt::Result {
    let volumes = || survey.volumes.iter();
    page.gauges(
        "strongroom_volume_info",
        "Always 1; its labels say which volume this is",
        volumes().map(|surveyed| (surveyed.identity(), 1.0)),
    )?;
    let mut family = |name: &str, help: &str, value: &dyn Fn(&SurveyedVolume) -> Option<f64>| {
        let sample = |surveyed| Some(named(surveyed, value(surveyed)?));
        page.gauges(name, help, volumes().filter_map(sample))
    };
    family("strongroom_volume_bytes", "Size of the volume", &|one| Some(one.volume.bytes as f64))?;
    family(
        "strongroom_volume_allocated_bytes",
        "What its image takes in the pool, blocks shared with snapshots included",
        &|one| Some(one.volume.allocated_bytes as f64),
    )?;
    family("strongroom_volume_condition", "1: something is wrong with the volume; 0: nothing is", &|one| {
        Some(truth(one.volume.condition.is_some()))
    })?;
    family("strongroom_volume_snapshots", "Snapshots of the volume", &|one| Some(one.snapshots as f64))?;
    family(
        "strongroom_volume_extents",
        "In how many extents its image lay when they were last counted",
        &|one| one.volume.extents.map(|extents| extents as f64),
    )?;
    family("strongroom_volume_last_freeze_seconds", "How long the last snapshot held up writing", &|one| {
        one.last_freeze.map(|freeze| freeze.as_secs_f64())
    })?;
    family("strongroom_volume_filesystem_bytes", "Size of its filesystem, while it is mounted", &|one| {
        one.usage.as_ref().map(|usage| usage.total_bytes as f64)
    })?;
    family("strongroom_volume_used_bytes", "What is used in its filesystem, while it is mounted", &|one| {
        one.usage.as_ref()?.used_bytes.map(|bytes| bytes as f64)
    })?;
    family(
        "strongroom_volume_available_bytes",
        "What can still be written to its filesystem, while it is mounted",
        &|one| one.usage.as_ref()?.available_bytes.map(|bytes| bytes as f64),
    )?;
    family("strongroom_volume_inodes", "Inodes of its filesystem, while it is mounted", &|one| {
        one.usage.as_ref()?.inodes.map(|(all, _, _)| all as f64)
    })?;
    family("strongroom_volume_inodes_used", "Inodes that are used, while it is mounted", &|one| {
        one.usage.as_ref()?.inodes.map(|(_, used, _)| used as f64)
    })?;
    let mounts = |one| {
        [(MountUse::Staged, "staged"), (MountUse::Published, "published"), (MountUse::Hand, "hand")].map(
            |(purpose, name)| {
                let (mut labels, count) = named(one, count_mounts(one, purpose));
                labels.push(("use", name));
                (labels, count)
            },
        )
    };
    page.gauges("strongroom_volume_mounts", "In how many places the volume is", volumes().flat_map(mounts))
}

fn named(surveyed: &SurveyedVolume, value: f64) -> Sample<'_> {
    (vec![("volume", surveyed.volume.name.as_str())], value)
}

fn count_mounts(surveyed: &SurveyedVolume, purpose: MountUse) -> f64 {
    surveyed.volume.mounts.iter().filter(|mount| mount.purpose == purpose).count() as f64
}

const fn truth(is: bool) -> f64 {
    if is { 1.0 } else { 0.0 }
}
