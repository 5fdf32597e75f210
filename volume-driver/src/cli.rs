//! The driver's part of the command line: `driver`, `volume` and `snapshot`.
//!
//! `driver` is the program itself. `volume` and `snapshot` are clients of a driver that runs: they reach it on its socket and do nothing
//! by themselves, so a person, an orchestrator and the agent all take the same way.

mod doctor;
mod driver;
mod from_point;
mod group;
mod limits;
mod reach;
mod snapshot;
mod views;
mod volume;

use std::process::ExitCode;

use clap::Subcommand;
use strongroom_console::{Console, Exit, Failed};
use strongroom_model::World;

pub use doctor::DoctorArgs;
pub use driver::{DriverArgs, DriverCommand};
pub use from_point::RepositoryFlags;
pub use group::GroupCommand;
pub use reach::EndpointArgs;
pub use snapshot::SnapshotCommand;
pub use volume::{CreateArgs, VolumeCommand};

/// What the driver's part of the command line can be asked.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the volume driver: serve CSI and the control service until stopped
    Driver(DriverCommand),
    /// Make, mount, grow and remove volumes through a running driver
    #[command(subcommand)]
    Volume(VolumeCommand),
    /// Take, compare and remove snapshots through a running driver
    #[command(subcommand)]
    Snapshot(SnapshotCommand),
    /// Thaw a filesystem that a dying driver left frozen; started by the driver itself
    #[command(hide = true)]
    DriverThawWatchdog {
        /// What the driver hands over
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
}

impl Command {
    /// The words of the command that does this one, when it belongs to another role: a volume that is made from a recovery
    /// point is made by a restore. The program reads them as a command line of their own.
    #[must_use]
    pub fn elsewhere(&self) -> Option<Vec<String>> {
        match self {
            Self::Volume(VolumeCommand::Create(create)) => create.as_restore(),
            _ => None,
        }
    }
}

/// Runs a command.
///
/// # Errors
/// Whatever went wrong, with its code and advice.
pub async fn run(command: Command, console: &Console, world: &World) -> Result<Exit, Failed> {
    match command {
        Command::Driver(DriverCommand::Run(args)) => driver::run(*args, console, world).await,
        Command::Driver(DriverCommand::Doctor(args)) => doctor::run(args, console, world).await,
        Command::Volume(command) => volume::run(command, console).await,
        Command::Snapshot(command) => snapshot::run(command, console, world).await,
        Command::DriverThawWatchdog { arguments } => {
            let thawed = tokio::task::spawn_blocking(|| crate::thaw_watchdog(arguments.into_iter())).await;
            Ok(if thawed.is_ok_and(|code| code == ExitCode::SUCCESS) { Exit::Done } else { Exit::FAILED })
        }
    }
}

#[cfg(test)]
mod tests;
