//! `strongroom db`: what archives and what restores databases belongs to two roles, and is one noun.

use clap::Subcommand;
use strongroom_console::{Console, Exit, Failed};
use strongroom_model::World;

/// `strongroom db …`
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Databases: what can be restored, what happened when, and back to any second
    #[command(subcommand)]
    Db(Verb),
}

/// The verbs of both roles.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    #[command(flatten)]
    Archive(strongroom_agent::cli::db::DbCommand),
    #[command(flatten)]
    Restore(strongroom_restore::database::cli::DbCommand),
}

pub(crate) async fn run(command: Command, console: &Console, world: &World) -> Result<Exit, Failed> {
    let Command::Db(verb) = command;
    match verb {
        Verb::Archive(command) => strongroom_agent::cli::db::run(command, console, world).await,
        Verb::Restore(command) => strongroom_restore::database::cli::run(command, console, world).await,
    }
}
