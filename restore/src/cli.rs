//! The commands of restore: `restore plan`, `restore run`, `restore undo`.

use std::path::PathBuf;

use clap::{ArgGroup, Args, Subcommand};
use strongroom_console::{Console, Exit, Failed, Size};
use strongroom_model::{VolumeName, World};
use strongroom_settings::{
    Choice, Config, Moment, OpenedRepository, RepositoryArgs, open_repository_to_read,
};

use crate::driver::Driver;
use crate::hydrate::{Bounds, SYNC_BYTES};
use crate::request::{Request, TargetRequest};
use crate::restore::Restore;
use crate::undo::UndoPlan;

/// With less, ranges of 4 MiB would wait for each other.
const SMALLEST_BUDGET_BYTES: u64 = 16 << 20;

/// The nouns of this role.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Bring a volume back to a chosen moment: beside the old one or in place
    Restore {
        /// What to do.
        #[command(subcommand)]
        command: RestoreCommand,
    },
}

/// The verbs.
#[derive(Debug, Subcommand)]
pub enum RestoreCommand {
    /// Show what a restore would do, without doing anything
    Plan(Box<RestoreArgs>),
    /// Restore: shows the plan, asks, and does it; run again after an interruption, it goes on where it stopped
    Run(Box<RestoreArgs>),
    /// Bring back the content that a restore in place has replaced
    Undo(UndoArgs),
}

/// What is restored, and where to.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("choice").required(true), group = ArgGroup::new("target").required(true))]
pub struct RestoreArgs {
    /// Which repository.
    #[command(flatten)]
    pub repository: RepositoryArgs,
    /// The volume whose content is restored; may be left out with --point
    #[arg(long, value_name = "NAME")]
    pub volume: Option<VolumeName>,
    /// The newest point taken at or before this time: "2026-11-21T14:03:20Z", "today 14:03:20", "yesterday 23:00"
    #[arg(long, value_name = "TIME", group = "choice")]
    pub at: Option<String>,
    /// The point with this id, or the only one whose id begins like this
    #[arg(long, value_name = "ID", group = "choice")]
    pub point: Option<String>,
    /// The newest point
    #[arg(long, group = "choice")]
    pub latest: bool,
    /// Restore to an image file; sparse where the volume is zero
    #[arg(long, value_name = "PATH", group = "target")]
    pub to_file: Option<PathBuf>,
    /// Restore onto a block device, replacing all that is on it
    #[arg(long, value_name = "DEV", group = "target")]
    pub to_device: Option<PathBuf>,
    /// Restore to a new volume of the driver
    #[arg(long, value_name = "NAME", group = "target")]
    pub to_volume: Option<VolumeName>,
    /// Exchange the content of the volume itself, after a safety snapshot of the present one
    #[arg(long, group = "target")]
    pub in_place: bool,
    /// With --in-place: the volume that gets the content, when it is another one (needs --force-identity)
    #[arg(long, value_name = "NAME", requires = "in_place")]
    pub into: Option<VolumeName>,
    /// Do it without asking
    #[arg(long, short = 'y')]
    pub yes: bool,
    /// With --to-file: replace an existing file; parts of it that are right already are not fetched
    #[arg(long, requires = "to_file")]
    pub overwrite: bool,
    /// With --to-device: read the device first, and fetch only what differs
    #[arg(long, requires = "to_device")]
    pub compare: bool,
    /// With --in-place: let one volume's content go into another volume
    #[arg(long)]
    pub force_identity: bool,
    /// With --in-place: refuse a volume that is mounted by hand, instead of mounting it again afterwards
    #[arg(long, requires = "in_place")]
    pub no_remount: bool,
    /// With --to-volume: make the volume this large instead of as large as it was
    #[arg(long, value_name = "SIZE", requires = "to_volume")]
    pub size: Option<Size>,
    /// With --to-volume: what the content is, where the point does not say
    #[arg(long, value_name = "FS", value_enum, requires = "to_volume")]
    pub fs: Option<Fs>,
    /// Read everything back and compare it at the end (files: always, unless --no-verify)
    #[arg(long, conflicts_with = "no_verify")]
    pub verify: bool,
    /// Do not read back what was written to a file
    #[arg(long)]
    pub no_verify: bool,
    /// Where stored data is damaged, write all that can be read and list what cannot; the exit code is 3 then
    #[arg(long)]
    pub keep_going: bool,
    /// Give up an unfinished restore of another point to the same target
    #[arg(long)]
    pub start_over: bool,
    /// How much fetched data may be in memory at once
    #[arg(long, value_name = "SIZE", default_value = "128MiB")]
    pub memory_budget: Size,
    /// The socket of the volume driver; by default that of the configuration
    #[arg(long, value_name = "ENDPOINT", env = "STRONGROOM_ENDPOINT")]
    pub endpoint: Option<String>,
    /// Where the journals of restores to devices and volumes are kept (files have theirs beside them)
    #[arg(long, value_name = "DIR")]
    pub state_dir: Option<PathBuf>,
}

/// What a volume holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Fs {
    /// ext4.
    Ext4,
    /// XFS.
    Xfs,
    /// btrfs.
    Btrfs,
    /// A raw block device.
    Block,
}

impl Fs {
    fn word(self) -> String {
        match self {
            Self::Ext4 => "ext4",
            Self::Xfs => "xfs",
            Self::Btrfs => "btrfs",
            Self::Block => "block",
        }
        .to_owned()
    }
}

/// Which run is taken back.
#[derive(Debug, Args)]
pub struct UndoArgs {
    /// The run, as `restore run` printed it, or the beginning of it
    #[arg(value_name = "RUN")]
    pub run: String,
    /// Do it without asking
    #[arg(long, short = 'y')]
    pub yes: bool,
    /// Refuse a volume that is mounted by hand, instead of mounting it again afterwards
    #[arg(long)]
    pub no_remount: bool,
    /// The socket of the volume driver; by default that of the configuration
    #[arg(long, value_name = "ENDPOINT", env = "STRONGROOM_ENDPOINT")]
    pub endpoint: Option<String>,
    /// The configuration file
    #[arg(long, value_name = "FILE", env = "STRONGROOM_CONFIG")]
    pub config: Option<PathBuf>,
}

/// Carries a command out.
///
/// # Errors
/// Whatever went wrong, with its code and what to do next.
pub async fn run(command: Command, console: &Console, world: &World) -> Result<Exit, Failed> {
    let Command::Restore { command } = command;
    match command {
        RestoreCommand::Plan(args) => {
            let (restore, request) = args.open(console, world).await?;
            let prepared = restore.plan(&request).await?;
            console.result(&prepared.plan, |page| {
                prepared.plan.text(console.time_zone()).lines().for_each(|line| {
                    page.line(line);
                });
            });
            Ok(Exit::Done)
        }
        RestoreCommand::Run(args) => {
            let (restore, request) = args.open(console, world).await?;
            let mut prepared = restore.plan(&request).await?;
            // Shown in any case: with --yes it is what the log of a job will say was done.
            console.talk(prepared.plan.text(console.time_zone()));
            console.confirm("Restore as planned?", args.yes)?;
            let report = restore.execute(&mut prepared).await?;
            report.say(console);
            Ok(report.exit())
        }
        RestoreCommand::Undo(args) => undo(&args, console, world).await,
    }
}

async fn undo(args: &UndoArgs, console: &Console, world: &World) -> Result<Exit, Failed> {
    let config = args.config.as_deref().map(Config::read).transpose()?;
    let endpoint = endpoint_of(args.endpoint.as_ref(), config.as_ref());
    let driver = Driver::connect(endpoint.as_deref()).await?;
    let plan = UndoPlan::make(&driver, &args.run, !args.no_remount, world).await?;
    console.talk(plan.text(console.time_zone()));
    console.confirm("Undo as planned?", args.yes)?;
    let undone = plan.execute(&driver).await?;
    console.result(&undone, |page| undone.write(page));
    Ok(Exit::Done)
}

pub(crate) fn endpoint_of(flag: Option<&String>, config: Option<&Config>) -> Option<String> {
    let said = flag.filter(|endpoint| !endpoint.is_empty()).cloned();
    said.or_else(|| config?.driver.as_ref().map(|driver| driver.endpoint.clone()))
}

impl RestoreArgs {
    /// Opens the repository and puts the request together.
    async fn open(&self, console: &Console, world: &World) -> Result<(Restore, Request), Failed> {
        let request = self.request(console, world)?;
        let (settings, config) = self.repository.resolve_with_config()?;
        let state_dir = self.state_dir.clone().or_else(|| settings.open_options().state_dir);
        let state_dir = state_dir.map(|folder| folder.join("restore"));
        let OpenedRepository { repository, store, .. } = open_repository_to_read(&settings, world).await?;
        let restore = Restore {
            repository,
            store,
            console: console.clone(),
            world: world.clone(),
            state_dir,
            watch: None,
            endpoint: endpoint_of(self.endpoint.as_ref(), config.as_ref()),
            bounds: Bounds {
                budget_bytes: self.memory_budget.0.max(SMALLEST_BUDGET_BYTES),
                workers: Bounds::usual_workers(),
                sync_bytes: SYNC_BYTES,
            },
        };
        Ok((restore, request))
    }

    fn request(&self, console: &Console, world: &World) -> Result<Request, Failed> {
        let choice = match (&self.at, &self.point) {
            (Some(at), _) => Choice::At(Moment::parse(at, world.clock.now(), console.time_zone())?.at),
            (_, Some(id)) => Choice::Id(id.clone()),
            _ => Choice::Latest,
        };
        let target = if let Some(path) = &self.to_file {
            TargetRequest::File { path: path.clone(), overwrite: self.overwrite }
        } else if let Some(path) = &self.to_device {
            TargetRequest::Device { path: path.clone(), compare: self.compare }
        } else if let Some(name) = &self.to_volume {
            let (bytes, fs) = (self.size.map(|size| size.0), self.fs.map(Fs::word));
            TargetRequest::Volume { name: name.clone(), bytes, fs, only: None, labels: None }
        } else {
            TargetRequest::InPlace {
                into: self.into.clone(),
                force_identity: self.force_identity,
                remount: !self.no_remount,
            }
        };
        let verify = match (self.verify, self.no_verify) {
            (true, _) => Some(true),
            (_, true) => Some(false),
            _ => None,
        };
        Ok(Request {
            volume: self.volume.clone(),
            choice,
            target,
            verify,
            keep_going: self.keep_going,
            start_over: self.start_over,
        })
    }
}
