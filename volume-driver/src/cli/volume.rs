//! `strongroom volume`: volumes by hand, for machines without an orchestrator.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand, ValueEnum};
use serde::Serialize;
use strongroom_console::{Console, Exit, Failed, Size};
use strongroom_model::{Failure, Remedy};
use strongroom_proto::control::{
    self, CreateVolumeRequest, ListVolumesRequest, MountRequest, UnmountRequest, create_volume_request,
};
use strongroom_proto::csi::{
    CapacityRange, ControllerExpandVolumeRequest, ControllerModifyVolumeRequest,
    ControllerUnpublishVolumeRequest, DeleteVolumeRequest, NodeExpandVolumeRequest,
};
use strongroom_proto::{CallError, Clients};

use super::from_point::RepositoryFlags;
use super::reach::{self, EndpointArgs, given, named};
use super::views::{VolumeView, volume_table};

/// What can be done with volumes.
#[derive(Debug, Subcommand)]
pub enum VolumeCommand {
    /// Make a volume, empty or from a snapshot, another volume or a recovery point; the same again changes nothing
    Create(CreateArgs),
    /// List all volumes
    List {
        /// Only volumes that carry this label; may be given again
        #[arg(long = "label", value_name = "KEY=VALUE", value_parser = reach::label)]
        labels: Vec<(String, String)>,
        #[command(flatten)]
        at: EndpointArgs,
    },
    /// Show one volume with everything known about it
    Show {
        /// Its name, or its id
        name: String,
        #[command(flatten)]
        at: EndpointArgs,
    },
    /// Mount a volume at a directory
    Mount {
        /// Its name, or its id
        name: String,
        /// A directory that exists
        #[arg(value_name = "DIR")]
        folder: PathBuf,
        /// An option for mount, such as ro or noatime; may be given again
        #[arg(short = 'o', long = "option", value_name = "OPTION", value_delimiter = ',')]
        options: Vec<String>,
        #[command(flatten)]
        at: EndpointArgs,
    },
    /// Unmount what was mounted by `volume mount`
    Unmount {
        /// Its name, or its id
        name: String,
        /// Only there [default: everywhere]
        #[arg(value_name = "DIR")]
        folder: Option<PathBuf>,
        #[command(flatten)]
        at: EndpointArgs,
    },
    /// Make a volume larger, while it is in use
    Expand {
        /// Its name, or its id
        name: String,
        /// Its new size, such as 20GiB
        #[arg(long)]
        size: Size,
        #[command(flatten)]
        at: EndpointArgs,
    },
    /// Make a new volume with the content that a volume has now
    Clone {
        /// The volume to copy
        name: String,
        /// The name of the new volume
        new: String,
        /// A label of the new volume; may be given again
        #[arg(long = "label", value_name = "KEY=VALUE", value_parser = reach::label)]
        labels: Vec<(String, String)>,
        #[command(flatten)]
        at: EndpointArgs,
    },
    /// Change labels and limits of a volume, while it is in use: all that is asked, or nothing
    Modify {
        /// Its name, or its id
        name: String,
        /// policy=NAME, label.KEY=VALUE, or how much I/O a second its users may do: iops.read, iops.write,
        /// bytes-per-second.read, bytes-per-second.write; an empty value takes it away
        #[arg(required = true, value_name = "KEY=VALUE", value_parser = reach::label)]
        changes: Vec<(String, String)>,
        #[command(flatten)]
        at: EndpointArgs,
    },
    /// Take a volume from a node that an orchestrator attached it to and has forgotten
    Detach {
        /// Its name, or its id
        name: String,
        /// Only from this node [default: from all]
        #[arg(long, value_name = "ID", default_value = "", hide_default_value = true)]
        node: String,
        #[command(flatten)]
        at: EndpointArgs,
    },
    /// Delete a volume that is not in use; its snapshots and recovery points stay
    Delete {
        /// Its name, or its id
        name: String,
        #[command(flatten)]
        at: EndpointArgs,
    },
}

/// A volume to be made.
#[derive(Debug, Args)]
pub struct CreateArgs {
    /// Its name: up to 128 bytes
    pub name: String,
    /// Its size, such as 10GiB; needed unless it begins with something that has a size
    #[arg(long, required_unless_present_any = ["from_snapshot", "from_volume", "from_point"])]
    pub size: Option<Size>,
    /// What it holds [default: as what it begins with, or ext4]
    #[arg(long, value_enum)]
    pub fs: Option<Fs>,
    /// A label for policies to select it by; may be given again
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = reach::label)]
    pub labels: Vec<(String, String)>,
    /// What it begins with.
    #[command(flatten)]
    pub from: From,
    /// Where a recovery point is.
    #[command(flatten)]
    pub repository: RepositoryFlags,
    /// Where the driver is.
    #[command(flatten)]
    pub at: EndpointArgs,
}

/// What a volume begins with; at most one.
#[derive(Debug, Args)]
#[group(multiple = false)]
pub struct From {
    /// Begin with the content of a snapshot
    #[arg(long, value_name = "ID")]
    pub from_snapshot: Option<String>,
    /// Begin with what another volume holds now
    #[arg(long, value_name = "NAME")]
    pub from_volume: Option<String>,
    /// Begin with a recovery point: its id or the beginning of it, NAME@latest, or NAME@TIME
    #[arg(long, value_name = "POINT")]
    pub from_point: Option<String>,
}

/// What a volume holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Fs {
    /// An ext4 filesystem.
    Ext4,
    /// An XFS filesystem.
    Xfs,
    /// A btrfs filesystem.
    Btrfs,
    /// Nothing: a raw block device.
    Block,
}

/// A path that the driver could not understand.
#[derive(Debug, thiserror::Error)]
#[error("{} cannot be named from the root", path.display())]
struct PathError {
    path: PathBuf,
    #[source]
    cause: std::io::Error,
}

impl Failure for PathError {
    fn code(&self) -> &'static str {
        "request.path"
    }

    fn remedy(&self) -> Remedy {
        Remedy::FixRequest
    }

    fn advice(&self) -> String {
        "give an absolute path".into()
    }
}

#[derive(Debug, Serialize)]
struct OneVolume {
    volume: VolumeView,
}

#[derive(Debug, Serialize)]
struct MadeVolume {
    volume: VolumeView,
    /// False: it was there already, just as asked for.
    created: bool,
}

#[derive(Debug, Serialize)]
struct AllVolumes {
    volumes: Vec<VolumeView>,
}

#[derive(Debug, Serialize)]
struct Mounted {
    volume: String,
    path: String,
    device: String,
}

#[derive(Debug, Serialize)]
struct Detached {
    volume: String,
    /// From where.
    nodes: Vec<String>,
}

#[derive(Debug, Serialize)]
struct Unmounted {
    volume: String,
    paths: Vec<String>,
}

#[derive(Debug, Serialize)]
struct Expanded {
    volume: String,
    size_bytes: u64,
    /// The filesystem will grow at the next mount.
    filesystem_pending: bool,
}

#[derive(Debug, Serialize)]
struct Deleted {
    volume: String,
    id: String,
}

pub(super) async fn run(command: VolumeCommand, console: &Console) -> Result<Exit, Failed> {
    match command {
        VolumeCommand::Create(args) => create(args, console).await?,
        VolumeCommand::List { labels, at } => list(labels, &mut at.connect().await?, console).await?,
        VolumeCommand::Show { name, at } => {
            let volume: VolumeView = reach::volume(&mut at.connect().await?, &name).await?.into();
            let shown = volume.clone();
            console.result(&OneVolume { volume }, |text| shown.facts(text, console));
        }
        VolumeCommand::Mount { name, folder, options, at } => {
            mount(&name, &folder, options, &mut at.connect().await?, console).await?;
        }
        VolumeCommand::Unmount { name, folder, at } => {
            unmount(&name, folder.as_deref(), &mut at.connect().await?, console).await?;
        }
        VolumeCommand::Expand { name, size, at } => {
            expand(&name, size, &mut at.connect().await?, console).await?;
        }
        VolumeCommand::Clone { name, new, labels, at } => {
            let request = CreateVolumeRequest {
                name: new,
                labels: labels.into_iter().collect(),
                source: Some(create_volume_request::Source::Volume(named(&name))),
                ..CreateVolumeRequest::default()
            };
            make(request, &mut at.connect().await?, console).await?;
        }
        VolumeCommand::Modify { name, changes, at } => {
            modify(&name, changes, &mut at.connect().await?, console).await?;
        }
        VolumeCommand::Detach { name, node, at } => {
            detach(&name, node, &mut at.connect().await?, console).await?;
        }
        VolumeCommand::Delete { name, at } => delete(&name, &mut at.connect().await?, console).await?,
    }
    Ok(Exit::Done)
}

async fn create(args: CreateArgs, console: &Console) -> Result<(), Failed> {
    let source = match (args.from.from_snapshot, args.from.from_volume, args.from.from_point) {
        (_, _, Some(point)) => Some(create_volume_request::Source::Point(point)),
        (Some(id), _, _) => Some(create_volume_request::Source::SnapshotId(id)),
        (_, Some(name), _) => Some(create_volume_request::Source::Volume(named(&name))),
        (None, None, None) => None,
    };
    let fs = match args.fs {
        None => control::Filesystem::Unspecified,
        Some(Fs::Ext4) => control::Filesystem::Ext4,
        Some(Fs::Xfs) => control::Filesystem::Xfs,
        Some(Fs::Btrfs) => control::Filesystem::Btrfs,
        Some(Fs::Block) => control::Filesystem::Block,
    };
    let request = CreateVolumeRequest {
        name: args.name,
        fs: fs.into(),
        bytes: args.size.map_or(0, |size| size.0),
        labels: args.labels.into_iter().collect(),
        source,
    };
    make(request, &mut args.at.connect().await?, console).await
}

async fn make(request: CreateVolumeRequest, clients: &mut Clients, console: &Console) -> Result<(), Failed> {
    let answer = loop {
        let answer =
            clients.driver.create_volume(request.clone()).await.map_err(CallError::from)?.into_inner();
        match answer.restoring_percent {
            None => break answer,
            // The driver has waited for a moment already.
            Some(percent) => console.talk(format_args!("restoring {}: {percent} %", request.name)),
        }
    };
    let volume: VolumeView = given(answer.volume, "the volume")?.into();
    let shown = volume.clone();
    console.result(&MadeVolume { volume, created: !answer.existed }, |text| {
        let (name, fs, size) = (&shown.name, shown.fs, Size(shown.size_bytes));
        if answer.existed {
            text.line(format_args!("{name} was there already, just as asked for: {fs}, {size}"));
        } else {
            text.line(format_args!("{name} is made: {fs}, {size} ({})", shown.id));
        }
    });
    Ok(())
}

async fn list(labels: Vec<(String, String)>, clients: &mut Clients, console: &Console) -> Result<(), Failed> {
    let request = ListVolumesRequest { labels: labels.into_iter().collect() };
    let answer = clients.driver.list_volumes(request).await.map_err(CallError::from)?.into_inner();
    let volumes: Vec<VolumeView> = answer.volumes.into_iter().map(VolumeView::from).collect();
    let table = volume_table(&volumes);
    console.result(&AllVolumes { volumes }, |text| {
        if table.is_empty() {
            text.line("there are no volumes");
        } else {
            text.table(&table);
        }
    });
    Ok(())
}

async fn modify(
    name: &str,
    changes: Vec<(String, String)>,
    clients: &mut Clients,
    console: &Console,
) -> Result<(), Failed> {
    let request = ControllerModifyVolumeRequest {
        volume_id: reach::volume(clients, name).await?.id,
        mutable_parameters: changes.into_iter().collect(),
        ..ControllerModifyVolumeRequest::default()
    };
    clients.controller.controller_modify_volume(request).await.map_err(CallError::from)?;
    let volume: VolumeView = reach::volume(clients, name).await?.into();
    let shown = volume.clone();
    console.result(&OneVolume { volume }, |text| shown.facts(text, console));
    Ok(())
}

async fn detach(name: &str, node: String, clients: &mut Clients, console: &Console) -> Result<(), Failed> {
    let before = reach::volume(clients, name).await?;
    let request = ControllerUnpublishVolumeRequest {
        volume_id: before.id,
        node_id: node,
        ..ControllerUnpublishVolumeRequest::default()
    };
    clients.controller.controller_unpublish_volume(request).await.map_err(CallError::from)?;
    let after = reach::volume(clients, name).await?.attached_to;
    let mut nodes = before.attached_to;
    nodes.retain(|node| !after.contains(node));
    let said = if nodes.is_empty() {
        format!("{name:?} was not attached there")
    } else {
        format!("{name:?} is detached from {}", nodes.join(", "))
    };
    console.result(&Detached { volume: name.to_owned(), nodes }, |text| {
        text.line(said);
    });
    Ok(())
}

async fn mount(
    name: &str,
    folder: &Path,
    options: Vec<String>,
    clients: &mut Clients,
    console: &Console,
) -> Result<(), Failed> {
    let path = from_root(folder)?;
    let request = MountRequest { volume: Some(named(name)), path: path.clone(), mount_flags: options };
    let device = clients.driver.mount(request).await.map_err(CallError::from)?.into_inner().device;
    console.result(&Mounted { volume: name.to_owned(), path: path.clone(), device }, |text| {
        text.line(format_args!("{name} is mounted at {path}"));
    });
    Ok(())
}

async fn unmount(
    name: &str,
    folder: Option<&Path>,
    clients: &mut Clients,
    console: &Console,
) -> Result<(), Failed> {
    let path = folder.map(from_root).transpose()?.unwrap_or_default();
    let request = UnmountRequest { volume: Some(named(name)), path };
    let paths = clients.driver.unmount(request).await.map_err(CallError::from)?.into_inner().paths;
    let said = if paths.is_empty() {
        format!("{name} was not mounted by hand")
    } else {
        format!("{name} is no longer mounted at {}", paths.join(", "))
    };
    console.result(&Unmounted { volume: name.to_owned(), paths }, |text| {
        text.line(said);
    });
    Ok(())
}

async fn expand(name: &str, size: Size, clients: &mut Clients, console: &Console) -> Result<(), Failed> {
    let volume = reach::volume(clients, name).await?;
    let range = CapacityRange { required_bytes: i64::try_from(size.0).unwrap_or(i64::MAX), limit_bytes: 0 };
    let request = ControllerExpandVolumeRequest {
        volume_id: volume.id.clone(),
        capacity_range: Some(range),
        ..ControllerExpandVolumeRequest::default()
    };
    let grown =
        clients.controller.controller_expand_volume(request).await.map_err(CallError::from)?.into_inner();
    let bytes = u64::try_from(grown.capacity_bytes).unwrap_or_default();
    let mut pending = grown.node_expansion_required;
    // A filesystem that is not mounted grows when it is mounted next.
    if let Some(place) = volume.mounts.first().filter(|_| pending) {
        let request = NodeExpandVolumeRequest {
            volume_id: volume.id,
            volume_path: place.path.clone(),
            ..NodeExpandVolumeRequest::default()
        };
        match clients.node.node_expand_volume(request).await.map_err(CallError::from) {
            Ok(_) => pending = false,
            // The volume is as large as was asked for; only its filesystem has to wait.
            Err(error) if error.code() == "driver.online-grow" => console.warn(&error),
            Err(error) => return Err(error.into()),
        }
    }
    let expanded = Expanded { volume: volume.name.clone(), size_bytes: bytes, filesystem_pending: pending };
    console.result(&expanded, |text| {
        let later = if pending { "; its filesystem grows when it is mounted next" } else { "" };
        text.line(format_args!("{} has {}{later}", volume.name, Size(bytes)));
    });
    Ok(())
}

async fn delete(name: &str, clients: &mut Clients, console: &Console) -> Result<(), Failed> {
    // CSI is content with deleting what is not there; a person who mistyped a name is not.
    let volume = reach::volume(clients, name).await?;
    let request = DeleteVolumeRequest { volume_id: volume.id.clone(), ..DeleteVolumeRequest::default() };
    clients.controller.delete_volume(request).await.map_err(CallError::from)?;
    console.result(&Deleted { volume: volume.name.clone(), id: volume.id }, |text| {
        text.line(format_args!("{} is deleted", volume.name));
    });
    Ok(())
}

/// The driver's current directory is not the person's.
fn from_root(path: &Path) -> Result<String, PathError> {
    std::path::absolute(path)
        .map(|absolute| absolute.display().to_string())
        .map_err(|cause| PathError { path: path.to_owned(), cause })
}
