//! What the driver needs of whatever stores the images of volumes.
//!
//! The reflink pool is the first to offer it. LVM-thin, ZFS or Ceph could stand beside it: nothing above this
//! trait knows that an image is a file.

mod reflink;
mod tidy;

use std::fmt::Debug;
use std::path::PathBuf;

use strongroom_block_io::ChangedRanges;

use crate::core_error::CoreError;
use crate::image::ImageName;
use crate::nouns::Filesystem;
use crate::pool::Room;

pub(crate) use reflink::ReflinkBackend;

/// A block device that an image is reached by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Device {
    /// Its node.
    pub(crate) path: PathBuf,
    /// Its major and minor number.
    pub(crate) number: (u32, u32),
}

impl Device {
    /// Lets the kernel refuse, or allow, all writing to it, by whatever way it is reached.
    pub(crate) fn set_readonly(&self, readonly: bool) -> Result<(), CoreError> {
        std::fs::File::open(&self.path)
            .and_then(|node| crate::sys::set_readonly(&node, readonly))
            .map_err(CoreError::system("setting whether it may be written:", &self.path))
    }
}

/// A clone that was prepared, so that the cut itself takes as little time as possible.
pub(crate) trait PendingClone: Debug {
    /// Takes the cut. Nothing else may be done while the source is frozen.
    fn cut(&mut self) -> Result<(), CoreError>;

    /// Makes the clone durable under its name, longer or shorter than its source if `bytes` say so.
    fn finish(self: Box<Self>, bytes: u64) -> Result<(), CoreError>;
}

/// What tidying did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Tidied {
    /// How many bytes lie elsewhere now.
    pub(crate) bytes: u64,
    /// In how many extents the image lay before.
    pub(crate) before: u64,
    /// And after.
    pub(crate) after: u64,
}

/// Stores the images of volumes and snapshots.
///
/// A name is there or not there: making and cloning are complete and durable under the name, or leave nothing
/// of it.
pub(crate) trait VolumeBackend: Debug + Send + Sync {
    /// Makes an image of `bytes` zeros, with a filesystem in it if one is asked for.
    fn make(&self, image: &ImageName, bytes: u64, filesystem: Option<Filesystem>) -> Result<(), CoreError>;

    /// Prepares a clone of `from`.
    fn clone_image(&self, from: &ImageName, to: &ImageName) -> Result<Box<dyn PendingClone>, CoreError>;

    /// Makes an image larger, also for whoever uses it now. As large already: nothing.
    fn grow(&self, image: &ImageName, bytes: u64) -> Result<(), CoreError>;

    /// Removes an image. Not there: fine. InUse: it is attached and something holds it.
    fn remove(&self, image: &ImageName) -> Result<(), CoreError>;

    /// Gives an image a block device, or finds the one it has.
    fn attach(&self, image: &ImageName) -> Result<Device, CoreError>;

    /// The block device that an image has now.
    fn attached(&self, image: &ImageName) -> Result<Option<Device>, CoreError>;

    /// All images that have a block device, by what the kernel calls them: for those who only look.
    fn devices(&self) -> Vec<(ImageName, Device)>;

    /// Takes the block device away, proved. None there: fine. InUse: something holds it.
    fn detach(&self, image: &ImageName) -> Result<(), CoreError>;

    /// What an image takes, in bytes.
    fn allocated_bytes(&self, image: &ImageName) -> Result<u64, CoreError>;

    /// In how many extents it lies.
    fn extents(&self, image: &ImageName) -> Result<u64, CoreError>;

    /// Lets an image lie in fewer pieces: those stretches first that lie in most. `go_on` is asked before every piece.
    /// The bytes stay what they are, also for those who write meanwhile.
    fn tidy(
        &self,
        image: &ImageName,
        most_bytes: u64,
        go_on: &mut dyn FnMut() -> bool,
    ) -> Result<Tidied, CoreError>;

    /// What differs between two snapshots, or what one holds beside zeros.
    fn changed(
        &self,
        base: Option<&ImageName>,
        target: &ImageName,
        from: u64,
    ) -> Result<ChangedRanges, CoreError>;

    /// The image of a snapshot as a file of this machine.
    fn path(&self, image: &ImageName) -> PathBuf;

    /// Writes on an image what it is; see `image_note`.
    fn note(&self, image: &ImageName, text: &str) -> Result<(), CoreError>;

    /// What is written on an image. `None`: nothing that can be read.
    fn noted(&self, image: &ImageName) -> Option<String>;

    /// What is there: images, and names that are none.
    fn list(&self) -> Result<(Vec<ImageName>, Vec<PathBuf>), CoreError>;

    /// How full the place is.
    fn room(&self) -> Result<Room, CoreError>;
}
