//! The commands of files: `files ls`, `files find`, `files cp`, `files versions`, `files mount`, `files unmount`.

mod cp;
mod look;
mod mount;
mod signals;
mod versions;

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, Subcommand};
use strongroom_console::{Console, Exit, Failed};
use strongroom_model::World;
use strongroom_settings::RepositoryArgs;

/// The nouns of this role.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Look into recovery points: list, find and copy single files, or mount a point read-only
    Files {
        /// What to do.
        #[command(subcommand)]
        command: FilesCommand,
    },
}

/// The verbs.
#[derive(Debug, Subcommand)]
pub enum FilesCommand {
    /// List files: POINT is an id or its beginning, NAME@latest, or NAME@TIME
    Ls(LsArgs),
    /// Find files by name, size and time
    Find(Box<FindArgs>),
    /// Copy files out of a point; a single one to standard output with `-`
    Cp(CpArgs),
    /// Show in which points of a volume a file is, and where it changed
    Versions(VersionsArgs),
    /// Mount a point read-only, until Ctrl-C; blocks are fetched when they are read. Needs root and FUSE
    Mount(MountArgs),
    /// Unmount a point whose `files mount` is gone, or is to end
    Unmount(UnmountArgs),
}

/// Which repository, and which part of the image.
#[derive(Debug, Args)]
pub struct ImageArgs {
    /// Which repository.
    #[command(flatten)]
    pub repository: RepositoryArgs,
    /// Of an image with partitions: which one to look into
    #[arg(long, value_name = "N")]
    pub partition: Option<u32>,
}

/// What is listed.
#[derive(Debug, Args)]
pub struct LsArgs {
    /// The point, and a path in it
    #[arg(value_name = "POINT[:PATH]")]
    pub location: OsString,
    /// Rights, names, owner, size and time of each
    #[arg(short, long)]
    pub long: bool,
    /// All that is below, too
    #[arg(short = 'R', long)]
    pub recursive: bool,
    /// With --output json: the most rows of one answer
    #[arg(long, value_name = "N", default_value_t = 100_000)]
    pub limit: usize,
    /// Where.
    #[command(flatten)]
    pub image: ImageArgs,
}

/// What is looked for.
#[derive(Debug, Args)]
pub struct FindArgs {
    /// The point, and the directory where to begin
    #[arg(value_name = "POINT[:PATH]")]
    pub location: OsString,
    /// The name fits this pattern of a shell, such as '*.conf'
    #[arg(long, value_name = "GLOB")]
    pub name: Option<OsString>,
    /// The whole path fits this pattern; a star stands for slashes, too
    #[arg(long, value_name = "GLOB")]
    pub path: Option<OsString>,
    /// Only files (f), directories (d), links (l), pipes (p), sockets (s), devices (b, c); several are joined by commas
    #[arg(long = "type", value_name = "KIND", value_delimiter = ',')]
    pub kind: Vec<KindLetter>,
    /// Files larger (+1MiB), smaller (-1MiB) or exactly as large
    #[arg(long, value_name = "SIZE", allow_hyphen_values = true)]
    pub size: Vec<String>,
    /// Changed after this time: "2026-11-21 14:03", "yesterday 23:00", or a length of time before the point, such as 2d
    #[arg(long, value_name = "TIME")]
    pub newer: Option<String>,
    /// Changed before this time
    #[arg(long, value_name = "TIME")]
    pub older: Option<String>,
    /// Owned by the user of this number
    #[arg(long, value_name = "UID")]
    pub uid: Option<u32>,
    /// Rights, names, owner, size and time of each
    #[arg(short, long)]
    pub long: bool,
    /// With --output json: the most rows of one answer
    #[arg(long, value_name = "N", default_value_t = 100_000)]
    pub limit: usize,
    /// Where.
    #[command(flatten)]
    pub image: ImageArgs,
}

/// The letters of `find -type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum KindLetter {
    /// A regular file.
    F,
    /// A directory.
    D,
    /// A symbolic link.
    L,
    /// A pipe.
    P,
    /// A socket.
    S,
    /// A block device.
    B,
    /// A character device.
    C,
}

/// What is copied.
#[derive(Debug, Args)]
pub struct CpArgs {
    /// What to copy: POINT:PATH, more paths of the same point as :PATH or POINT:PATH; and last, where to
    #[arg(value_name = "POINT:PATH... DEST", required = true, num_args = 2..)]
    pub places: Vec<OsString>,
    /// Replace files and links that exist; directories that exist are filled in any case only with this
    #[arg(long)]
    pub force: bool,
    /// Where.
    #[command(flatten)]
    pub image: ImageArgs,
}

/// Which file is looked for in all points.
#[derive(Debug, Args)]
pub struct VersionsArgs {
    /// The volume
    #[arg(value_name = "VOLUME")]
    pub volume: strongroom_model::VolumeName,
    /// The path, from the root of the volume on
    #[arg(value_name = "PATH")]
    pub path: OsString,
    /// Look into so many of the newest points
    #[arg(long, value_name = "N", default_value_t = 30)]
    pub last: usize,
    /// Where.
    #[command(flatten)]
    pub image: ImageArgs,
}

/// What is mounted where.
#[derive(Debug, Args)]
pub struct MountArgs {
    /// The point
    #[arg(value_name = "POINT")]
    pub point: OsString,
    /// The directory to mount on
    #[arg(value_name = "DIR")]
    pub directory: PathBuf,
    /// Let the filesystem's own checker (e2fsck -n, xfs_repair -n) look at it first: fetches all of its metadata
    #[arg(long)]
    pub check: bool,
    /// Where.
    #[command(flatten)]
    pub image: ImageArgs,
}

/// What is unmounted.
#[derive(Debug, Args)]
pub struct UnmountArgs {
    /// The directory
    #[arg(value_name = "DIR")]
    pub directory: PathBuf,
    /// Take it out of sight even if it is in use
    #[arg(long)]
    pub detach: bool,
}

/// Carries a command out.
///
/// # Errors
/// Whatever went wrong, with its code and what to do next.
pub async fn run(command: Command, console: &Console, world: &World) -> Result<Exit, Failed> {
    let Command::Files { command } = command;
    match command {
        FilesCommand::Ls(args) => look::ls(args, console, world).await,
        FilesCommand::Find(args) => look::find(*args, console, world).await,
        FilesCommand::Cp(args) => cp::cp(args, console, world).await,
        FilesCommand::Versions(args) => versions::versions(args, console, world).await,
        FilesCommand::Mount(args) => mount::mount(args, console, world).await,
        FilesCommand::Unmount(args) => mount::unmount(args, console).await,
    }
}
