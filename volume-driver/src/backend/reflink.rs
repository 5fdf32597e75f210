//! Images as sparse files on a filesystem with reflinks, reached by loop devices.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use strongroom_block_io::{BlockIoError, ChangedRanges};

use crate::backend::{Device, PendingClone, Tidied, VolumeBackend, tidy};
use crate::core_error::CoreError;
use crate::crash;
use crate::filesystem::{self, FreshImage, sync_folder_of};
use crate::image::ImageName;
use crate::loop_device::{self, LoopDevice};
use crate::nouns::Filesystem;
use crate::pool::{Pool, Room};

/// The extended attribute with the note on an image.
const NOTE: &str = "user.strongroom";

/// Labels have 4 KiB at most, and the rest is short.
const NOTE_BYTES: usize = 16 * 1024;

/// Files in a pool.
#[derive(Debug)]
pub(crate) struct ReflinkBackend {
    pool: Arc<Pool>,
}

impl ReflinkBackend {
    pub(crate) const fn new(pool: Arc<Pool>) -> Self {
        Self { pool }
    }

    fn device(device: LoopDevice) -> Device {
        Device { path: device.path(), number: device.device() }
    }
}

/// A clone that removes what it made unless it is finished.
#[derive(Debug)]
struct FileClone {
    source: File,
    from: PathBuf,
    fresh: Option<FreshImage>,
    fresh_path: PathBuf,
    to: PathBuf,
}

impl PendingClone for FileClone {
    fn cut(&mut self) -> Result<(), CoreError> {
        let fresh = self.fresh.as_ref().expect("only `finish` takes it, and ends this value");
        rustix::fs::ioctl_ficlone(fresh.file(), &self.source).map_err(CoreError::errno("cloning", &self.from))
    }

    fn finish(mut self: Box<Self>, bytes: u64) -> Result<(), CoreError> {
        let fresh = self.fresh.take().expect("it is taken only here");
        let now = fresh.file().metadata().map_err(CoreError::system("looking at", &self.fresh_path))?.len();
        if now != bytes {
            fresh.file().set_len(bytes).map_err(CoreError::system("sizing", &self.fresh_path))?;
        }
        fresh.keep_as(&self.to)
    }
}

impl Drop for FileClone {
    fn drop(&mut self) {
        // After success the name is free: it was renamed.
        let _ = fs::remove_file(&self.fresh_path);
    }
}

impl VolumeBackend for ReflinkBackend {
    fn make(&self, image: &ImageName, bytes: u64, filesystem: Option<Filesystem>) -> Result<(), CoreError> {
        let path = image.fresh_path(self.pool.root());
        let made = FreshImage::create(&path, bytes).and_then(|fresh| {
            crash::point!("image.begun");
            if let Some(filesystem) = filesystem {
                filesystem::make(&fresh, filesystem, image.volume(), image.as_str())?;
            }
            fresh.keep_as(&self.path(image))
        });
        if made.is_err() {
            let _ = fs::remove_file(&path);
        }
        made
    }

    fn clone_image(&self, from: &ImageName, to: &ImageName) -> Result<Box<dyn PendingClone>, CoreError> {
        let from = self.path(from);
        let source = File::open(&from).map_err(CoreError::system("opening", &from))?;
        let fresh_path = to.fresh_path(self.pool.root());
        let fresh = FreshImage::create(&fresh_path, 0)?;
        crash::point!("clone.begun");
        Ok(Box::new(FileClone { source, from, fresh: Some(fresh), fresh_path, to: self.path(to) }))
    }

    fn grow(&self, image: &ImageName, bytes: u64) -> Result<(), CoreError> {
        let path = self.path(image);
        let file = OpenOptions::new().write(true).open(&path).map_err(CoreError::system("opening", &path))?;
        let now = file.metadata().map_err(CoreError::system("looking at", &path))?.len();
        if now < bytes {
            file.set_len(bytes).map_err(CoreError::system("growing", &path))?;
            crash::point!("grow.sized");
            file.sync_all().map_err(CoreError::system("making durable", &path))?;
        }
        // Also when the file had grown before: a crash may have come between.
        match loop_device::find(&path)? {
            Some(device) => loop_device::refresh_size(device),
            None => Ok(()),
        }
    }

    fn remove(&self, image: &ImageName) -> Result<(), CoreError> {
        let path = self.path(image);
        if !path.exists() {
            return loop_device::detach_deleted(&path, image.as_str());
        }
        loop_device::detach(&path, image.as_str())?;
        crash::point!("remove.detached");
        fs::remove_file(&path).map_err(CoreError::system("removing", &path))?;
        sync_folder_of(&path)
    }

    fn attach(&self, image: &ImageName) -> Result<Device, CoreError> {
        loop_device::attach(&self.path(image)).map(Self::device)
    }

    fn attached(&self, image: &ImageName) -> Result<Option<Device>, CoreError> {
        let path = self.path(image);
        // An image that somebody deleted lives on in its device, and may still be mounted.
        let device = if path.exists() { loop_device::find(&path)? } else { loop_device::of_deleted(&path) };
        Ok(device.map(Self::device))
    }

    fn devices(&self) -> Vec<(ImageName, Device)> {
        let root = self.pool.root();
        let image = |path: &Path| path.strip_prefix(root).ok()?.to_str()?.parse().ok();
        let bound = loop_device::below(root).into_iter();
        bound.filter_map(|(device, path)| Some((image(&path)?, Self::device(device)))).collect()
    }

    fn detach(&self, image: &ImageName) -> Result<(), CoreError> {
        let path = self.path(image);
        if path.exists() { loop_device::detach(&path, image.as_str()) } else { Ok(()) }
    }

    fn allocated_bytes(&self, image: &ImageName) -> Result<u64, CoreError> {
        let path = self.path(image);
        // st_blocks counts in units of 512 bytes, whatever the filesystem's own.
        path.metadata().map(|meta| meta.blocks() * 512).map_err(CoreError::system("looking at", &path))
    }

    fn extents(&self, image: &ImageName) -> Result<u64, CoreError> {
        strongroom_block_io::count_extents(&self.path(image)).map_err(blocks(image))
    }

    fn tidy(
        &self,
        image: &ImageName,
        most_bytes: u64,
        go_on: &mut dyn FnMut() -> bool,
    ) -> Result<Tidied, CoreError> {
        tidy::tidy(&self.path(image), image, most_bytes, go_on)
    }

    fn changed(
        &self,
        base: Option<&ImageName>,
        target: &ImageName,
        from: u64,
    ) -> Result<ChangedRanges, CoreError> {
        let target_path = self.path(target);
        match base {
            Some(base) => strongroom_block_io::changed(&self.path(base), &target_path, from),
            None => strongroom_block_io::allocated_extents(&target_path, from),
        }
        .map_err(blocks(target))
    }

    fn path(&self, image: &ImageName) -> PathBuf {
        image.path(self.pool.root())
    }

    fn note(&self, image: &ImageName, text: &str) -> Result<(), CoreError> {
        let path = self.path(image);
        rustix::fs::setxattr(&path, NOTE, text.as_bytes(), rustix::fs::XattrFlags::empty())
            .map_err(CoreError::errno("writing a note on", &path))
    }

    fn noted(&self, image: &ImageName) -> Option<String> {
        let mut text = vec![0; NOTE_BYTES];
        let length = rustix::fs::getxattr(self.path(image), NOTE, &mut text[..]).ok()?;
        text.truncate(length);
        String::from_utf8(text).ok()
    }

    fn list(&self) -> Result<(Vec<ImageName>, Vec<PathBuf>), CoreError> {
        let (mut images, mut strangers) = (Vec::new(), Vec::new());
        for kind in ["volumes", "snapshots"] {
            let folder = self.pool.root().join(kind);
            for entry in fs::read_dir(&folder).map_err(CoreError::system("listing", &folder))? {
                let entry = entry.map_err(CoreError::system("listing", &folder))?;
                let name = entry.file_name();
                match name.to_str().and_then(|name| format!("{kind}/{name}").parse().ok()) {
                    Some(image) => images.push(image),
                    None => strangers.push(entry.path()),
                }
            }
        }
        Ok((images, strangers))
    }

    fn room(&self) -> Result<Room, CoreError> {
        self.pool.room()
    }
}

fn blocks(image: &ImageName) -> impl FnOnce(BlockIoError) -> CoreError {
    let subject = image.to_string();
    move |cause| CoreError::Blocks { subject, cause }
}
