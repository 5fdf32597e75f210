//! `strongroom db timeline` and `strongroom db restore`: finding the second, and going back to it.

use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgGroup, Args, Subcommand};
use jiff::{SignedDuration, Timestamp};
use strongroom_archive::{ArchiveError, DatabaseArchive};
use strongroom_console::{Console, Exit, Failed, Size, Table};
use strongroom_database::{
    LineageId, Plan, Position, Rates, Side, Target, Timeline, TransactionId, Wanted, What,
};
use strongroom_model::{VolumeName, World, chain};
use strongroom_settings::{EngineConfig, Moment, OpenedRepository, RepositoryArgs, open_repository_to_read};

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::beside::{self, Beside};
use super::copy::{self, Asking};
use super::interrupts::Interrupts;
use super::mark::Purpose;
use super::promote::Promote;
use super::proving::{Aim, Proving, ProvingError, Scratch};
use super::show::Shown;
use super::sqlite;
use crate::driver::Driver;

mod fetch_wal;
mod looking;

use fetch_wal::FetchWalArgs;
use looking::{CloneArgs, DumpArgs, LookingArgs};

/// The verbs that look into archived logs and restore from them.
#[derive(Debug, Subcommand)]
pub enum DbCommand {
    /// Show what happened around a time: commits a minute, schema changes, big deletes
    Timeline(Box<TimelineArgs>),
    /// Bring a database back to any second, position or transaction, in a new volume beside the live one
    Restore(Box<DbRestoreArgs>),
    /// Prove that a database can be brought back: restore a copy, ask and check it, and take it away again
    Test(Box<TestArgs>),
    /// Put a restored copy into the live database's place; the old content is kept, and `restore undo` goes back
    Promote(Box<PromoteArgs>),
    /// A copy for a look, in a volume of its own: it is started like any database, and never promoted
    Clone(Box<CloneArgs>),
    /// Dump tables as they were at any second, with pg_dump; nothing of the copy stays
    Dump(Box<DumpArgs>),
    /// Give a server in recovery a file of the archived log: restore_command = 'strongroom db fetch-wal VOLUME %f %p …'
    FetchWal(Box<FetchWalArgs>),
}

/// Which database.
#[derive(Debug, Args)]
struct WhichArgs {
    #[command(flatten)]
    repository: RepositoryArgs,
    /// The volume on which the database lies
    #[arg(value_name = "VOLUME")]
    volume: VolumeName,
    /// The database, when several lie on the volume
    #[arg(long, value_name = "NAME")]
    database: Option<String>,
}

/// `strongroom db timeline`
#[derive(Debug, Args)]
pub struct TimelineArgs {
    #[command(flatten)]
    which: WhichArgs,
    /// The time in the middle: "2026-11-21T14:03:20Z", "today 14:03:20", "yesterday 23:00"
    #[arg(long, value_name = "TIME")]
    around: String,
    /// How many minutes before and after it
    #[arg(long, value_name = "N", default_value_t = 15, value_parser = clap::value_parser!(u16).range(1..=5040))]
    minutes: u16,
}

/// Which state of a database.
#[derive(Debug, Args)]
struct StateArgs {
    /// The state at this time: all commits up to it, in the order of the log
    #[arg(long, value_name = "TIME", group = "state")]
    at: Option<String>,
    /// Everything before this position of the log, such as 16/B374D848
    #[arg(long, value_name = "LSN", group = "state")]
    position: Option<Position>,
    /// Just before this transaction's commit; with --after, just after it
    #[arg(long, value_name = "ID", group = "state")]
    transaction: Option<TransactionId>,
    /// With --transaction: with it
    #[arg(long, requires = "transaction")]
    after: bool,
    /// Everything before this restore point
    #[arg(long, value_name = "NAME", group = "state")]
    name: Option<String>,
    /// The newest state that can be restored
    #[arg(long, group = "state")]
    latest: bool,
    /// The history that is meant (PostgreSQL: the timeline); by default the one that lived then
    #[arg(long, value_name = "N")]
    lineage: Option<u32>,
}

/// What there is around it.
#[derive(Debug, Args)]
struct PlaceArgs {
    /// Where in the volume the data folder is, when it is not found
    #[arg(long, value_name = "PATH")]
    data_directory: Option<PathBuf>,
    /// Where the programs of the database are, when they are not found
    #[arg(long, value_name = "DIR")]
    programs: Option<PathBuf>,
    /// Where the log is laid out while it is replayed; it needs room for the log of the plan
    #[arg(long, value_name = "DIR", default_value = "/var/tmp")]
    work_dir: PathBuf,
    /// The socket of the volume driver; by default that of the configuration
    #[arg(long, value_name = "ENDPOINT", env = "STRONGROOM_ENDPOINT")]
    endpoint: Option<String>,
    /// Where the journals of restores are kept
    #[arg(long, value_name = "DIR")]
    state_dir: Option<PathBuf>,
}

/// `strongroom db restore`
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("state").required(true))]
pub struct DbRestoreArgs {
    #[command(flatten)]
    which: WhichArgs,
    #[command(flatten)]
    state: StateArgs,
    /// Only show what would be done
    #[arg(long)]
    plan: bool,
    /// The new volume [default: the volume's name and -restored]
    #[arg(long, value_name = "NAME")]
    to_volume: Option<VolumeName>,
    #[command(flatten)]
    place: PlaceArgs,
    #[command(flatten)]
    looking: LookingArgs,
    /// Do it without asking
    #[arg(long, short = 'y')]
    yes: bool,
}

/// `strongroom db promote`
#[derive(Debug, Args)]
pub struct PromoteArgs {
    #[command(flatten)]
    which: WhichArgs,
    /// The volume that `db restore` made [default: the volume's name and -restored]
    #[arg(long, value_name = "NAME")]
    restored: Option<VolumeName>,
    /// Only show what would be done
    #[arg(long)]
    plan: bool,
    /// Refuse a volume that is mounted by hand, instead of mounting it again afterwards
    #[arg(long)]
    no_remount: bool,
    /// Where in the volume the data folder is, when it is not found
    #[arg(long, value_name = "PATH")]
    data_directory: Option<PathBuf>,
    /// Where the programs of the database are, when they are not found
    #[arg(long, value_name = "DIR")]
    programs: Option<PathBuf>,
    /// Where the copy is mounted while it is looked at
    #[arg(long, value_name = "DIR", default_value = "/var/tmp")]
    work_dir: PathBuf,
    /// Do it without asking
    #[arg(long, short = 'y')]
    yes: bool,
    /// The socket of the volume driver; by default that of the configuration
    #[arg(long, value_name = "ENDPOINT", env = "STRONGROOM_ENDPOINT")]
    endpoint: Option<String>,
}

/// `strongroom db test`
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("moment"))]
pub struct TestArgs {
    #[command(flatten)]
    which: WhichArgs,
    /// Prove the state at this time; without it, and the like, that at a random one of the newest window
    #[arg(long, value_name = "TIME", group = "moment")]
    at: Option<String>,
    /// Prove the newest state
    #[arg(long, group = "moment")]
    latest: bool,
    /// Prove a random time since the newest base was made
    #[arg(long, group = "moment")]
    newest_base: bool,
    /// What the restored database has to answer with yes, beside what the configuration asks; may be given several times
    #[arg(long, value_name = "QUERY")]
    sql: Vec<String>,
    /// In which database that is asked [default: that of the configuration; or postgres, and with MariaDB none]
    #[arg(long, value_name = "NAME")]
    sql_database: Option<String>,
    /// PostgreSQL: a superuser of the database [default: that of the configuration, or postgres]
    #[arg(long, value_name = "NAME")]
    role: Option<String>,
    /// Where in the volume the data folder is, when it is not found
    #[arg(long, value_name = "PATH")]
    data_directory: Option<PathBuf>,
    /// Where the programs of the database are, when they are not found
    #[arg(long, value_name = "DIR")]
    programs: Option<PathBuf>,
    /// Where the log is laid out while it is replayed [default: that of the configuration, or /var/tmp]
    #[arg(long, value_name = "DIR")]
    work_dir: Option<PathBuf>,
    /// The socket of the volume driver; by default that of the configuration
    #[arg(long, value_name = "ENDPOINT", env = "STRONGROOM_ENDPOINT")]
    endpoint: Option<String>,
    /// Do not note it in the repository's journal: whoever asks does that
    #[arg(long, hide = true)]
    no_record: bool,
}

/// Carries a command out.
///
/// # Errors
/// Whatever went wrong, with its code and what to do next.
pub async fn run(command: DbCommand, console: &Console, world: &World) -> Result<Exit, Failed> {
    match command {
        DbCommand::Timeline(args) => timeline(&args, console, world).await,
        DbCommand::Restore(args) => restore(&args, console, world).await,
        DbCommand::Test(args) => test(&args, console, world).await,
        DbCommand::Promote(args) => promote(&args, console, world).await,
        DbCommand::Clone(args) => args.run(console, world).await,
        DbCommand::Dump(args) => args.run(console, world).await,
        DbCommand::FetchWal(args) => args.run(console, world).await,
    }
}

async fn promote(args: &PromoteArgs, console: &Console, world: &World) -> Result<Exit, Failed> {
    let (settings, config) = args.which.repository.resolve_with_config()?;
    let repository = open_repository_to_read(&settings, world).await?.repository;
    let fold = repository.fold().await?;
    let database = DatabaseArchive::choose(&fold, &args.which.volume, args.which.database.as_deref())?;
    let endpoint = crate::cli::endpoint_of(args.endpoint.as_ref(), config.as_ref());
    let driver = Driver::connect(endpoint.as_deref()).await?;
    let copy = match &args.restored {
        Some(name) => name.clone(),
        None => beside::default_name(&args.which.volume)?,
    };
    let newest = strongroom_archive::newest_log(&fold, &database).map(|log| &log.opened);
    let is_file = newest.is_some_and(|opened| opened.engine == sqlite::ENGINE);
    let file = newest.and_then(|opened| opened.facts.get("path")).filter(|_| is_file);
    let promote = Promote {
        file: file.map(String::as_str),
        driver: &driver,
        world,
        fold: &fold,
        database: &database,
        volume: &args.which.volume,
        copy: &copy,
        remount: !args.no_remount,
        data_directory: args.data_directory.as_deref(),
        programs: args.programs.as_deref(),
        work_dir: &args.work_dir,
    };
    if let Some(done) = promote.done_before().await? {
        console.result(&done, |page| done.write(page));
        return Ok(Exit::Done);
    }
    let plan = promote.plan().await?;
    if args.plan {
        console.result(&plan, |page| {
            plan.text().lines().for_each(|line| {
                page.line(line);
            });
        });
        return Ok(Exit::Done);
    }
    console.talk(plan.text());
    console.confirm("Promote as planned?", args.yes)?;
    let done = promote.execute(&plan).await?;
    console.result(&done, |page| done.write(page));
    Ok(Exit::Done)
}

async fn timeline(args: &TimelineArgs, console: &Console, world: &World) -> Result<Exit, Failed> {
    let middle = Moment::parse(&args.around, world.clock.now(), console.time_zone())?.at;
    let settings = args.which.repository.resolve()?;
    let repository = open_repository_to_read(&settings, world).await?.repository;
    let fold = repository.fold().await?;
    let name = DatabaseArchive::choose(&fold, &args.which.volume, args.which.database.as_deref())?;
    let archive = DatabaseArchive::open(&repository, &fold, &name).await?;
    let around = SignedDuration::from_mins(i64::from(args.minutes));
    let from = middle.checked_sub(around).unwrap_or(Timestamp::MIN);
    let to = middle.checked_add(around).unwrap_or(Timestamp::MAX);
    let timeline = archive.timeline(from, to).await?;
    console.result(&timeline, |page| {
        if timeline.minutes.is_empty() && timeline.events.is_empty() {
            page.line("Nothing is archived of that time: no commit, and nothing else.");
            return;
        }
        page.table(&minutes(&timeline, console));
        if !timeline.events.is_empty() {
            page.line("");
            page.table(&events(&timeline, console));
        }
        if timeline.events_left_out > 0 {
            page.line(format_args!("and {} more: look at fewer --minutes", timeline.events_left_out));
        }
    });
    Ok(Exit::Done)
}

fn minutes(timeline: &Timeline, console: &Console) -> Table {
    let mut table = Table::new(["MINUTE", "COMMITS", "INSERTED", "UPDATED", "DELETED"]).right([1, 2, 3, 4]);
    for minute in &timeline.minutes {
        table.row([
            strongroom_console::local(minute.at, console.time_zone()),
            minute.commits.to_string(),
            minute.inserted.to_string(),
            minute.updated.to_string(),
            minute.deleted.to_string(),
        ]);
    }
    table
}

fn events(timeline: &Timeline, console: &Console) -> Table {
    let mut table = Table::new(["TIME", "POSITION", "TRANSACTION", "WHAT"]);
    for event in &timeline.events {
        let (transaction, what) = match &event.what {
            What::Commit { transaction, changes } => (transaction.to_string(), changes.to_string()),
            What::Named { name } => ("-".to_owned(), format!("restore point {name:?}")),
            What::Began { lineage, parent } => {
                ("-".to_owned(), format!("lineage {lineage} begins, out of {parent}"))
            }
        };
        let at = super::show::precise(event.at, console.time_zone());
        table.row([at, event.position.to_string(), transaction, what]);
    }
    table
}

impl StateArgs {
    /// The newest, when nothing is said.
    fn wanted(&self, console: &Console, world: &World) -> Result<Wanted, Failed> {
        let target = if let Some(at) = &self.at {
            Target::Time(Moment::parse(at, world.clock.now(), console.time_zone())?.at)
        } else if let Some(position) = self.position {
            Target::Position(position)
        } else if let Some(transaction) = self.transaction {
            Target::Transaction(transaction, if self.after { Side::After } else { Side::Before })
        } else if let Some(name) = &self.name {
            Target::Named(name.clone())
        } else {
            Target::Latest
        };
        Ok(Wanted { target, lineage: self.lineage.map(LineageId) })
    }
}

/// An archive that was opened, and what a copy of its database is made with.
struct Opened {
    beside: Beside,
    interrupts: Interrupts,
}

impl Opened {
    async fn of(
        which: &WhichArgs,
        place: &PlaceArgs,
        target: VolumeName,
        purpose: Option<Purpose>,
        console: &Console,
        world: &World,
    ) -> Result<Self, Failed> {
        let (settings, config) = which.repository.resolve_with_config()?;
        let OpenedRepository { repository, store, .. } = open_repository_to_read(&settings, world).await?;
        let fold = repository.fold().await?;
        let name = DatabaseArchive::choose(&fold, &which.volume, which.database.as_deref())?;
        let archive = DatabaseArchive::open(&repository, &fold, &name).await?;
        let state_dir = place.state_dir.clone().or_else(|| settings.open_options().state_dir);
        let interrupts = Interrupts::new();
        let beside = Beside {
            repository,
            store,
            archive,
            console: console.clone(),
            world: world.clone(),
            state_dir: state_dir.map(|folder| folder.join("restore")),
            endpoint: crate::cli::endpoint_of(place.endpoint.as_ref(), config.as_ref()),
            volume: which.volume.clone(),
            labels: purpose.is_none().then(|| beside::temporary_labels(&which.volume)),
            target,
            data_directory: place.data_directory.clone(),
            programs: place.programs.clone(),
            work_dir: place.work_dir.clone(),
            purpose,
            given_up: interrupts.given_up.clone(),
        };
        Ok(Self { beside, interrupts })
    }

    async fn plan(&self, wanted: &Wanted) -> Result<(Plan, Shown), Failed> {
        let beside = &self.beside;
        let plan = beside.archive.plan(wanted.clone(), Rates::default()).await?;
        let shown = Shown::of(&beside.archive, &beside.volume, &beside.target, wanted, &plan).await?;
        Ok((plan, shown))
    }
}

fn show_plan(shown: &Shown, console: &Console) {
    console.result(shown, |page| {
        shown.text(console.time_zone()).lines().for_each(|line| {
            page.line(line);
        });
    });
}

async fn restore(args: &DbRestoreArgs, console: &Console, world: &World) -> Result<Exit, Failed> {
    if args.looking.is_wanted() {
        return args.looking.run(args, console, world).await;
    }
    let wanted = args.state.wanted(console, world)?;
    let target = match &args.to_volume {
        Some(name) => name.clone(),
        None => beside::default_name(&args.which.volume)?,
    };
    let purpose = Some(Purpose::Restored);
    let opened = Opened::of(&args.which, &args.place, target, purpose, console, world).await?;
    let (plan, shown) = opened.plan(&wanted).await?;
    if args.plan {
        show_plan(&shown, console);
        return Ok(Exit::Done);
    }
    console.talk(shown.text(console.time_zone()));
    console.confirm("Restore as planned?", args.yes)?;
    opened.interrupts.listen();
    let done = opened.beside.run(plan, shown).await?;
    console.result(&done, |page| {
        page.line(format_args!(
            "The database is in volume {}, in folder {}: stopped, and a history of its own. The live one was not touched.",
            done.target, done.data_directory
        ));
        page.line(format_args!("It took {}.", strongroom_console::TimeSpan(Duration::from_secs(done.seconds))));
        page.line(format_args!("Replayed {} of log.", Size(done.plan.replay_bytes)));
        page.line("It archives nothing until `strongroom db promote` puts it into the live one's place.");
    });
    Ok(Exit::Done)
}

impl TestArgs {
    fn aim(&self, console: &Console, world: &World) -> Result<Aim, Failed> {
        Ok(match &self.at {
            Some(at) => Aim::At(Moment::parse(at, world.clock.now(), console.time_zone())?.at),
            None if self.latest => Aim::Latest,
            None if self.newest_base => Aim::NewestBase,
            None => Aim::Window,
        })
    }
}

async fn test(args: &TestArgs, console: &Console, world: &World) -> Result<Exit, Failed> {
    let interrupted = stopped_by_signals();
    let aim = args.aim(console, world)?;
    let (settings, config) = args.which.repository.resolve_with_config()?;
    // Unlike a restore, a test is in no hurry.
    let settings = match &config {
        Some(config) => settings.limited(&config.agent, console.time_zone()),
        None => settings,
    };
    let OpenedRepository { repository, store, .. } = open_repository_to_read(&settings, world).await?;
    let fold = repository.fold().await?;
    let name = DatabaseArchive::choose(&fold, &args.which.volume, args.which.database.as_deref())?;
    let newest = strongroom_archive::newest_log(&fold, &name).map(|log| &log.opened);
    let newest = newest.ok_or_else(|| ArchiveError::NoDatabase { what: name.clone() })?;
    if !copy::is_known(&newest.engine) {
        return Err(ProvingError::Engine { engine: newest.engine.clone() }.into());
    }
    let configured = config.iter().flat_map(|config| &config.databases).find(|one| one.name.value == name);
    let mut test = configured.and_then(|database| database.test.clone()).unwrap_or_default();
    test.sql.extend(args.sql.iter().cloned());
    let usual = || match &configured?.engine {
        EngineConfig::Postgres(postgres) => Some(postgres.database.clone()),
        EngineConfig::Mariadb(_) | EngineConfig::Sqlite(_) | EngineConfig::Redis(_) => None,
    };
    let database = args.sql_database.clone().or(test.database).or_else(usual);
    let archive = DatabaseArchive::open(&repository, &fold, &name).await?;
    let endpoint = crate::cli::endpoint_of(args.endpoint.as_ref(), config.as_ref());
    let driver = Driver::connect(endpoint.as_deref()).await?;
    let work_dir = args.work_dir.clone().unwrap_or(test.work_dir);
    let scratch = Scratch::make(&driver, &work_dir, &args.which.volume, world).await?;
    let proving = Proving {
        beside: Beside {
            repository: repository.clone(),
            store,
            archive,
            console: console.clone(),
            world: world.clone(),
            // It is not gone on with by anybody.
            state_dir: None,
            endpoint,
            volume: args.which.volume.clone(),
            target: scratch.volume().clone(),
            labels: Some(scratch.labels()),
            data_directory: args.data_directory.clone().or(test.data_directory),
            programs: args.programs.clone().or(test.programs),
            work_dir,
            purpose: None,
            given_up: interrupted.clone(),
        },
        log: newest.log,
        aim,
        asking: Asking { role: args.role.clone().unwrap_or(test.role), database },
        sql: test.sql,
        time_limit: test.time_limit.get(),
    };
    let proof = proving.run(scratch, &driver, &interrupted).await?;
    if !args.no_record
        && let Err(error) = repository.note_database_tested(proof.noted()).await
    {
        console.warn(format!("the repository's journal does not note this test: {}", chain(&error)));
    }
    console.result(&proof, |page| proof.write(page, console.time_zone()));
    Ok(if proof.proven { Exit::Done } else { Exit::FAILED })
}

/// A token that is cancelled by SIGINT and SIGTERM: a test clears away what it made.
fn stopped_by_signals() -> CancellationToken {
    let token = CancellationToken::new();
    let cancel = token.clone();
    tokio::spawn(async move {
        let (Ok(mut interrupt), Ok(mut terminate)) =
            (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
        else {
            return;
        };
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        cancel.cancel();
    });
    token
}
