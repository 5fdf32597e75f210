//! Objects as files in a folder: the embedded default, and what a mounted network filesystem offers.
//!
//! What always holds:
//! * A file appears under its name whole or not at all: it is written under `.incoming/`, made durable, and then
//!   renamed; the folder is made durable before the answer. A create-only write renames without replacing.
//! * Files have mode 0600, folders 0700.
//! * No symbolic link below the root is followed: every step of a name is opened on its own and refuses them.
//! * Names that begin with a dot are not objects.
//!
//! The root itself may be a link; it is the operator's choice. It must exist: a backup disk that is not mounted is an
//! error, not a reason to fill the disk below it.

mod list;
mod tree;
mod upload;

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use rustix::buffer::spare_capacity;
use rustix::io::Errno;
use strongroom_repository::abilities::{Answer, Claims};
use strongroom_repository::layout::ObjectName;
use strongroom_repository::store::{Deleted, ListPage, ObjectInfo, ObjectStore, StoreError, Upload};

use self::tree::{Replace, Tree};
use crate::range;

/// As many names as a page of a listing holds: a page costs reading the folders it touches, so it is larger than S3's.
const PAGE: usize = 10_000;

/// The largest object that is read at once. Checkpoints, the largest of them, grow with the number of recovery
/// points, by about 1 KiB each: this is room for a million.
const MAX_WHOLE_BYTES: u64 = 1 << 30;

/// A store in a folder.
#[derive(Debug, Clone)]
pub struct DirectoryStore {
    tree: Arc<Tree>,
    page: usize,
}

impl DirectoryStore {
    /// The store in the folder `root`. Nothing is touched yet: a missing folder shows at the first request.
    #[must_use]
    pub fn new(root: &Path) -> Self {
        Self { tree: Arc::new(Tree::new(root)), page: PAGE }
    }

    /// With pages of another size; for tests.
    #[must_use]
    pub const fn with_page(mut self, names: usize) -> Self {
        self.page = names;
        self
    }

    /// Runs `work` on a thread that may block.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Tree) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        blocking(Arc::clone(&self.tree), move |tree| work(tree)).await
    }
}

/// Makes the folder `root` with its parents, mode 0700; it is no error that it is there.
///
/// # Errors
/// When it cannot be made.
pub fn make(root: &Path) -> Result<(), StoreError> {
    tree::make(root)
}

async fn blocking<H: Send + Sync + 'static, T: Send + 'static>(
    handle: Arc<H>,
    work: impl FnOnce(&H) -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    match tokio::task::spawn_blocking(move || work(&handle)).await {
        Ok(answer) => answer,
        // The runtime is shutting down, or the work panicked: either way nobody knows how far it came.
        Err(stopped) => Err(StoreError::Unavailable {
            location: "the directory store".to_owned(),
            name: "a file".to_owned(),
            reason: stopped.to_string(),
        }),
    }
}

/// Appends `length` bytes from `start` to `body`, into memory that nobody had to fill before.
fn read_at(file: &File, start: u64, length: u64, body: &mut Vec<u8>) -> io::Result<()> {
    let mut at = 0;
    while at < length {
        let room = usize::try_from(length - at).unwrap_or(usize::MAX);
        body.reserve_exact(room);
        match rustix::io::pread(file, spare_capacity(body), start + at) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(read) => at += read as u64,
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    body.truncate(usize::try_from(length).unwrap_or(usize::MAX));
    Ok(())
}

#[async_trait]
impl ObjectStore for DirectoryStore {
    fn location(&self) -> String {
        self.tree.location()
    }

    async fn create(&self, name: &ObjectName, body: Bytes) -> Result<(), StoreError> {
        let name = name.clone();
        self.blocking(move |tree| tree.write(&name, &body, Replace::Never)).await
    }

    async fn put(&self, name: &ObjectName, body: Bytes) -> Result<(), StoreError> {
        let name = name.clone();
        self.blocking(move |tree| tree.write(&name, &body, Replace::Always)).await
    }

    async fn upload(&self, name: &ObjectName) -> Result<Box<dyn Upload>, StoreError> {
        let (tree, name) = (Arc::clone(&self.tree), name.clone());
        let upload = self.blocking(move |_| upload::FileUpload::begin(tree, name)).await?;
        Ok(Box::new(upload))
    }

    async fn get(&self, name: &ObjectName) -> Result<Bytes, StoreError> {
        let name = name.clone();
        self.blocking(move |tree| {
            let (file, bytes) = tree.open(&name)?;
            if bytes > MAX_WHOLE_BYTES {
                return Err(
                    tree.rejected(&name, format!("it has {bytes} bytes, too many to be read at once"))
                );
            }
            #[expect(clippy::cast_possible_truncation, reason = "at most MAX_WHOLE_BYTES")]
            let mut body = Vec::with_capacity(bytes as usize);
            file.take(bytes).read_to_end(&mut body).map_err(|error| tree.failed(&name, &error))?;
            if body.len() as u64 != bytes {
                return Err(tree.damaged(&name, format!("{bytes} bytes were there and {} came", body.len())));
            }
            Ok(Bytes::from(body))
        })
        .await
    }

    async fn get_range(&self, name: &ObjectName, start: u64, length: u64) -> Result<Bytes, StoreError> {
        let name = name.clone();
        self.blocking(move |tree| {
            let (file, bytes) = tree.open(&name)?;
            range::end_of(&tree.location(), name.as_str(), start, length, bytes)?;
            if length > MAX_WHOLE_BYTES {
                return Err(tree.rejected(&name, format!("{length} bytes are too many to be read at once")));
            }
            #[expect(clippy::cast_possible_truncation, reason = "at most MAX_WHOLE_BYTES")]
            let mut body = Vec::with_capacity(length as usize);
            let read = read_at(&file, start, length, &mut body);
            read.map_err(|error| tree.failed(&name, &error))?;
            Ok(Bytes::from(body))
        })
        .await
    }

    async fn head(&self, name: &ObjectName) -> Result<ObjectInfo, StoreError> {
        let name = name.clone();
        self.blocking(move |tree| tree.info(&name)).await
    }

    async fn list(&self, prefix: &str, after: Option<&str>) -> Result<ListPage, StoreError> {
        let (prefix, after, page) = (prefix.to_owned(), after.map(str::to_owned), self.page);
        self.blocking(move |tree| list::page(tree, &prefix, after.as_deref(), page)).await
    }

    async fn delete(&self, name: &ObjectName) -> Result<Deleted, StoreError> {
        let name = name.clone();
        self.blocking(move |tree| tree.remove(&name)).await
    }

    async fn claims(&self, _scratch: &ObjectName) -> Result<Claims, StoreError> {
        Ok(Claims { versioning: Answer::No, object_lock: Answer::No, ..Claims::default() })
    }
}

#[cfg(test)]
mod tests;
