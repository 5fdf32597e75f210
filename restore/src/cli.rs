//! The commands of restore: `restore plan`, `restore run`, `restore undo`.

use std::path::PathBuf;

use clap::{ArgGroup, Args, Subcommand};
use strongroom_console::{Console, Exit, Failed, Size};
use strongroom_model::{RunId, VolumeName, World};
use strongroom_settings::RepositoryArgs;

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
    /// With --in-place: unmount what was mounted by hand, and mount it again afterwards
    #[arg(long, requires = "in_place")]
    pub remount: bool,
    /// With --to-volume: make the volume this large instead of as large as it was
    #[arg(long, value_name = "SIZE", requires = "to_volume")]
    pub size: Option<Size>,
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
    /// The socket of the volume driver; also in [driver] of the configuration
    #[arg(long, value_name = "ENDPOINT", env = "STRONGROOM_ENDPOINT")]
    pub endpoint: Option<String>,
    /// Where the journals of restores to devices and volumes are kept (files have theirs beside them)
    #[arg(long, value_name = "DIR")]
    pub state_dir: Option<PathBuf>,
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
    /// Unmount what was mounted by hand, and mount it again afterwards
    #[arg(long)]
    pub remount: bool,
    /// The socket of the volume driver; also in [driver] of the configuration
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
        RestoreCommand::Plan(_) => todo!(),
        RestoreCommand::Run(_) => todo!(),
        RestoreCommand::Undo(_) => todo!(),
    }
}
