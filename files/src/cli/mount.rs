//! `files mount` and `files unmount`.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use strongroom_console::{Console, Exit, Failed};
use strongroom_model::World;

use super::signals::{blocking, stopped};
use super::{MountArgs, UnmountArgs};
use crate::disk::Disk;
use crate::error::FilesError;
use crate::filesystem::Signature;
use crate::mount::{Mounted, Wish, mount as mount_image, unmount_directory};
use crate::source::{ChosenPoint, Fetched, Location, Source, chosen};

/// How often is looked whether somebody else has unmounted it.
const LOOK_EVERY: Duration = Duration::from_millis(250);

#[derive(Debug, Serialize)]
struct Answer {
    #[serde(flatten)]
    point: ChosenPoint,
    directory: PathBuf,
    filesystem: Signature,
    failed_reads: u64,
    #[serde(flatten)]
    fetched: Fetched,
}

#[derive(Debug, Serialize)]
struct Unmounted {
    directory: PathBuf,
}

pub(super) async fn mount(args: MountArgs, console: &Console, world: &World) -> Result<Exit, Failed> {
    let location = Location::parse(&args.point)?;
    if location.path.is_some() {
        return Err(FilesError::NotAPoint {
            text: location.point,
            why: "a whole point is mounted, not a path".into(),
        }
        .into());
    }
    let source = Source::open(&args.image.repository, world).await?;
    let point = source.point(&location.point, console).await?;
    let image = source.image(&point).await?;
    let head = chosen(&point, &image);
    let wish = Wish { directory: args.directory, partition: args.image.partition, check: args.check };
    let talk = console.clone();
    let mounted = blocking(move || {
        let disk: Arc<dyn Disk> = Arc::new(image);
        Ok(mount_image(disk, &wish, &talk)?)
    })
    .await?;
    let directory = mounted.directory.clone();
    console.talk(format_args!(
        "{} of {}, taken {}, is mounted read-only on {}. Ctrl-C unmounts it.",
        head.point,
        head.volume,
        strongroom_console::local(head.taken_at, console.time_zone()),
        directory.display()
    ));
    attend(&mounted, console).await?;
    let (fetched, failed_reads) = (source.fetched(), mounted.failed_reads());
    let answer = Answer { point: head, directory, filesystem: mounted.filesystem, failed_reads, fetched };
    console.result(&answer, |page| {
        page.line(format_args!("unmounted {}", answer.directory.display()));
        page.line(answer.fetched.text(answer.point.image_bytes));
        if failed_reads > 0 {
            page.line(format_args!("{failed_reads} reads failed; each was an error for who asked"));
        }
    });
    Ok(if failed_reads > 0 { Exit::Damaged } else { Exit::Done })
}

/// Serves until it is unmounted: by a signal to us, or by somebody else.
async fn attend(mounted: &Mounted, console: &Console) -> Result<(), Failed> {
    let ended = async {
        while !mounted.has_ended() {
            tokio::time::sleep(LOOK_EVERY).await;
        }
    };
    tokio::pin!(ended);
    let mut detach = false;
    loop {
        tokio::select! {
            () = &mut ended => return Ok(()),
            () = stopped() => {
                let directory = mounted.directory.clone();
                let unmounted = blocking(move || Ok(unmount_directory(&directory, detach)?)).await;
                match unmounted {
                    Ok(()) if detach => return Ok(()),
                    Ok(()) => {}
                    Err(failed) => {
                        console.warn(format_args!(
                            "{failed}; a second signal takes it out of sight, and what still uses it gets errors"
                        ));
                        detach = true;
                    }
                }
            }
        }
    }
}

pub(super) async fn unmount(args: UnmountArgs, console: &Console) -> Result<Exit, Failed> {
    let directory = args.directory.clone();
    blocking(move || Ok(unmount_directory(&directory, args.detach)?)).await?;
    console.result(&Unmounted { directory: args.directory.clone() }, |page| {
        page.line(format_args!("unmounted {}", args.directory.display()));
    });
    Ok(Exit::Done)
}
