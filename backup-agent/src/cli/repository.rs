//! `strongroom repository`: check, measure, tidy; and the keys.

use std::path::PathBuf;
use std::sync::Arc;

use clap::Subcommand;
use serde::Serialize;
use strongroom_console::{Console, Exit, Failed, Progress, Size, Table, local_and_utc};
use strongroom_model::{Failure, Remedy, World};
use strongroom_repository::Repository;
use strongroom_repository::keys::{KeyFile, Passphrase, PassphraseCost, SlotKind, Unlock};
use strongroom_settings::{RepositoryArgs, open_repository};

use super::audit::{self, AcceptRollbackArgs};
use super::check::{self, CheckArgs, RepairArgs, ScrubArgs};
use super::copy::{self, CopyArgs};
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

/// `strongroom repository key …`
#[derive(Debug, Subcommand)]
pub enum KeyCommand {
    /// Add a key file (made when it is absent) or a passphrase that opens the repository from now on
    Add(KeyAddArgs),
    /// List the key slots
    List(RepositoryArgs),
    /// Remove a key slot; never the last
    Remove(KeyRemoveArgs),
}

/// `strongroom repository key add`
#[derive(Debug, clap::Args)]
pub struct KeyAddArgs {
    #[command(flatten)]
    repository: RepositoryArgs,
    /// The file with the new key; made, with mode 0600, when it is absent
    #[arg(
        long,
        value_name = "KEY",
        conflicts_with = "new_passphrase_file",
        required_unless_present = "new_passphrase_file"
    )]
    new_key_file: Option<PathBuf>,
    /// The file whose first line is the new passphrase
    #[arg(long, value_name = "FILE")]
    new_passphrase_file: Option<PathBuf>,
    /// What to call it
    #[arg(long, value_name = "TEXT", default_value = "")]
    label: String,
}

/// `strongroom repository key remove`
#[derive(Debug, clap::Args)]
pub struct KeyRemoveArgs {
    #[command(flatten)]
    repository: RepositoryArgs,
    /// The slot, as `key list` shows it
    #[arg(value_name = "SLOT")]
    slot: String,
}

/// The text is not the name of a key slot.
#[derive(Debug, thiserror::Error)]
#[error("{given:?} is no key slot: it has 16 hexadecimal digits")]
struct NoSlot {
    given: String,
}

impl Failure for NoSlot {
    fn code(&self) -> &'static str {
        "key.no-such-slot"
    }

    fn remedy(&self) -> Remedy {
        Remedy::FixRequest
    }

    fn advice(&self) -> String {
        "`strongroom repository key list` shows the slots.".into()
    }
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
        RepositoryCommand::Key(KeyCommand::Add(args)) => key_add(args, console, world).await,
        RepositoryCommand::Key(KeyCommand::List(args)) => key_list(args, console, world).await,
        RepositoryCommand::Key(KeyCommand::Remove(args)) => key_remove(args, console, world).await,
    }
}

async fn open(args: &RepositoryArgs, world: &World) -> Result<Repository, Failed> {
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

/// A key slot as results show it.
#[derive(Debug, Serialize)]
struct ShownSlot {
    slot: String,
    kind: &'static str,
    label: String,
    created_at: jiff::Timestamp,
}

impl From<&strongroom_repository::keys::KeySlot> for ShownSlot {
    fn from(slot: &strongroom_repository::keys::KeySlot) -> Self {
        let kind = match slot.kind() {
            SlotKind::KeyFile => "key file",
            SlotKind::Passphrase => "passphrase",
        };
        Self { slot: hex(&slot.id()), kind, label: slot.label().to_owned(), created_at: slot.created_at() }
    }
}

#[derive(Debug, Serialize)]
struct Slots {
    slots: Vec<ShownSlot>,
}

async fn key_add(args: KeyAddArgs, console: &Console, world: &World) -> Result<Exit, Failed> {
    let repository = open(&args.repository, world).await?;
    let unlock = match (&args.new_key_file, &args.new_passphrase_file) {
        (_, Some(path)) => Unlock::Passphrase(Passphrase::read(path)?),
        (Some(path), None) if path.exists() => Unlock::KeyFile(KeyFile::read(path)?),
        (path, None) => {
            let key = KeyFile::generate(&*world.entropy);
            key.write_new(path.as_deref().expect("clap asks for one of the two"))?;
            Unlock::KeyFile(key)
        }
    };
    let slot = ShownSlot::from(&repository.add_key(&unlock, &args.label, PassphraseCost::DEFAULT).await?);
    console.result(&slot, |text| {
        text.line(format_args!("added key slot {} ({})", slot.slot, slot.kind));
    });
    Ok(Exit::Done)
}

async fn key_list(args: RepositoryArgs, console: &Console, world: &World) -> Result<Exit, Failed> {
    let slots = open(&args, world).await?.list_keys().await?;
    let slots = Slots { slots: slots.iter().map(ShownSlot::from).collect() };
    console.result(&slots, |text| {
        let mut table = Table::new(["SLOT", "KIND", "ADDED", "LABEL"]);
        for slot in &slots.slots {
            let added = local_and_utc(slot.created_at, console.time_zone());
            table.row([slot.slot.as_str(), slot.kind, &added, &slot.label]);
        }
        text.table(&table);
    });
    Ok(Exit::Done)
}

async fn key_remove(args: KeyRemoveArgs, console: &Console, world: &World) -> Result<Exit, Failed> {
    let slot = unhex(&args.slot).ok_or_else(|| NoSlot { given: args.slot.chars().take(40).collect() })?;
    open(&args.repository, world).await?.remove_key(slot).await?;
    #[derive(Debug, Serialize)]
    struct Removed {
        slot: String,
    }
    let removed = Removed { slot: hex(&slot) };
    console.result(&removed, |text| {
        text.line(format_args!("removed key slot {}", removed.slot));
        text.line(
            "Who holds its key and a copy of the repository made before this can still read that copy.",
        );
    });
    Ok(Exit::Done)
}

fn hex(bytes: &[u8; 8]) -> String {
    format!("{:016x}", u64::from_be_bytes(*bytes))
}

fn unhex(text: &str) -> Option<[u8; 8]> {
    let plain = text.len() == 16 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    plain.then(|| u64::from_str_radix(text, 16).ok().map(u64::to_be_bytes)).flatten()
}
