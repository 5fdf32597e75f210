//! `strongroom agent`

use std::path::PathBuf;

use strongroom_console::{Console, Exit, Failed};
use strongroom_model::World;

/// `strongroom agent`
#[derive(Debug, clap::Args)]
pub struct AgentArgs {
    /// The configuration file
    #[arg(long, value_name = "FILE", env = "STRONGROOM_CONFIG")]
    config: PathBuf,
}

#[expect(clippy::todo, reason = "written next")]
#[expect(clippy::unused_async, reason = "written next")]
pub(super) async fn run(args: AgentArgs, _console: &Console, _world: &World) -> Result<Exit, Failed> {
    todo!("{:?}", args.config)
}
