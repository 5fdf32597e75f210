//! `strongroom repository key`: who can open the repository, and how far.

use std::path::PathBuf;

use clap::Subcommand;
use serde::Serialize;
use strongroom_console::{Console, Exit, Failed, Table, local_and_utc};
use strongroom_model::{Failure, Remedy, World};
use strongroom_repository::keys::{
    DataSeal, Grants, KeyFile, KeySlot, NewKey, Passphrase, PassphraseCost, Recipient, RecipientKey,
    SlotKind, Unlock,
};
use strongroom_repository::{LeftBehind, Rotated, Rotation};
use strongroom_settings::RepositoryArgs;

use super::kit::{self, KitArgs};
use super::repository::open;

/// `strongroom repository key …`
#[derive(Debug, Subcommand)]
pub enum KeyCommand {
    /// Add a key file (made when it is absent), a passphrase or a recipient's public key
    Add(AddArgs),
    /// List the key slots
    List(RepositoryArgs),
    /// Remove a key slot; never the last that grants everything
    Remove(RemoveArgs),
    /// Seal all that comes from now on under new keys, and give them to every slot
    Rotate(RotateArgs),
    /// Make a key pair: the private key stays in the file, the public key is printed for `key add --recipient`
    Generate(GenerateArgs),
    /// Print a recovery kit: a sheet of paper with all that is needed to restore, and a key of its own
    RecoveryKit(KitArgs),
    /// Say whether data is sealed so that write-only keys can be given out, from now on
    WriteOnly(WriteOnlyArgs),
}

/// `strongroom repository key add`
#[derive(Debug, clap::Args)]
pub struct AddArgs {
    #[command(flatten)]
    repository: RepositoryArgs,
    #[command(flatten)]
    new: NewKeyArgs,
    /// The key writes and cannot read data: for the agents of machines that may be stolen
    #[arg(long)]
    write_only: bool,
    /// What to call it
    #[arg(long, value_name = "TEXT", default_value = "")]
    label: String,
}

/// A new key, of one of three kinds.
#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
pub(super) struct NewKeyArgs {
    /// The file with the new key; made, with mode 0600, when it is absent
    #[arg(long, value_name = "KEY")]
    new_key_file: Option<PathBuf>,
    /// The file whose first line is the new passphrase
    #[arg(long, value_name = "FILE")]
    new_passphrase_file: Option<PathBuf>,
    /// The public key of somebody who keeps the private key: what `key generate` printed
    #[arg(long, value_name = "PUBLIC-KEY")]
    recipient: Option<String>,
}

impl NewKeyArgs {
    /// The key; its file is made when it is absent.
    pub(super) fn take(&self, world: &World) -> Result<NewKey, Failed> {
        Ok(match (&self.new_key_file, &self.new_passphrase_file, &self.recipient) {
            (_, _, Some(text)) => NewKey::Recipient(text.parse::<Recipient>()?),
            (_, Some(path), _) => NewKey::Holder(Unlock::Passphrase(Passphrase::read(path)?)),
            (Some(path), ..) if path.exists() => NewKey::Holder(Unlock::KeyFile(KeyFile::read(path)?)),
            (path, ..) => {
                let key = KeyFile::generate(&*world.entropy);
                key.write_new(path.as_deref().expect("clap asks for one of the three"))?;
                NewKey::Holder(Unlock::KeyFile(key))
            }
        })
    }
}

/// `strongroom repository key remove`
#[derive(Debug, clap::Args)]
pub struct RemoveArgs {
    #[command(flatten)]
    repository: RepositoryArgs,
    /// The slot, as `key list` shows it
    #[arg(value_name = "SLOT")]
    slot: String,
}

/// `strongroom repository key rotate`
#[derive(Debug, clap::Args)]
pub struct RotateArgs {
    #[command(flatten)]
    repository: RepositoryArgs,
    /// Remove this slot in the same step; may be repeated
    #[arg(long, value_name = "SLOT")]
    remove: Vec<String>,
    #[command(flatten)]
    others: OthersArgs,
}

/// Slots that a rotation cannot renew by itself.
#[derive(Debug, clap::Args)]
struct OthersArgs {
    /// A key file of a slot of the first version, which only its own key can renew; may be repeated
    #[arg(long, value_name = "KEY")]
    with_key_file: Vec<PathBuf>,
    /// A file with the passphrase of such a slot; may be repeated
    #[arg(long, value_name = "FILE")]
    with_passphrase_file: Vec<PathBuf>,
    /// Go on although slots cannot be renewed: their holders can then no longer open the repository
    #[arg(long)]
    leave_behind: bool,
}

/// `strongroom repository key generate`
#[derive(Debug, clap::Args)]
pub struct GenerateArgs {
    /// The file for the private key; must not exist
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

/// `strongroom repository key write-only`
#[derive(Debug, clap::Args)]
pub struct WriteOnlyArgs {
    #[command(flatten)]
    repository: RepositoryArgs,
    /// `on` seals data to a public key from now on; `off` seals it as before, and ends all write-only keys
    #[arg(value_name = "ON|OFF")]
    state: State,
    #[command(flatten)]
    others: OthersArgs,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum State {
    On,
    Off,
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

pub(super) async fn run(command: KeyCommand, console: &Console, world: &World) -> Result<Exit, Failed> {
    match command {
        KeyCommand::Add(args) => add(args, console, world).await,
        KeyCommand::List(args) => list(args, console, world).await,
        KeyCommand::Remove(args) => remove(args, console, world).await,
        KeyCommand::Rotate(args) => rotate(args, console, world).await,
        KeyCommand::Generate(args) => generate(&args, console, world),
        KeyCommand::RecoveryKit(args) => kit::run(args, console, world).await,
        KeyCommand::WriteOnly(args) => write_only(args, console, world).await,
    }
}

/// A key slot as results show it.
#[derive(Debug, Serialize)]
struct Shown {
    slot: String,
    kind: &'static str,
    grants: Grants,
    label: String,
    created_at: jiff::Timestamp,
    /// Whether it holds the keys that seal now; a slot that does not opens nothing any more.
    current: bool,
}

impl Shown {
    fn of(slot: &KeySlot, sealing: u32) -> Self {
        let kind = match slot.kind() {
            SlotKind::KeyFile => "key file",
            SlotKind::Passphrase => "passphrase",
            SlotKind::Recipient => "recipient",
        };
        Self {
            slot: hex(&slot.id()),
            kind,
            grants: slot.grants(),
            label: slot.label().to_owned(),
            created_at: slot.created_at(),
            // A slot of the first version is made in a repository whose keys were never rotated.
            current: slot.epoch().is_none_or(|epoch| epoch == sealing),
        }
    }
}

#[derive(Debug, Serialize)]
struct Slots {
    slots: Vec<Shown>,
}

async fn add(args: AddArgs, console: &Console, world: &World) -> Result<Exit, Failed> {
    let repository = open(&args.repository, world).await?;
    let grants = if args.write_only { Grants::WriteOnly } else { Grants::Everything };
    let key = args.new.take(world)?;
    let slot = repository.add_slot(&key, grants, &args.label, PassphraseCost::DEFAULT).await?;
    let slot = Shown::of(&slot, repository.sealing_epoch());
    console.result(&slot, |text| {
        text.line(format_args!("added key slot {} ({}, {})", slot.slot, slot.kind, slot.grants.as_str()));
    });
    Ok(Exit::Done)
}

async fn list(args: RepositoryArgs, console: &Console, world: &World) -> Result<Exit, Failed> {
    let repository = open(&args, world).await?;
    let (slots, sealing) = (repository.list_keys().await?, repository.sealing_epoch());
    // Only where some slot is of the second version, the first counts as left behind.
    let rotated = slots.iter().any(|slot| slot.epoch() == Some(sealing));
    let show = |slot: &KeySlot| {
        let shown = Shown::of(slot, sealing);
        Shown { current: shown.current && (slot.epoch().is_some() || !rotated), ..shown }
    };
    let slots = Slots { slots: slots.iter().map(show).collect() };
    console.result(&slots, |text| {
        let mut table = Table::new(["SLOT", "KIND", "GRANTS", "STATE", "ADDED", "LABEL"]);
        for slot in &slots.slots {
            let added = local_and_utc(slot.created_at, console.time_zone());
            let state = if slot.current { "current" } else { "left behind" };
            table.row([slot.slot.as_str(), slot.kind, slot.grants.as_str(), state, &added, &slot.label]);
        }
        text.table(&table);
    });
    Ok(Exit::Done)
}

async fn remove(args: RemoveArgs, console: &Console, world: &World) -> Result<Exit, Failed> {
    let slot = parse_slot(&args.slot)?;
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
        text.line(
            "Run `strongroom repository key rotate` so that it opens nothing that is written from now on.",
        );
    });
    Ok(Exit::Done)
}

/// What a rotation did, as results show it.
#[derive(Debug, Serialize)]
struct ShownRotation {
    epoch: u32,
    slots: Vec<Shown>,
    left_behind: Vec<LeftBehind>,
    undeleted: Vec<String>,
    write_only_keys: bool,
}

async fn rotate(args: RotateArgs, console: &Console, world: &World) -> Result<Exit, Failed> {
    let remove = args.remove.iter().map(|slot| parse_slot(slot)).collect::<Result<_, _>>()?;
    change(&args.repository, args.others, remove, None, console, world).await
}

async fn write_only(args: WriteOnlyArgs, console: &Console, world: &World) -> Result<Exit, Failed> {
    let seal = match args.state {
        State::On => DataSeal::Split,
        State::Off => DataSeal::Open,
    };
    change(&args.repository, args.others, [].into(), Some(seal), console, world).await
}

async fn change(
    args: &RepositoryArgs,
    others: OthersArgs,
    remove: std::collections::BTreeSet<[u8; 8]>,
    data_seal: Option<DataSeal>,
    console: &Console,
    world: &World,
) -> Result<Exit, Failed> {
    let repository = open(args, world).await?;
    let mut keys = Vec::new();
    for path in &others.with_key_file {
        keys.push(Unlock::read_key(path)?);
    }
    for path in &others.with_passphrase_file {
        keys.push(Unlock::Passphrase(Passphrase::read(path)?));
    }
    let leave_behind = others.leave_behind;
    let rotation = Rotation { data_seal, remove, keys, leave_behind, cost: PassphraseCost::DEFAULT };
    let Rotated { epoch, slots, left_behind, undeleted } = repository.rotate_keys(rotation).await?;
    let slots = slots.iter().map(|slot| Shown::of(slot, epoch)).collect();
    let write_only_keys = repository.data_seal() == DataSeal::Split;
    let shown = ShownRotation { epoch, slots, left_behind, undeleted, write_only_keys };
    console.result(&shown, |text| {
        text.line(format_args!(
            "the keys were rotated: {} slots hold the new ones (epoch {})",
            shown.slots.len(),
            shown.epoch
        ));
        for left in &shown.left_behind {
            text.line(format_args!("slot {} {:?} was left behind: {}", left.slot, left.label, left.why));
        }
        for name in &shown.undeleted {
            text.line(format_args!("{name} could not be deleted; it opens only what was sealed before"));
        }
        text.line("What was sealed before can still be read by whoever could read it before.");
        if data_seal == Some(DataSeal::Split) {
            text.line("Data is now sealed so that write-only keys cannot read it: `key add --write-only` gives them out.");
        }
    });
    Ok(Exit::Done)
}

fn generate(args: &GenerateArgs, console: &Console, world: &World) -> Result<Exit, Failed> {
    #[derive(Debug, Serialize)]
    struct Generated {
        recipient: String,
        file: PathBuf,
    }
    let key = RecipientKey::generate(&*world.entropy);
    key.write_new(&args.file)?;
    let made = Generated { recipient: key.recipient().to_string(), file: args.file.clone() };
    console.result(&made, |text| {
        text.line(&made.recipient);
    });
    Ok(Exit::Done)
}

fn parse_slot(text: &str) -> Result<[u8; 8], NoSlot> {
    unhex(text).ok_or_else(|| NoSlot { given: text.chars().take(40).collect() })
}

pub(super) fn hex(bytes: &[u8; 8]) -> String {
    format!("{:016x}", u64::from_be_bytes(*bytes))
}

fn unhex(text: &str) -> Option<[u8; 8]> {
    let plain = text.len() == 16 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    plain.then(|| u64::from_str_radix(text, 16).ok().map(u64::to_be_bytes)).flatten()
}
