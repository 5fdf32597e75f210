//! The commands of the agent: what a person asks of backups and of the repository.

mod agent;
mod audit;
mod backup;
mod check;
mod copy;
pub mod db;
mod domain;
mod init;
mod key;
mod kit;
mod locks;
mod points;
mod prune;
mod repository;
mod signals;
mod status;

pub use agent::{Beside, Neighbour};
use clap::Subcommand;
pub use signals::stopped_by_signals;
use strongroom_console::{Console, Exit, Failed};
use strongroom_model::World;

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make a repository, after trying what its store can really do
    Init(init::InitArgs),
    /// Run the agent: back up on schedule, retain, sweep
    Agent(agent::AgentArgs),
    /// Back up now
    #[command(subcommand)]
    Backup(backup::BackupCommand),
    /// Look at recovery points, hold them or forget them
    #[command(subcommand)]
    Points(points::PointsCommand),
    /// Check, measure and tidy the repository, and manage its keys
    #[command(subcommand)]
    Repository(repository::RepositoryCommand),
    /// Say for every volume whether it is protected: exit 0 healthy, 1 at risk, 2 unprotected
    Status(status::StatusArgs),
}

/// Runs a command. `neighbour` adds to the agent's socket what other roles serve there.
///
/// # Errors
/// What went wrong, for the person who gave it.
pub async fn run(
    command: Command,
    console: &Console,
    world: &World,
    neighbour: &Neighbour,
) -> Result<Exit, Failed> {
    match command {
        Command::Init(args) => init::run(args, console, world).await,
        Command::Agent(args) => agent::run(args, console, world, neighbour).await,
        Command::Backup(command) => backup::run(command, console, world).await,
        Command::Points(command) => points::run(command, console, world).await,
        Command::Repository(command) => repository::run(command, console, world).await,
        Command::Status(args) => status::run(args, console, world).await,
    }
}
