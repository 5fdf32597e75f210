//! The plan as a person sees it: what is kept, what is lost, from what, and how long it takes.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::Serialize;
use strongroom_archive::{ArchiveError, DatabaseArchive};
use strongroom_console::{Size, TimeSpan};
use strongroom_database::{Base, Commit, LineageId, Plan, Position, Stop, Target, Wanted, Window, windows};
use strongroom_model::VolumeName;

/// The plan of a restore of a database, in short.
#[derive(Debug, Clone, Serialize)]
pub struct Shown {
    /// The database.
    pub database: String,
    /// The volume on which it lies.
    pub volume: VolumeName,
    /// The volume that is made.
    pub target: VolumeName,
    /// What was asked for.
    pub wanted: Wanted,
    /// In what stretches every second can be restored.
    pub windows: Vec<Window>,
    /// From where it is replayed.
    pub base: Base,
    /// The history in which it ends.
    pub lineage: LineageId,
    /// What begins before this position is in.
    pub cut: Position,
    /// How the engine is told.
    pub stop: Stop,
    /// The last commit that is in.
    pub last_kept: Option<Commit>,
    /// The first that is not.
    pub first_dropped: Option<Commit>,
    /// How many are not: what is lost against now.
    pub dropped_commits: u64,
    /// Of them, those stamped at or before the time that was asked for.
    pub stragglers: u64,
    /// All of this history is known up to this time.
    pub known_until: Timestamp,
    /// How many bundles are read.
    pub bundles: usize,
    /// How many bytes they have.
    pub log_bytes: u64,
    /// How many bytes of log are replayed.
    pub replay_bytes: u64,
    /// About how long it takes.
    pub estimated_seconds: u64,
}

impl Shown {
    /// What is to be shown of a plan.
    pub(super) async fn of(
        archive: &Arc<DatabaseArchive>,
        volume: &VolumeName,
        target: &VolumeName,
        wanted: &Wanted,
        plan: &Plan,
    ) -> Result<Self, ArchiveError> {
        Ok(Self {
            database: archive.database().to_owned(),
            volume: volume.clone(),
            target: target.clone(),
            wanted: wanted.clone(),
            windows: windows(archive.catalogue(), plan.lineage),
            base: plan.base.clone(),
            lineage: plan.lineage,
            cut: plan.cut,
            stop: plan.stop,
            last_kept: whole(archive, plan.last_kept).await?,
            first_dropped: whole(archive, plan.first_dropped).await?,
            dropped_commits: plan.dropped_commits,
            stragglers: plan.stragglers,
            known_until: plan.known_until,
            bundles: plan.log.len(),
            log_bytes: plan.log_bytes,
            replay_bytes: plan.replay_bytes,
            estimated_seconds: plan.estimated.as_secs(),
        })
    }

    /// For a person.
    #[must_use]
    pub fn text(&self, zone: &TimeZone) -> String {
        let mut text = String::new();
        // Writing to a String cannot fail.
        let _ = self.write(&mut text, zone);
        text
    }

    fn write(&self, text: &mut String, zone: &TimeZone) -> std::fmt::Result {
        writeln!(
            text,
            "Restore {} of volume {} to {}",
            self.database,
            self.volume,
            asked(&self.wanted.target, zone)
        )?;
        for window in &self.windows {
            let (from, to) = (precise(window.earliest.at, zone), precise(window.latest.at, zone));
            writeln!(text, "  every second      {from} to {to}")?;
        }
        writeln!(text, "  last kept         {}", commit(self.last_kept.as_ref(), zone))?;
        writeln!(text, "  first dropped     {}", commit(self.first_dropped.as_ref(), zone))?;
        let since = self.last_kept.map_or(self.base.ready_at, |kept| kept.at);
        let span = Duration::try_from(self.known_until.duration_since(since)).unwrap_or_default();
        let span = Duration::from_secs(span.as_secs());
        writeln!(text, "  lost against now  {} commits of {}", self.dropped_commits, TimeSpan(span))?;
        if self.stragglers > 0 {
            let count = self.stragglers;
            writeln!(
                text,
                "                    {count} of them are stamped earlier, but come later in the log"
            )?;
        }
        writeln!(
            text,
            "  base              {} of {}",
            self.base.stands_on,
            precise(self.base.ready_at, zone)
        )?;
        writeln!(
            text,
            "  log               {} in {} bundles, replayed: {}, up to {} of lineage {}",
            Size(self.log_bytes),
            self.bundles,
            Size(self.replay_bytes),
            self.cut,
            self.lineage
        )?;
        writeln!(text, "  to                new volume {}; the live one is not touched", self.target)?;
        write!(text, "  takes about       {}", TimeSpan(Duration::from_secs(self.estimated_seconds)))
    }
}

/// The commit as its index has it: the journal has no room for what it did.
async fn whole(
    archive: &Arc<DatabaseArchive>,
    commit: Option<Commit>,
) -> Result<Option<Commit>, ArchiveError> {
    let Some(commit) = commit else { return Ok(None) };
    for range in
        archive.catalogue().log.iter().filter(|range| range.from < commit.end && commit.end <= range.to)
    {
        let index = archive.index(range).await?;
        let same = |one: &Commit| one.start == commit.start && one.transaction == commit.transaction;
        if let Some(found) = index.commits().into_iter().find(same) {
            return Ok(Some(found));
        }
    }
    Ok(Some(commit))
}

pub(super) fn asked(target: &Target, zone: &TimeZone) -> String {
    match target {
        Target::Time(at) => format!("{} ({at})", precise(*at, zone)),
        Target::Position(position) => format!("position {position}"),
        Target::Transaction(id, strongroom_database::Side::Before) => format!("just before transaction {id}"),
        Target::Transaction(id, strongroom_database::Side::After) => format!("just after transaction {id}"),
        Target::Named(name) => format!("restore point {name:?}"),
        Target::Latest => "the newest state".to_owned(),
    }
}

pub(super) fn commit(commit: Option<&Commit>, zone: &TimeZone) -> String {
    commit.map_or_else(
        || "-".to_owned(),
        |commit| {
            format!("{}  transaction {}: {}", precise(commit.at, zone), commit.transaction, commit.changes)
        },
    )
}

/// To the thousandth, since between two commits there may be no more.
pub(super) fn precise(at: Timestamp, zone: &TimeZone) -> String {
    at.to_zoned(zone.clone()).strftime("%Y-%m-%d %H:%M:%S%.3f %Z").to_string()
}
