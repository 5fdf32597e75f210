//! The configuration file: one TOML file for the agent and for commands run by hand.
//!
//! These are the keys exactly as a person writes them; docs/config.md explains each. Nothing here is read from disk or
//! acted on. A key that does not exist is an error, never ignored: a misspelt `retain` must not keep nothing.

use std::fmt;
use std::num::NonZeroU32;
use std::path::PathBuf;

use jiff::tz::TimeZone;
use serde::Deserialize;
use strongroom_object_store::S3Settings;

use crate::{DatabaseConfig, Interval, LimitConfig, Selector, Share, Size, WindowConfig};

/// The whole file.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Where the recovery points go, and with which key.
    pub repository: RepositoryConfig,
    /// The volume driver, where there is one.
    pub driver: Option<DriverConfig>,
    /// The agent itself.
    pub agent: AgentConfig,
    /// Reading what is stored again, a part at a time. Without it nothing is read that no restore asks for.
    pub check: Option<CheckConfig>,
    /// Databases whose log is archived.
    #[serde(rename = "database")]
    pub databases: Vec<DatabaseConfig>,
    /// The policies in the order in which they are tried. None at all: every volume is protected daily.
    #[serde(rename = "policy")]
    pub policies: Vec<PolicyConfig>,
}

/// `[repository]`
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RepositoryConfig {
    /// `file:///path`, a bare path, or `s3://bucket/prefix`.
    pub url: Option<String>,
    /// The file that holds the key.
    pub key_file: Option<PathBuf>,
    /// The file that holds the passphrase of a key slot.
    pub passphrase_file: Option<PathBuf>,
    /// The key domain that it belongs to, where the repository is shared: another domain's key is refused.
    pub domain: Option<u32>,
    /// How to talk to S3. Credentials come by the SDK's usual chain, never from here.
    pub s3: Option<S3Settings>,
    /// Second copies of the whole repository, in the order in which they are read when the repository fails.
    pub copies: Vec<CopyConfig>,
}

/// One `[[repository.copies]]`
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CopyConfig {
    /// What people call it.
    pub name: String,
    /// Where it is.
    pub url: String,
    /// How to talk to its S3. Without it: as with that of the repository.
    pub s3: Option<S3Settings>,
    /// How long a recovery point may be missing in it before `status` says *at risk*.
    #[serde(default = "usual_lag")]
    pub max_lag: Interval,
}

/// A day: a night's copying may fail once and be made up for.
const fn usual_lag() -> Interval {
    Interval::seconds(24 * 3600)
}

/// `[driver]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DriverConfig {
    /// The driver's socket: `unix:///run/strongroom/csi.sock`.
    pub endpoint: String,
}

/// `[agent]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AgentConfig {
    /// Where the agent keeps what it can do without: caches, and the journals of running backups.
    pub state_dir: PathBuf,
    /// Where the agent answers questions about its health.
    pub socket: Option<PathBuf>,
    /// What all backups together may hold of volumes' bytes in memory.
    pub memory_budget: Size,
    /// How many volumes are backed up at once.
    pub jobs: NonZeroU32,
    /// A backup that moves nothing for this long has failed.
    pub stall_after: Interval,
    /// How often at most space is freed in the repository.
    pub sweep_every: Interval,
    /// Where the days of `limits` begin. The machine's own time zone by default.
    pub time_zone: Option<TimeZoneName>,
    /// How fast backups and copies may go over the line, by the time of day; the first that fits counts.
    pub limits: Vec<LimitConfig>,
}

impl Default for AgentConfig {
    fn default() -> Self {
        Self {
            state_dir: "/var/lib/strongroom/agent".into(),
            socket: None,
            memory_budget: Size::mib(128),
            jobs: NonZeroU32::new(2).expect("two is not zero"),
            // Long enough for a store's worst hiccup with all its retries, short enough to be red within minutes.
            stall_after: Interval::seconds(10 * 60),
            sweep_every: Interval::seconds(24 * 3600),
            time_zone: None,
            limits: Vec::new(),
        }
    }
}

/// `[check]`
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CheckConfig {
    /// How often.
    pub every: Interval,
    /// How much each time, of what was verified longest ago.
    pub share: Share,
}

impl Default for CheckConfig {
    fn default() -> Self {
        // All once in about a month.
        Self { every: Interval::seconds(24 * 3600), share: Share::percent(3) }
    }
}

/// One `[[policy]]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PolicyConfig {
    /// What people call it.
    pub name: Located<String>,
    /// Which volumes it covers; any of these is enough.
    pub volumes: Vec<Selector>,
    /// Five cron fields, or `@hourly`, `@daily` and the like.
    pub schedule: Located<String>,
    /// Where the schedule's and the retention's days begin. The machine's own time zone by default.
    pub time_zone: Option<TimeZoneName>,
    /// Each run starts up to this much later, always the same for the same volume and slot.
    pub jitter: Option<Interval>,
    /// When scheduled runs may begin, in the policy's time zone; none: at any time.
    #[serde(default)]
    pub windows: Vec<WindowConfig>,
    /// How old the newest point may become. By default: the longest gap of the schedule, the jitter, and an hour.
    pub rpo: Option<Interval>,
    /// What is kept.
    #[serde(default)]
    pub retain: RetainConfig,
    /// To which of the repository's copies the points of these volumes go. Without it: to all.
    pub copies: Option<Vec<String>>,
}

/// How many points a policy keeps; a point that any of the rules keeps is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RetainConfig {
    /// The newest.
    pub last: u32,
    /// The newest of each of the newest hours that have one.
    pub hourly: u32,
    /// The same with days.
    pub daily: u32,
    /// The same with weeks, which begin on Monday.
    pub weekly: u32,
    /// The same with months.
    pub monthly: u32,
    /// The same with years.
    pub yearly: u32,
    /// However few the rules keep: this many of the newest stay. At least one.
    pub min_good: NonZeroU32,
}

impl RetainConfig {
    /// What is kept where a policy does not say: three, a week of days, a month of weeks, a year of months.
    #[must_use]
    pub const fn usual() -> Self {
        Self {
            last: 3,
            hourly: 0,
            daily: 7,
            weekly: 4,
            monthly: 12,
            yearly: 0,
            min_good: NonZeroU32::new(2).expect("two is not zero"),
        }
    }

    /// Whether no rule keeps anything.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.last == 0
            && self.hourly == 0
            && self.daily == 0
            && self.weekly == 0
            && self.monthly == 0
            && self.yearly == 0
    }
}

/// The default of the keys left out of a `retain` that is there: none, but the floor.
///
/// A policy without `retain` has [`RetainConfig::usual`]; one that says `retain = { last = 5 }` means five.
impl Default for RetainConfig {
    fn default() -> Self {
        Self {
            last: 0,
            hourly: 0,
            daily: 0,
            weekly: 0,
            monthly: 0,
            yearly: 0,
            min_good: NonZeroU32::new(2).expect("two is not zero"),
        }
    }
}

/// A value and where in the file it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Located<T> {
    /// The value.
    pub value: T,
    /// Which line, counted from 1; 0 where it does not come from a file.
    pub line: usize,
    /// Which character of the line, counted from 1.
    pub column: usize,
    offset: usize,
}

impl<T> Located<T> {
    /// A value that does not come from a file.
    pub const fn built_in(value: T) -> Self {
        Self { value, line: 0, column: 0, offset: 0 }
    }

    pub(crate) fn locate(&mut self, text: &str) {
        (self.line, self.column) = crate::load::position(text, self.offset);
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Located<T> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let spanned = toml::Spanned::<T>::deserialize(deserializer)?;
        let offset = spanned.span().start;
        Ok(Self { value: spanned.into_inner(), line: 0, column: 0, offset })
    }
}

/// A time zone of the IANA database, looked up when the file is read.
#[derive(Clone, PartialEq)]
pub struct TimeZoneName(TimeZone);

impl TimeZoneName {
    /// The zone itself.
    #[must_use]
    pub const fn get(&self) -> &TimeZone {
        &self.0
    }
}

impl fmt::Debug for TimeZoneName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.iana_name().unwrap_or("UTC"))
    }
}

impl<'de> Deserialize<'de> for TimeZoneName {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        TimeZone::get(&name).map(Self).map_err(|_| {
            serde::de::Error::custom(format_args!(
                "{name:?} is no time zone that is known here; write it like \"Europe/Berlin\" or \"UTC\""
            ))
        })
    }
}
