//! The flags of `strongroom driver` that say how far the pool may be filled.

use std::time::Duration;

use clap::Args;

use crate::{Limits, Reserve, WhenFull};

/// How far the pool may be filled, and what happens then.
#[derive(Debug, Args)]
#[command(next_help_heading = "Limits of the pool")]
pub struct LimitArgs {
    /// Refuse new volumes, snapshots and growth when more than this share of the pool is taken
    #[arg(long, value_name = "PERCENT", env = "STRONGROOM_HIGH_WATER_PERCENT", default_value_t = 90,
        value_parser = clap::value_parser!(u8).range(1..=100))]
    pub high_water_percent: u8,
    /// How far the sizes of all volumes may add up, as a share of the pool; above 100 is overcommit
    #[arg(long, value_name = "PERCENT", env = "STRONGROOM_PROVISION_PERCENT", default_value_t = 400,
        value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub provision_percent: u32,
    /// What to keep back so that deleting works in a full pool: a size or a share, as in 2GiB or 3% [default: 1%, between
    /// 8MiB and 1GiB]
    #[arg(long, value_name = "SIZE|PERCENT", env = "STRONGROOM_RESERVE")]
    pub reserve: Option<Reserve>,
    /// What writers meet when the pool is full: `wait` (until space is freed) or `fail`
    #[arg(long, value_name = "WHAT", env = "STRONGROOM_WHEN_FULL", default_value = "wait")]
    pub when_full: WhenFull,
    /// How many seconds a filesystem may stay frozen for a snapshot; then it is thawed, and the snapshot fails
    #[arg(long, value_name = "SECONDS", env = "STRONGROOM_FREEZE_LIMIT", default_value_t = 30,
        value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub freeze_limit: u64,
    /// From how many extents on a volume's image is put in order after a snapshot, so that the next one is short; 0: never
    #[arg(long, value_name = "EXTENTS", env = "STRONGROOM_TIDY_ABOVE", default_value_t = 5000)]
    pub tidy_above: u64,
    /// Every how many days what is free inside mounted filesystems is given back to the pool; 0: never
    #[arg(long, value_name = "DAYS", env = "STRONGROOM_TRIM_DAYS", default_value_t = 7,
        value_parser = clap::value_parser!(u64).range(0..=365))]
    pub trim_days: u64,
}

impl LimitArgs {
    pub(super) fn limits(&self) -> Limits {
        Limits {
            high_water_percent: self.high_water_percent,
            provision_percent: self.provision_percent,
            reserve: self.reserve.unwrap_or(Reserve::Usual),
            when_full: self.when_full,
            freeze: Duration::from_secs(self.freeze_limit),
            tidy_above: self.tidy_above,
            trim_every: Duration::from_secs(self.trim_days * 24 * 3600),
            ..Limits::default()
        }
    }
}
