//! `strongroom status`

use strongroom_console::{Console, Exit, Failed};
use strongroom_model::World;
use strongroom_settings::RepositoryArgs;

/// `strongroom status`
#[derive(Debug, clap::Args)]
pub struct StatusArgs {
    #[command(flatten)]
    repository: RepositoryArgs,
    /// Show only volumes that are not protected
    #[arg(long)]
    unprotected: bool,
}

#[expect(clippy::todo, reason = "written next")]
#[expect(clippy::unused_async, reason = "written next")]
pub(super) async fn run(args: StatusArgs, _console: &Console, _world: &World) -> Result<Exit, Failed> {
    todo!("{:?} {:?}", args.repository, args.unprotected)
}
