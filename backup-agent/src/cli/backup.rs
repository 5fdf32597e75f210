//! `strongroom backup`: now, by hand.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::Subcommand;
use futures::StreamExt as _;
use serde::Serialize;
use strongroom_console::{Console, Exit, Failed, Size, Table, Text, TimeSpan, local_and_utc};
use strongroom_model::{Failure, Remedy, VolumeName, World, chain};
use strongroom_settings::{
    AgentConfig, OpenedRepository, RepositoryArgs, RepositorySettings, open_repository,
};
use tokio_util::sync::CancellationToken;

use super::signals::stopped_by_signals;
use crate::capture::{Budget, CaptureError};
use crate::databases::Databases;
use crate::driver::Driver;
use crate::policy::Policies;
use crate::run::{Agent, BackupError, BackupReport, Mode, Target, back_up};

/// `strongroom backup …`
#[derive(Debug, Subcommand)]
pub enum BackupCommand {
    /// Back up the driver's volumes that policies cover, or one volume
    Run(RunArgs),
    /// Back up an image file or a block device, without a driver
    Image(ImageArgs),
}

/// `strongroom backup run`
#[derive(Debug, clap::Args)]
pub struct RunArgs {
    #[command(flatten)]
    repository: RepositoryArgs,
    /// Only this volume, whether a policy covers it or not
    #[arg(long, value_name = "NAME")]
    volume: Option<VolumeName>,
    /// The storage class of new data packs in S3, such as STANDARD_IA
    #[arg(long, value_name = "CLASS")]
    storage_class: Option<String>,
}

/// `strongroom backup image`
#[derive(Debug, clap::Args)]
pub struct ImageArgs {
    #[command(flatten)]
    repository: RepositoryArgs,
    /// The name under which the recovery points are kept
    #[arg(long, value_name = "NAME")]
    volume: VolumeName,
    /// The image file or block device; nobody may write to it meanwhile
    #[arg(value_name = "PATH")]
    path: PathBuf,
    /// The storage class of new data packs in S3, such as STANDARD_IA
    #[arg(long, value_name = "CLASS")]
    storage_class: Option<String>,
}

/// Why nothing could be backed up.
#[derive(Debug, thiserror::Error)]
pub(super) enum RunError {
    #[error("`backup run` needs a configuration file")]
    NoConfig,
    #[error("the configuration names no driver")]
    NoDriver,
    #[error("the driver has no volume {volume}")]
    NoVolume { volume: VolumeName },
    #[error("{failed} of {all} backups failed; the first, of {volume}: {first}")]
    Some { failed: usize, all: usize, volume: VolumeName, first: String, remedy: Remedy },
}

impl Failure for RunError {
    fn code(&self) -> &'static str {
        match self {
            Self::NoConfig => "config.none",
            Self::NoDriver => "config.no-driver",
            Self::NoVolume { .. } => "volume.none",
            Self::Some { .. } => "backup.some-failed",
        }
    }

    fn remedy(&self) -> Remedy {
        match self {
            Self::Some { remedy, .. } => *remedy,
            _ => Remedy::FixRequest,
        }
    }

    fn advice(&self) -> String {
        match self {
            Self::NoConfig => "Name it with --config or STRONGROOM_CONFIG.".into(),
            Self::NoDriver => {
                "Write [driver] endpoint = \"unix:///run/strongroom/csi.sock\" into it; without a driver use `strongroom backup image`."
                    .into()
            }
            Self::NoVolume { .. } => "`strongroom volume list` shows the volumes that there are.".into(),
            Self::Some { .. } => "The lines above say what failed and what to do for each.".into(),
        }
    }
}

pub(super) async fn run(command: BackupCommand, console: &Console, world: &World) -> Result<Exit, Failed> {
    let cancel = stopped_by_signals();
    match command {
        BackupCommand::Image(args) => image(args, console, world, &cancel).await,
        BackupCommand::Run(args) => run_volumes(args, console, world, &cancel).await,
    }
}

/// The agent as the settings describe it, doing `jobs` backups side by side.
pub(super) fn agent_of(
    settings: &RepositorySettings,
    opened: OpenedRepository,
    config: &AgentConfig,
    databases: Databases,
    jobs: u32,
    world: &World,
) -> Agent {
    let options = settings.open_options();
    Agent {
        repository: opened.repository,
        counts: opened.counts,
        world: world.clone(),
        name: options.agent,
        state_dir: options.state_dir,
        budget: Budget::shared(config.memory_budget.bytes(), jobs.into()),
        stall_after: config.stall_after.get(),
        databases,
    }
}

async fn image(
    args: ImageArgs,
    console: &Console,
    world: &World,
    cancel: &CancellationToken,
) -> Result<Exit, Failed> {
    let (settings, config) = args.repository.resolve_with_config()?;
    let config = config.map_or_else(AgentConfig::default, |config| config.agent);
    let settings = settings.limited(&config, console.time_zone()).in_class(args.storage_class);
    let agent = agent_of(
        &settings,
        open_repository(&settings, world).await?,
        &config,
        Databases::default(),
        1,
        world,
    );
    let progress = console.progress(args.volume.as_str(), None);
    let done = back_up(&agent, &Target::Image(args.volume, args.path), &progress, cancel).await;
    progress.finish();
    let report = done.map_err(failed)?;
    console.result(&report, |text| say(text, &report, console));
    Ok(Exit::Done)
}

/// What `backup run` did.
#[derive(Debug, Serialize)]
struct Runs {
    backups: Vec<BackupReport>,
    failed: Vec<FailedRun>,
    /// Volumes that no policy covers, and that were not asked for.
    not_protected: Vec<VolumeName>,
}

#[derive(Debug, Serialize)]
struct FailedRun {
    volume: VolumeName,
    code: &'static str,
    message: String,
    advice: String,
}

async fn run_volumes(
    args: RunArgs,
    console: &Console,
    world: &World,
    cancel: &CancellationToken,
) -> Result<Exit, Failed> {
    let (settings, config) = args.repository.resolve_with_config()?;
    let (Some(config), Some(path)) = (config, &args.repository.config) else {
        return Err(RunError::NoConfig.into());
    };
    let settings = settings.limited(&config.agent, console.time_zone()).in_class(args.storage_class);
    let policies = Policies::new(&config, path, console.time_zone(), world.clock.now())?;
    let endpoint = config.driver.as_ref().ok_or(RunError::NoDriver)?;
    let driver = Driver::connect(&endpoint.endpoint).await?;
    let volumes = driver.volumes().await?;
    let (chosen, rest): (Vec<_>, Vec<_>) = volumes.into_iter().partition(|volume| match &args.volume {
        Some(name) => volume.name == *name,
        None => policies.covering(volume.name.as_str(), &volume.labels).is_some(),
    });
    if let (Some(volume), true) = (&args.volume, chosen.is_empty()) {
        return Err(RunError::NoVolume { volume: volume.clone() }.into());
    }
    let all = chosen.len();
    let jobs = config.agent.jobs.get().min(u32::try_from(all).unwrap_or(u32::MAX)).max(1);
    let agent = Arc::new(agent_of(
        &settings,
        open_repository(&settings, world).await?,
        &config.agent,
        Databases::new(&config),
        jobs,
        world,
    ));
    let runs = chosen.into_iter().map(|volume| {
        let (agent, driver, console, cancel) =
            (Arc::clone(&agent), driver.clone(), console.clone(), cancel.clone());
        async move {
            let progress = console.progress(volume.name.as_str(), None);
            let name = volume.name.clone();
            let done = back_up(&agent, &Target::Volume(driver, volume), &progress, &cancel).await;
            progress.finish();
            (name, done)
        }
    });
    let done: Vec<_> =
        futures::stream::iter(runs).buffer_unordered(usize::try_from(jobs).unwrap_or(1)).collect().await;

    let not_protected =
        if args.volume.is_some() { Vec::new() } else { rest.into_iter().map(|volume| volume.name).collect() };
    let mut runs = Runs { backups: Vec::new(), failed: Vec::new(), not_protected };
    let mut first: Option<BackupError> = None;
    for (volume, done) in done {
        match done {
            Ok(report) => runs.backups.push(report),
            Err(error) => {
                let (code, message, advice) = (error.code(), chain(&error), error.advice());
                console.warn(format_args!("{volume}: {message} [{code}] {advice}"));
                runs.failed.push(FailedRun { volume, code, message, advice });
                first.get_or_insert(error);
            }
        }
    }
    match (first, runs.failed.first()) {
        (Some(only), _) if all == 1 => return Err(failed(only)),
        (Some(error), Some(run)) => {
            let (volume, first, remedy) = (run.volume.clone(), run.message.clone(), error.remedy());
            // What did succeed is told all the same.
            for report in &runs.backups {
                console.talk(format_args!("backed up {}: {}", report.volume, report.point));
            }
            return Err(RunError::Some { failed: runs.failed.len(), all, volume, first, remedy }.into());
        }
        _ => {}
    }
    console.result(&runs, |text| {
        if let [report] = &runs.backups[..] {
            say(text, report, console);
        } else {
            text.table(&table(&runs.backups));
        }
        for name in &runs.not_protected {
            text.line(format_args!("{name} is NOT PROTECTED: no policy covers it"));
        }
    });
    Ok(Exit::Done)
}

fn failed(error: BackupError) -> Failed {
    match error {
        BackupError::Capture(CaptureError::Cancelled) => Failed::with_exit(error, Exit::Interrupted),
        error => error.into(),
    }
}

fn table(reports: &[BackupReport]) -> Table {
    let mut table =
        Table::new(["VOLUME", "POINT", "HOW", "SCANNED", "CHANGED", "NEW", "SENT", "REQUESTS", "TOOK"])
            .right([3, 4, 5, 6, 7, 8]);
    for report in reports {
        table.row([
            report.volume.to_string(),
            report.point.to_string(),
            how(report.mode).to_owned(),
            Size(report.tally.scanned_bytes).to_string(),
            Size(report.tally.changed_bytes).to_string(),
            Size(report.tally.new_bytes).to_string(),
            Size(report.sent_bytes).to_string(),
            report.requests.to_string(),
            TimeSpan(Duration::from_millis(report.duration_ms)).to_string(),
        ]);
    }
    table
}

const fn how(mode: Mode) -> &'static str {
    match mode {
        Mode::Full => "full",
        Mode::Compared => "compared by hash",
        Mode::Incremental => "incremental",
        Mode::Unchanged => "unchanged",
    }
}

fn say(text: &mut Text<'_>, report: &BackupReport, console: &Console) {
    let tally = &report.tally;
    text.facts([
        ("volume", report.volume.to_string()),
        ("point", report.point.to_string()),
        ("taken", local_and_utc(report.taken_at, console.time_zone())),
        ("how", how(report.mode).to_owned()),
        ("size", Size(report.volume_bytes).to_string()),
        ("scanned", Size(tally.scanned_bytes).to_string()),
        ("changed", Size(tally.changed_bytes).to_string()),
        ("new", Size(tally.new_bytes).to_string()),
        ("sent", Size(report.sent_bytes).to_string()),
        ("requests", report.requests.to_string()),
        ("took", TimeSpan(Duration::from_millis(report.duration_ms)).to_string()),
        ("record", format!("{} {}", report.record, report.record_hash)),
    ]);
}
