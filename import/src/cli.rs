//! `strongroom import restic`: shows the plan, and with `--yes` makes the points.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use clap::Subcommand;
use futures::future::BoxFuture;
use jiff::Timestamp;
use serde::Serialize;
use strongroom_block_io::BlockSource;
use strongroom_console::{Console, Exit, Failed, Size as Shown, Table, local};
use strongroom_model::{RecoveryPointId, VolumeName, World};
use strongroom_object_store::open_store;
use strongroom_settings::{
    AgentConfig, OpenedRepository, RepositoryArgs, RepositorySettings, Size, open_repository,
};
use tokio::runtime::Handle;
use zeroize::Zeroizing;

use crate::error::ImportError;
use crate::place::Place;
use crate::plan::{Plan, Planned, Row};
use crate::restic::{Choice, Finding, Restic, guarded};
use crate::source::ResticFile;

/// Snapshots without an image that are named to a person.
const MOST_NAMED: usize = 10;

/// The nouns of this role.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make recovery points of the backups of another program
    #[command(subcommand)]
    Import(ImportCommand),
}

/// `strongroom import …`
#[derive(Debug, Subcommand)]
pub enum ImportCommand {
    /// Of the image files in the snapshots of a restic repository: shows what it would do, and does it with --yes
    Restic(ResticArgs),
}

/// `strongroom import restic`
#[derive(Debug, clap::Args)]
pub struct ResticArgs {
    /// Where the points go.
    #[command(flatten)]
    pub repository: RepositoryArgs,
    /// Where the restic repository is: a folder, s3://bucket/prefix, or s3:https://host/bucket/prefix as restic writes it
    #[arg(value_name = "PLACE")]
    pub from: String,
    /// A file whose first line is the password of the restic repository; RESTIC_PASSWORD is taken where there is none
    #[arg(long, value_name = "FILE", env = "RESTIC_PASSWORD_FILE")]
    pub restic_password_file: Option<PathBuf>,
    /// The profile of the AWS files whose credentials read the restic repository, where they are not those of ours
    #[arg(long, value_name = "NAME")]
    pub restic_profile: Option<String>,
    /// This file of every snapshot that has it, with its whole path as `restic ls` shows it; may be given again
    #[arg(long, value_name = "PATH", conflicts_with = "min_size")]
    pub path: Vec<PathBuf>,
    /// Every regular file of at least this size that is made of whole sectors
    #[arg(long, value_name = "SIZE", default_value = "64MiB")]
    pub min_size: Size,
    /// Only the snapshots of this host
    #[arg(long, value_name = "HOST")]
    pub host: Option<String>,
    /// The name of the volume, where one file is imported; else each file gives its own name
    #[arg(long, value_name = "NAME")]
    pub volume: Option<VolumeName>,
    /// Show what would be done, and do nothing: what happens without --yes as well
    #[arg(long, conflicts_with = "yes")]
    pub dry_run: bool,
    /// Do it
    #[arg(long, short = 'y')]
    pub yes: bool,
}

/// An image to be captured and published.
#[derive(Debug)]
pub struct Image {
    /// The name of the volume.
    pub volume: VolumeName,
    /// Its bytes.
    pub source: Arc<dyn BlockSource>,
    /// The moment of its content.
    pub taken_at: Timestamp,
    /// Its path where it came from.
    pub path: String,
    /// What the point says besides.
    pub labels: BTreeMap<String, String>,
}

/// What became of an image.
#[derive(Debug, Clone, Serialize)]
pub struct Kept {
    /// The point.
    pub point: RecoveryPointId,
    /// Bytes that nobody had.
    pub new_bytes: u64,
    /// Bytes that were sent.
    pub sent_bytes: u64,
}

/// What images are kept in.
#[derive(Debug)]
pub struct Keeper {
    /// The repository.
    pub opened: OpenedRepository,
    /// How it was named.
    pub settings: RepositorySettings,
    /// How captures are bounded.
    pub config: AgentConfig,
}

/// Captures an image and publishes its point. Handed in by whoever starts the roles, which do not know each other.
pub type Keep = dyn for<'a> Fn(&'a Keeper, Image, &'a Console, &'a World) -> BoxFuture<'a, Result<Kept, Failed>>
    + Send
    + Sync;

/// What an import did, or would do.
#[derive(Debug, Serialize)]
struct Imported {
    dry_run: bool,
    plan: Vec<Row>,
    /// Snapshots that have no image.
    without: Vec<String>,
    imported: Vec<Done>,
}

#[derive(Debug, Serialize)]
struct Done {
    volume: VolumeName,
    snapshot: String,
    taken_at: Timestamp,
    #[serde(flatten)]
    kept: Kept,
}

/// Carries a command out.
///
/// # Errors
/// Whatever went wrong, with its code and what to do next.
pub async fn run(command: Command, console: &Console, world: &World, keep: &Keep) -> Result<Exit, Failed> {
    let Command::Import(ImportCommand::Restic(args)) = command;
    let password = password(&args)?;
    let (settings, config) = args.repository.resolve_with_config()?;
    let place =
        Place::parse(&args.from, &settings.s3.clone().unwrap_or_default(), args.restic_profile.as_deref())?;
    let config = config.map_or_else(AgentConfig::default, |config| config.agent);
    let opened = open_repository(&settings, world).await?;
    let keeper = Keeper { opened, settings, config };

    let (restic, finding) = find(&args, &place, password, world).await?;
    if finding.found.is_empty() {
        return Err(ImportError::Nothing { what: what(&args) }.into());
    }
    let without = finding.without.iter().map(|snapshot| snapshot.id.clone()).collect();
    let fold = keeper.opened.repository.fold().await?;
    let plan = Plan::make(finding.found, args.volume.as_ref(), &fold)?;
    drop(fold);
    let mut imported = Imported { dry_run: !args.yes, plan: plan.rows(), without, imported: Vec::new() };
    if args.yes {
        for planned in plan.to_do() {
            imported.imported.push(import(&restic, planned, &keeper, console, world, keep).await?);
        }
    }
    console.result(&imported, |text| {
        if imported.dry_run {
            text.table(&table(&imported.plan, console));
        }
        for done in &imported.imported {
            let taken = local(done.taken_at, console.time_zone());
            let new = Shown(done.kept.new_bytes);
            text.line(format_args!("{} of {taken}: {} ({new} new)", done.volume, done.kept.point));
        }
        let already = imported.plan.iter().filter(|row| row.already.is_some()).count();
        if already > 0 {
            text.line(format_args!("{already} were imported before"));
        }
        if !imported.without.is_empty() {
            let ids: Vec<&str> = imported.without.iter().take(MOST_NAMED).map(|id| &id[..8]).collect();
            let more = if imported.without.len() > MOST_NAMED { " …" } else { "" };
            let count = imported.without.len();
            text.line(format_args!("{count} snapshots have no image: {}{more}", ids.join(" ")));
        }
        if imported.dry_run {
            text.line(format_args!("Nothing was done. With --yes {} points are made.", plan.to_do().count()));
        }
    });
    Ok(Exit::Done)
}

async fn import(
    restic: &Restic,
    planned: &Planned,
    keeper: &Keeper,
    console: &Console,
    world: &World,
    keep: &Keep,
) -> Result<Done, Failed> {
    let source = Arc::new(open(restic, planned).await?);
    let snapshot = &planned.found.snapshot;
    let image = Image {
        volume: planned.volume.clone(),
        source: Arc::clone(&source) as _,
        taken_at: snapshot.taken_at,
        path: planned.found.path.display().to_string(),
        labels: planned.labels(),
    };
    let kept = keep(keeper, image, console, world).await;
    // Where it was restic's repository that could not be read, that is what is said.
    let kept = kept.map_err(|failed| source.failure().map_or(failed, Failed::from))?;
    let taken = local(snapshot.taken_at, console.time_zone());
    console.talk(format_args!("{} of {taken} is {}", planned.volume, kept.point));
    Ok(Done {
        volume: planned.volume.clone(),
        snapshot: snapshot.id.clone(),
        taken_at: snapshot.taken_at,
        kept,
    })
}

/// Never from the command line, where every process of the machine can read it.
fn password(args: &ResticArgs) -> Result<Zeroizing<String>, ImportError> {
    let file = args.restic_password_file.as_ref().filter(|path| !path.as_os_str().is_empty());
    if let Some(path) = file {
        let text = std::fs::read_to_string(path)
            .map_err(|cause| ImportError::Password { path: path.clone(), cause })?;
        let text = Zeroizing::new(text);
        return Ok(Zeroizing::new(text.lines().next().unwrap_or_default().to_owned()));
    }
    match std::env::var("RESTIC_PASSWORD") {
        Ok(password) if !password.is_empty() => Ok(Zeroizing::new(password)),
        _ => Err(ImportError::NoPassword),
    }
}

async fn find(
    args: &ResticArgs,
    place: &Place,
    password: Zeroizing<String>,
    world: &World,
) -> Result<(Restic, Finding), Failed> {
    let store = open_store(&place.url.to_string(), Some(&place.s3), world).await?;
    let choice =
        Choice { paths: args.path.clone(), min_bytes: args.min_size.bytes(), host: args.host.clone() };
    let runtime = Handle::current();
    let finding = blocking(move || {
        let restic = Restic::open(store, runtime, &password)?;
        let finding = restic.find(&choice)?;
        Ok((restic, finding))
    });
    Ok(finding.await?)
}

async fn open(restic: &Restic, planned: &Planned) -> Result<ResticFile, ImportError> {
    let (restic, found) = (restic.clone(), planned.found.clone());
    blocking(move || ResticFile::open(&restic, &found)).await
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ImportError> + Send + 'static,
) -> Result<T, ImportError> {
    let done = tokio::task::spawn_blocking(|| guarded(work)).await;
    done.unwrap_or_else(|_| Err(ImportError::Broken { what: "its thread ended".to_owned() }))
}

fn what(args: &ResticArgs) -> String {
    if args.path.is_empty() {
        return format!("a file of {} or more", Shown(args.min_size.bytes()));
    }
    let paths: Vec<String> = args.path.iter().map(|path| path.display().to_string()).collect();
    paths.join(" or ")
}

fn table(rows: &[Row], console: &Console) -> Table {
    let mut table = Table::new(["VOLUME", "TAKEN", "SNAPSHOT", "HOST", "PATH", "SIZE", ""]).right([5]);
    for row in rows {
        let state = row.already.map_or_else(String::new, |point| format!("is {point} already"));
        table.row([
            row.volume.to_string(),
            local(row.taken_at, console.time_zone()),
            row.snapshot.chars().take(8).collect(),
            row.host.clone(),
            row.path.clone(),
            Shown(row.image_bytes).to_string(),
            state,
        ]);
    }
    table
}
