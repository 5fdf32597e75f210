//! A multipart upload into a file: parts are written at their place, and the file is renamed when all are there.

use std::collections::BTreeMap;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use strongroom_block_io::DirectFile;
use strongroom_repository::layout::ObjectName;
use strongroom_repository::store::{PART_BYTES, StoreError, Upload};

use super::blocking;
use super::tree::{Replace, Temporary, Tree};
use crate::parts::bytes_of_parts;

#[derive(Debug)]
pub(super) struct FileUpload(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    tree: Arc<Tree>,
    name: ObjectName,
    /// `None` once it is given up.
    temporary: Mutex<Option<Temporary>>,
    /// A second descriptor of the same file, so that parts are written side by side.
    file: std::fs::File,
    /// Parts pass by the page cache where the filesystem allows: nobody reads them again soon.
    direct: Option<DirectFile>,
    lengths: Mutex<BTreeMap<u32, usize>>,
}

impl FileUpload {
    pub(super) fn begin(tree: Arc<Tree>, name: ObjectName) -> Result<Self, StoreError> {
        let temporary = tree.temporary(&name)?;
        let file = temporary.file.try_clone().map_err(|error| tree.failed(&name, &error))?;
        let direct = DirectFile::writing(&file);
        let (temporary, lengths) = (Mutex::new(Some(temporary)), Mutex::default());
        Ok(Self(Arc::new(Shared { tree, name, temporary, file, direct, lengths })))
    }
}

impl Shared {
    fn write(&self, number: u32, body: &[u8]) -> Result<(), StoreError> {
        if body.is_empty() || body.len() > PART_BYTES {
            return Err(self.tree.rejected(&self.name, format!("part {number} has {} bytes", body.len())));
        }
        let offset = u64::from(number) * PART_BYTES as u64;
        let write = || {
            let done = self.direct.as_ref().map_or(Ok(0), |direct| direct.write_blocks_at(body, offset))?;
            self.file.write_all_at(&body[done..], offset + done as u64)
        };
        write().map_err(|error| self.tree.failed(&self.name, &error))?;
        self.lengths.lock().unwrap_or_else(PoisonError::into_inner).insert(number, body.len());
        Ok(())
    }

    fn complete(&self, parts: u32) -> Result<(), StoreError> {
        let rejected = |reason: String| Err(self.tree.rejected(&self.name, reason));
        let bytes = {
            let lengths = self.lengths.lock().unwrap_or_else(PoisonError::into_inner);
            bytes_of_parts(parts, |number| lengths.get(&number).map(|length| *length as u64))
        };
        let bytes = match bytes {
            Ok(bytes) => bytes,
            Err(reason) => return rejected(reason),
        };
        let mut temporary = self.temporary.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(temporary) = temporary.as_mut() else {
            return rejected("the upload was given up".to_owned());
        };
        self.file.set_len(bytes).map_err(|error| self.tree.failed(&self.name, &error))?;
        self.tree.publish(temporary, &self.name, Replace::Always)
    }
}

#[async_trait]
impl Upload for FileUpload {
    async fn part(&self, number: u32, body: Bytes) -> Result<(), StoreError> {
        blocking(Arc::clone(&self.0), move |shared| shared.write(number, &body)).await
    }

    async fn complete(&self, parts: u32) -> Result<(), StoreError> {
        blocking(Arc::clone(&self.0), move |shared| shared.complete(parts)).await
    }

    async fn abort(&self) -> Result<(), StoreError> {
        blocking(Arc::clone(&self.0), |shared| {
            shared.temporary.lock().unwrap_or_else(PoisonError::into_inner).take();
            Ok(())
        })
        .await
    }
}
