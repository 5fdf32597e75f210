//! `strongroom status`: is every volume protected?

use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use strongroom_console::{Console, Exit, Failed, Size, Table, TimeSpan, local};
use strongroom_model::{Failure as _, World, chain};
use strongroom_repository::check::{LeftHold, Proof};
use strongroom_settings::{OpenedRepository, RepositoryArgs, RestoreTestConfig, open_repository};

use super::backup::RunError;
use super::check::{left_hold, proof as proof_text};
use super::db::{assess_all, proven};
use crate::copies::{Copy, CopyStatus};
use crate::databases::Databases;
use crate::databases::proving::stale_after;
use crate::databases::view::DatabaseStatus;
use crate::driver::{Driver, DriverError, Volume};
use crate::policy::Policies;
use crate::status::{Health, VolumeStatus, Whereabouts, assess, locks, stored_data, worst};

/// `strongroom status`
#[derive(Debug, clap::Args)]
pub struct StatusArgs {
    #[command(flatten)]
    repository: RepositoryArgs,
    /// Show only volumes that are not protected; exit 2 when there is one, else 0
    #[arg(long)]
    unprotected: bool,
}

#[derive(Debug, Serialize)]
struct Status {
    health: Health,
    computed_at: Timestamp,
    repository: String,
    /// What is wrong with the whole, one sentence each.
    problems: Vec<String>,
    volumes: Vec<VolumeStatus>,
    /// The databases whose log is archived, and what can be restored of them.
    databases: Vec<DatabaseStatus>,
    /// The second copies that the configuration names.
    copies: Vec<CopyStatus>,
    /// How far the stored data is proved.
    proof: Proof,
    /// Holds of restores that may have been killed.
    holds: Vec<LeftHold>,
}

pub(super) async fn run(args: StatusArgs, console: &Console, world: &World) -> Result<Exit, Failed> {
    let (settings, config) = args.repository.resolve_with_config()?;
    let (Some(config), Some(path)) = (config, &args.repository.config) else {
        return Err(RunError::NoConfig.into());
    };
    let now = world.clock.now();
    let policies = Arc::new(Policies::new(&config, path, console.time_zone(), now)?);
    let all_copies = Copy::all(&settings, Some(&policies), world).await?;
    let OpenedRepository { repository, store, .. } = open_repository(&settings, world).await?;
    let fold = repository.fold().await?;

    let mut problems = repository.head().abilities.warnings();
    let mut health = Health::Healthy;
    let proof = Proof::of(&fold);
    let stored = stored_data(&proof, &fold, config.check.as_ref(), now);
    if !stored.is_empty() {
        health = Health::AtRisk;
        problems.extend(stored);
    }
    if let Some(state) = repository.lock_state(&store).await?
        && let Some(problem) = locks(&state)
    {
        health = Health::AtRisk;
        problems.push(format!("{}: {problem}", repository.location()));
    }
    let holds = repository.left_holds().await;
    let driver = match &config.driver {
        None => None,
        Some(driver) => match volumes(&driver.endpoint).await {
            Ok(answer) => Some(answer),
            Err(error) => {
                // Without the driver nobody knows which volumes there are, so nobody can say that all is well.
                problems.push(format!("{} [{}] {}", chain(&error), error.code(), error.advice()));
                health = Health::AtRisk;
                None
            }
        },
    };
    let known = driver.as_ref().map(|(node, volumes)| (node.as_str(), &volumes[..]));
    let mut volumes = assess(&fold, known, &policies, now);
    health = health.max(worst(&volumes));
    if args.unprotected {
        volumes.retain(|volume| volume.health == Health::Unprotected);
        health = if driver.is_none() && config.driver.is_some() { health } else { worst(&volumes) };
    }
    let mut copies = Vec::new();
    for copy in &all_copies {
        copies.push(copy.status(&repository, &fold, now).await);
    }
    if !args.unprotected {
        health = copies.iter().map(|copy| copy.health).fold(health, Health::max);
    }
    let mut databases = assess_all(&repository, &fold, now).await?;
    if !args.unprotected {
        let configured = Databases::new(&config);
        for database in configured.iter() {
            match databases.iter_mut().find(|found| found.database == database.name) {
                Some(found) => {
                    found.problems.extend(stale(found, now));
                    found.problems.extend(unproven(found, database.test.as_ref(), now));
                }
                None => problems.push(format!("database {}: nothing of its log is archived", database.name)),
            }
        }
        let known = |database: &DatabaseStatus| configured.iter().any(|one| one.name == database.database);
        // What nobody archives any more is kept, and is no risk.
        let is_at_risk = databases.iter().any(|one| known(one) && !one.problems.is_empty());
        let is_missing =
            configured.iter().any(|one| !databases.iter().any(|found| found.database == one.name));
        if is_at_risk || is_missing {
            health = health.max(Health::AtRisk);
        }
    }
    let location = repository.location();
    let status = Status {
        health,
        computed_at: now,
        repository: location,
        problems,
        volumes,
        databases,
        copies,
        proof,
        holds,
    };
    console.result(&status, |text| {
        if status.volumes.is_empty() {
            text.line(if args.unprotected {
                "Every volume is protected."
            } else {
                "There are no volumes and no recovery points."
            });
        } else {
            text.table(&table(&status.volumes, now, console));
        }
        for volume in &status.volumes {
            for problem in &volume.problems {
                text.line(format_args!("{}: {problem}", volume.volume));
            }
        }
        for database in status.databases.iter().filter(|_| !args.unprotected) {
            text.line(line_of_database(database, console));
        }
        for copy in status.copies.iter().filter(|_| !args.unprotected) {
            text.line(line_of(copy));
        }
        for problem in &status.problems {
            text.line(problem);
        }
        if !args.unprotected {
            for hold in &status.holds {
                text.line(left_hold(hold, console));
            }
            if status.proof.packs > 0 {
                text.line(proof_text(&status.proof, console));
            }
            text.line(summary(&status.volumes));
        }
    });
    Ok(match status.health {
        Health::Healthy => Exit::Done,
        Health::AtRisk => Exit::AtRisk,
        Health::Unprotected => Exit::Unprotected,
    })
}

/// An idle database is heard of every quarter of an hour.
const STALE: SignedDuration = SignedDuration::from_mins(30);

/// A log that nobody archives any more, or that cannot be.
fn stale(database: &DatabaseStatus, now: Timestamp) -> Option<String> {
    let until = database.log_until_at?;
    (now.duration_since(until) > STALE).then(|| {
        format!("nothing of its log came in since {until}: see the agent's log, and whether the server runs")
    })
}

/// A database that was to be proved by now: whoever should have done it did not.
fn unproven(database: &DatabaseStatus, rules: Option<&RestoreTestConfig>, now: Timestamp) -> Option<String> {
    let patience = stale_after(rules?);
    let since = match &database.last_proven_restore {
        Some(proven) => proven.at,
        None => database.windows.first()?.earliest.at,
    };
    (now.duration_since(since) > patience)
        .then(|| format!("no restore of it was proven since {since}: see the agent's log"))
}

fn line_of_database(database: &DatabaseStatus, console: &Console) -> String {
    let window = database.windows.last().map_or_else(
        || "nothing can be restored to a second yet".to_owned(),
        |window| {
            let (from, to) = (window.earliest.at, window.latest.at);
            let zone = console.time_zone();
            format!("every second from {} to {}", local(from, zone), local(to, zone))
        },
    );
    let mark = if database.problems.is_empty() { "" } else { " !!" };
    let problems: String = database.problems.iter().map(|problem| format!("; {problem}")).collect();
    let proven = proven(database, console);
    format!("database {}: {window}; last proven restore: {proven}{mark}{problems}", database.database)
}

fn line_of(copy: &CopyStatus) -> String {
    let lag = match (copy.points_behind, copy.behind_seconds) {
        (Some(0), _) => "up to date".to_owned(),
        (Some(points), Some(seconds)) => format!("{points} points behind, for {}", span(seconds, 1)),
        _ => "unknown".to_owned(),
    };
    let mark = if copy.health == Health::Healthy { "" } else { " !!" };
    let problems: String = copy.problems.iter().map(|problem| format!("; {problem}")).collect();
    format!("copy {} ({}): {lag}{mark}{problems}", copy.copy, copy.location)
}

async fn volumes(endpoint: &str) -> Result<(String, Vec<Volume>), DriverError> {
    let driver = Driver::connect(endpoint).await?;
    let volumes = driver.volumes().await?;
    Ok((driver.node().to_owned(), volumes))
}

fn table(volumes: &[VolumeStatus], now: Timestamp, console: &Console) -> Table {
    let mut table =
        Table::new(["VOLUME", "POLICY", "LAST POINT", "RPO NOW / GOAL", "SIZE", "STORED", "NEXT RUN"])
            .right([4, 5]);
    for volume in volumes {
        let policy = match (&volume.policy, volume.whereabouts) {
            (Some(policy), _) => policy.clone(),
            (None, Whereabouts::Driver) => "NOT PROTECTED".into(),
            (None, Whereabouts::Gone) => "- (deleted)".into(),
            (None, Whereabouts::Elsewhere | Whereabouts::Image) => "-".into(),
        };
        let goal = volume.rpo_goal_seconds.map_or_else(|| "-".into(), |seconds| span(seconds, 1));
        let age = volume
            .rpo_now_seconds
            .map_or_else(|| "-".into(), |seconds| span(seconds, if seconds < 3600 { 1 } else { 60 }));
        let late = volume.policy.is_some() && volume.health != Health::Healthy;
        table.row([
            volume.volume.to_string(),
            policy,
            volume.last_taken_at.map_or_else(|| "never".into(), |at| local(at, console.time_zone())),
            format!("{age} / {goal}{}", if late { " !!" } else { "" }),
            Size(volume.volume_bytes).to_string(),
            Size(volume.stored_bytes).to_string(),
            match (volume.next_run_at, volume.whereabouts) {
                (Some(at), _) if at <= now => "now".into(),
                (Some(at), _) => local(at, console.time_zone()),
                (None, Whereabouts::Image) => "by hand".into(),
                (None, _) => "-".into(),
            },
        ]);
    }
    table
}

/// A length of time, without what is smaller than `step` seconds.
fn span(seconds: u64, step: u64) -> String {
    match seconds / step * step {
        0..60 => format!("{seconds} s"),
        whole => TimeSpan(Duration::from_secs(whole)).to_string(),
    }
}

fn summary(volumes: &[VolumeStatus]) -> String {
    let count = |health| volumes.iter().filter(|volume| volume.health == health).count();
    format!(
        "{} healthy, {} at risk, {} not protected",
        count(Health::Healthy),
        count(Health::AtRisk),
        count(Health::Unprotected)
    )
}
