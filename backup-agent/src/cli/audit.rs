//! `strongroom repository audit` and `accept-rollback`: whether the journal is whole, and going on when a person knows why it
//! is shorter than it was.

use std::sync::Arc;

use serde::Serialize;
use strongroom_console::{Console, Exit, Failed};
use strongroom_model::{RepositoryId, World};
use strongroom_repository::OpenOptions;
use strongroom_settings::{RepositoryArgs, open_repository, open_repository_with};

use super::repository::report;

/// `strongroom repository accept-rollback`
#[derive(Debug, clap::Args)]
pub struct AcceptRollbackArgs {
    #[command(flatten)]
    repository: RepositoryArgs,
    /// Why the bucket holds an older state, for the record that stays in the journal
    #[arg(long, value_name = "TEXT")]
    reason: String,
}

/// What is remembered from now on.
#[derive(Debug, Serialize)]
struct Accepted {
    repository: RepositoryId,
    record: u64,
    points: usize,
}

/// Folds the journal from its first record and compares the chain and each checkpoint.
pub(super) async fn audit(args: RepositoryArgs, console: &Console, world: &World) -> Result<Exit, Failed> {
    let repository = open_repository(&args.resolve()?, world).await?.repository;
    let progress = Arc::new(console.progress("reading records", None));
    let audited = repository.audit(&report(&progress)).await;
    progress.finish();
    let audited = audited?;
    console.result(&audited, |text| {
        text.line(format_args!(
            "{} records in one chain, {} checkpoints compared; the last record is {}",
            audited.records, audited.checkpoints, audited.hash
        ));
        for number in &audited.wrong_checkpoints {
            text.line(format_args!("checkpoint {number} does not say what the journal says; it is not used"));
        }
    });
    Ok(if audited.wrong_checkpoints.is_empty() { Exit::Done } else { Exit::Damaged })
}

/// Takes the state that the bucket shows for the true one, and says so in the journal.
pub(super) async fn accept_rollback(
    args: AcceptRollbackArgs,
    console: &Console,
    world: &World,
) -> Result<Exit, Failed> {
    let settings = args.repository.resolve()?;
    let options = OpenOptions { accept_rollback: Some(args.reason), ..settings.open_options() };
    let repository = open_repository_with(&settings, world, options).await?.repository;
    let fold = repository.fold().await?;
    let accepted = Accepted { repository: repository.id(), record: fold.number, points: fold.points.len() };
    console.result(&accepted, |text| {
        text.line(format_args!(
            "this machine goes on from record {} with {} recovery points",
            accepted.record, accepted.points
        ));
    });
    Ok(Exit::Done)
}
