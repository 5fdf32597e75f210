//! `strongroom backup`

use std::path::PathBuf;

use clap::Subcommand;
use strongroom_console::{Console, Exit, Failed};
use strongroom_model::{VolumeName, World};
use strongroom_settings::RepositoryArgs;

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
    /// The configuration file
    #[arg(long, value_name = "FILE", env = "STRONGROOM_CONFIG")]
    config: PathBuf,
    /// Only this volume, whether a policy covers it or not
    #[arg(long, value_name = "NAME")]
    volume: Option<VolumeName>,
}

/// `strongroom backup image`
#[derive(Debug, clap::Args)]
pub struct ImageArgs {
    #[command(flatten)]
    repository: RepositoryArgs,
    /// The name under which the recovery points are kept
    #[arg(long, value_name = "NAME")]
    volume: VolumeName,
    /// The image file or block device
    #[arg(value_name = "PATH")]
    path: PathBuf,
}

#[expect(clippy::todo, reason = "written next")]
#[expect(clippy::unused_async, reason = "written next")]
pub(super) async fn run(command: BackupCommand, _console: &Console, _world: &World) -> Result<Exit, Failed> {
    todo!("{command:?}")
}
