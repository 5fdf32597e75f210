//! `strongroom db`: databases that can be restored to any second.

use std::collections::BTreeMap;
use std::time::Duration;

use clap::Subcommand;
use jiff::Timestamp;
use serde::Serialize;
use strongroom_console::{Console, Exit, Failed, Size, Table, TimeSpan, local};
use strongroom_model::{LogId, World};
use strongroom_repository::record::BundleNote;
use strongroom_repository::{Fold, LogError, Repository};
use strongroom_settings::{RepositoryArgs, open_repository_to_read};

use crate::databases::view::{self, DatabaseStatus};

mod archive_wal;

/// `strongroom db …`
#[derive(Debug, Subcommand)]
pub enum DbCommand {
    /// List databases, and for each the stretches of time in which every second can be restored
    List(ListArgs),
    /// Hand a finished segment of PostgreSQL's log to the agent: archive_command = 'strongroom db archive-wal %p --to FOLDER'
    ArchiveWal(archive_wal::ArchiveWalArgs),
}

/// `strongroom db list`
#[derive(Debug, clap::Args)]
pub struct ListArgs {
    #[command(flatten)]
    repository: RepositoryArgs,
}

#[derive(Debug, Serialize)]
struct Listed {
    databases: Vec<DatabaseStatus>,
}

/// Carries a command out.
///
/// # Errors
/// What went wrong, for the person who gave it.
pub async fn run(command: DbCommand, console: &Console, world: &World) -> Result<Exit, Failed> {
    match command {
        DbCommand::List(args) => list(&args, console, world).await,
        DbCommand::ArchiveWal(args) => archive_wal::run(args, console).await,
    }
}

async fn list(args: &ListArgs, console: &Console, world: &World) -> Result<Exit, Failed> {
    let settings = args.repository.resolve()?;
    let repository = open_repository_to_read(&settings, world).await?.repository;
    let fold = repository.fold().await?;
    let now = world.clock.now();
    let listed = Listed { databases: assess_all(&repository, &fold, now).await? };
    console.result(&listed, |text| {
        if listed.databases.is_empty() {
            text.line("No database's log is archived here.");
            return;
        }
        text.table(&table(&listed.databases, console));
        for database in &listed.databases {
            for problem in &database.problems {
                text.line(format_args!("{}: {problem}", database.database));
            }
        }
    });
    Ok(Exit::Done)
}

/// What can be restored of each database; also looks for bundles that no record names yet.
pub(super) async fn assess_all(
    repository: &Repository,
    fold: &Fold,
    now: Timestamp,
) -> Result<Vec<DatabaseStatus>, LogError> {
    let mut beyond: BTreeMap<LogId, Vec<BundleNote>> = BTreeMap::new();
    let names = view::databases(fold);
    // Only of the log that lives; the others were said to the end when theirs ended, or end where that was.
    for state in
        names.iter().filter_map(|name| view::newest_log(fold, name)).filter(|_| !repository.is_copy())
    {
        let found = repository.bundles_beyond(state.opened.log, state.next, state.end).await?;
        beyond.insert(state.opened.log, found);
    }
    let beyond = |log: &strongroom_repository::fold::LogState| {
        beyond.get(&log.opened.log).cloned().unwrap_or_default()
    };
    Ok(names.iter().filter_map(|name| view::assess(fold, name, &beyond, now)).collect())
}

/// The last proven restore in short: when, and how long it took.
pub(super) fn proven(database: &DatabaseStatus, console: &Console) -> String {
    let Some(proven) = &database.last_proven_restore else { return "never".to_owned() };
    let at = local(proven.at, console.time_zone());
    // To the second; what took less took one.
    let took = proven.rto_ms.map(|rto| TimeSpan(Duration::from_secs(rto.div_ceil(1000))));
    took.map_or_else(|| at.clone(), |took| format!("{at}, in {took}"))
}

fn table(databases: &[DatabaseStatus], console: &Console) -> Table {
    let mut table = Table::new([
        "DATABASE",
        "VOLUME",
        "EVERY SECOND FROM",
        "TO",
        "RPO NOW",
        "LOG",
        "LAST PROVEN RESTORE",
    ])
    .right([5]);
    let zone = console.time_zone();
    for database in databases {
        let volume = database.volume.as_ref().map_or_else(|| "-".to_owned(), ToString::to_string);
        let rpo = database
            .rpo_now_seconds
            .map_or_else(|| "-".to_owned(), |seconds| TimeSpan(Duration::from_secs(seconds)).to_string());
        let log = Size(database.log_bytes).to_string();
        let proven = proven(database, console);
        if database.windows.is_empty() {
            let name = database.database.clone();
            table.row([
                name,
                volume.clone(),
                "nothing yet".to_owned(),
                "-".to_owned(),
                rpo.clone(),
                log.clone(),
                proven.clone(),
            ]);
        }
        for (number, window) in database.windows.iter().enumerate() {
            let (from, to) = (local(window.earliest.at, zone), local(window.latest.at, zone));
            let is_last = number + 1 == database.windows.len();
            let rest = if is_last { [rpo.clone(), log.clone(), proven.clone()] } else { Default::default() };
            let [rpo, log, proven] = rest;
            table.row([database.database.clone(), volume.clone(), from, to, rpo, log, proven]);
        }
    }
    table
}
