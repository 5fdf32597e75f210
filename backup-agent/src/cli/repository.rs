//! `strongroom repository`: check, measure, tidy; and the keys.

use std::sync::Arc;

use clap::Subcommand;
use strongroom_console::{Console, Exit, Failed, Progress, Size};
use strongroom_model::World;
use strongroom_repository::Repository;
use strongroom_settings::{RepositoryArgs, open_repository};

use super::audit::{self, AcceptRollbackArgs};
use super::check::{self, CheckArgs, RepairArgs, ScrubArgs};
use super::copy::{self, CopyArgs};
use super::domain::{self, DomainCommand};
use super::key::{self, KeyCommand};
use super::{locks, prune};

/// `strongroom repository …`
#[derive(Debug, Subcommand)]
pub enum RepositoryCommand {
    /// Check that everything that the recovery points need is there; with --read-data, that every byte is right
    Check(CheckArgs),
    /// Compare every pack with the hash at its own end, without any key: for whoever keeps the store
    Scrub(ScrubArgs),
    /// Make again what can be made again, index and checkpoints, and list exactly which points lose which bytes
    Repair(RepairArgs),
    /// Say how much there is of what
    Stats(RepositoryArgs),
    /// Free what no recovery point needs; with a configuration, forget first what its policies no longer retain
    Prune(PruneArgs),
    /// Bring second copies up to date, or begin one; with --promote: make a copy a repository of its own
    Copy(CopyArgs),
    /// Prolong the retention locks of all packs that live, where `lock_for` is set
    ExtendLocks(RepositoryArgs),
    /// Manage the keys that open the repository
    #[command(subcommand)]
    Key(KeyCommand),
    /// Share the repository with key domains: tenants who see nothing of each other
    #[command(subcommand)]
    Domain(DomainCommand),
    /// Make the index again from the footers of the packs
    RebuildIndex(RepositoryArgs),
    /// Read the journal from its first record: every link of the chain, every rule, every checkpoint
    Audit(RepositoryArgs),
    /// Go on with a bucket that holds an older state than this machine saw, after finding out why
    AcceptRollback(AcceptRollbackArgs),
}

/// `strongroom repository prune`
#[derive(Debug, clap::Args)]
pub struct PruneArgs {
    #[command(flatten)]
    pub(super) repository: RepositoryArgs,
    /// Only say what would be done
    #[arg(long)]
    pub(super) dry_run: bool,
    /// Free at once what points needed that were forgotten within the last day; a restore that still reads one fails
    #[arg(long)]
    pub(super) at_once: bool,
}

pub(super) async fn run(
    command: RepositoryCommand,
    console: &Console,
    world: &World,
) -> Result<Exit, Failed> {
    match command {
        RepositoryCommand::Check(args) => check::check(args, console, world).await,
        RepositoryCommand::Scrub(args) => check::scrub(args, console, world).await,
        RepositoryCommand::Repair(args) => check::repair(args, console, world).await,
        RepositoryCommand::Stats(args) => stats(args, console, world).await,
        RepositoryCommand::ExtendLocks(args) => locks::extend(args, console, world).await,
        RepositoryCommand::Copy(args) => copy::run(args, console, world).await,
        RepositoryCommand::Prune(args) => prune::run(args, console, world).await,
        RepositoryCommand::RebuildIndex(args) => rebuild_index(args, console, world).await,
        RepositoryCommand::Audit(args) => audit::audit(args, console, world).await,
        RepositoryCommand::AcceptRollback(args) => audit::accept_rollback(args, console, world).await,
        RepositoryCommand::Key(command) => key::run(command, console, world).await,
        RepositoryCommand::Domain(command) => domain::run(command, console, world).await,
    }
}

pub(super) async fn open(args: &RepositoryArgs, world: &World) -> Result<Repository, Failed> {
    Ok(open_repository(&args.resolve()?, world).await?.repository)
}

/// What the repository tells of its progress, on the console.
pub(super) fn report(progress: &Arc<Progress>) -> impl Fn(u64, u64) + Send + Sync {
    let progress = Arc::clone(progress);
    move |done, total| {
        progress.set_total(total);
        progress.set_done(done);
    }
}

async fn stats(args: RepositoryArgs, console: &Console, world: &World) -> Result<Exit, Failed> {
    let repository = open(&args, world).await?;
    let stats = repository.stats().await?;
    console.result(&stats, |text| {
        text.facts([
            ("repository", repository.id().to_string()),
            ("location", repository.location()),
            ("points", format!("{} of {} volumes", stats.points, stats.volumes)),
            ("newest points", Size(stats.volume_bytes).to_string()),
            ("deltas in them", format!("{} of {}", stats.deltas, Size(stats.delta_bytes))),
            ("data", format!("{} in {} packs", Size(stats.data_bytes), stats.data_packs)),
            ("maps", format!("{} in {} packs", Size(stats.map_bytes), stats.map_packs)),
            ("journal", format!("{} records", stats.records)),
            ("open sessions", stats.open_sessions.to_string()),
        ]);
    });
    Ok(Exit::Done)
}

async fn rebuild_index(args: RepositoryArgs, console: &Console, world: &World) -> Result<Exit, Failed> {
    let repository = open(&args, world).await?;
    let progress = Arc::new(console.progress("reading footers", None));
    let rebuilt = repository.rebuild_index(&report(&progress)).await;
    progress.finish();
    let rebuilt = rebuilt?;
    console.result(&rebuilt, |text| {
        text.line(format_args!("{} entries of {} packs are in the index", rebuilt.entries, rebuilt.packs));
        if rebuilt.unreadable > 0 {
            text.line(format_args!(
                "{} packs could not be read: run `strongroom repository check`",
                rebuilt.unreadable
            ));
        }
    });
    Ok(if rebuilt.unreadable == 0 { Exit::Done } else { Exit::Damaged })
}
