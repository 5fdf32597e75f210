//! Streams the bytes of one pack to its object: a plain put when it is small, else a multipart upload.
//!
//! At most one part is being filled; every finished one holds a slot of a semaphore until the store has it, so the
//! memory is bounded by the slots. The hash of the trailer is computed on the way.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;

use super::WriteError;
use super::trailer::{HASHED_BYTES, TRAILER_BYTES, Trailer};
use crate::layout::ObjectName;
use crate::store::{ObjectStore, PART_BYTES, StoreError, Upload};

#[derive(Debug)]
pub(super) struct ObjectWriter {
    store: Arc<dyn ObjectStore>,
    name: ObjectName,
    /// What comes next; to be appended to, and then [`Self::settle`]d.
    pub(super) buffer: Vec<u8>,
    sent_bytes: u64,
    hasher: blake3::Hasher,
    upload: Option<Arc<dyn Upload>>,
    parts: u32,
    tasks: JoinSet<Result<(), WriteError>>,
    slots: Arc<Semaphore>,
}

impl ObjectWriter {
    pub(super) fn new(store: Arc<dyn ObjectStore>, name: ObjectName, slots: Arc<Semaphore>) -> Self {
        Self {
            store,
            name,
            buffer: Vec::new(),
            sent_bytes: 0,
            hasher: blake3::Hasher::new(),
            upload: None,
            parts: 0,
            tasks: JoinSet::new(),
            slots,
        }
    }

    /// How many bytes the object has so far.
    pub(super) fn len(&self) -> u64 {
        self.sent_bytes + self.buffer.len() as u64
    }

    /// Sends every full part on its way. Waits only while all slots are taken.
    pub(super) async fn settle(&mut self) -> Result<(), WriteError> {
        while let Some(done) = self.tasks.try_join_next() {
            done.map_err(|_| WriteError::BrokenOff)??;
        }
        // More than a part, never exactly: so that the last part, which may be short, is never empty.
        while self.buffer.len() > PART_BYTES {
            let slot = self.slot().await?;
            let mut next = Vec::with_capacity(PART_BYTES + (PART_BYTES >> 6));
            next.extend_from_slice(&self.buffer[PART_BYTES..]);
            let mut part = std::mem::replace(&mut self.buffer, next);
            part.truncate(PART_BYTES);
            self.send(part.into(), slot).await?;
        }
        Ok(())
    }

    /// Appends the trailer and hands the end over to a task. The answer is the object's size, once it is durable.
    pub(super) async fn close(
        mut self,
        trailer: Trailer,
    ) -> Result<impl Future<Output = Result<u64, WriteError>> + Send + use<>, WriteError> {
        self.settle().await?;
        // What is left was not hashed yet; the hash itself is not hashed.
        self.buffer.reserve(TRAILER_BYTES);
        self.buffer.extend_from_slice(&trailer.encode());
        debug_assert_eq!(trailer.encode().len(), HASHED_BYTES);
        let mut hasher = self.hasher.clone();
        hasher.update(&self.buffer);
        self.buffer.extend_from_slice(hasher.finalize().as_bytes());
        // The trailer may have pushed the buffer over a part's size.
        self.settle().await?;
        let slot = self.slot().await?;
        let last: Bytes = std::mem::take(&mut self.buffer).into();
        let bytes = self.sent_bytes + last.len() as u64;
        Ok(async move {
            let Some(upload) = self.upload.clone() else {
                self.store.put(&self.name, last).await.map_err(|cause| failed(&self.name, cause))?;
                drop(slot);
                return Ok(bytes);
            };
            let stored = self.send_last(&*upload, last, slot).await;
            if let Err(error) = stored {
                // Nothing was completed, so this frees parts that nobody will ever see. It may fail: they are garbage then.
                self.tasks.shutdown().await;
                let _ = upload.abort().await;
                return Err(error);
            }
            let failed = |cause| failed(&self.name, cause);
            upload.complete(self.parts).await.map_err(failed)?;
            if upload.is_proved() {
                return Ok(bytes);
            }
            // A multipart upload has no checksum of the whole that every store checks; its size is the least to ask for.
            let actual = self.store.head(&self.name).await.map_err(failed)?.bytes;
            if actual == bytes {
                Ok(bytes)
            } else {
                Err(WriteError::Size { object: self.name.to_string(), expected: bytes, actual })
            }
        })
    }

    async fn send_last(
        &mut self,
        upload: &dyn Upload,
        last: Bytes,
        slot: OwnedSemaphorePermit,
    ) -> Result<(), WriteError> {
        upload.part(self.parts, last).await.map_err(|cause| failed(&self.name, cause))?;
        self.parts += 1;
        drop(slot);
        while let Some(done) = self.tasks.join_next().await {
            done.map_err(|_| WriteError::BrokenOff)??;
        }
        Ok(())
    }

    async fn send(&mut self, part: Bytes, slot: OwnedSemaphorePermit) -> Result<(), WriteError> {
        self.hasher.update(&part);
        self.sent_bytes += part.len() as u64;
        let upload = match &self.upload {
            Some(upload) => Arc::clone(upload),
            None => {
                let begun = self.store.upload(&self.name).await.map_err(|cause| failed(&self.name, cause))?;
                Arc::clone(self.upload.insert(Arc::from(begun)))
            }
        };
        let (name, number) = (self.name.clone(), self.parts);
        self.parts += 1;
        self.tasks.spawn(async move {
            let stored = upload.part(number, part).await.map_err(|cause| failed(&name, cause));
            drop(slot);
            stored
        });
        Ok(())
    }

    async fn slot(&self) -> Result<OwnedSemaphorePermit, WriteError> {
        Arc::clone(&self.slots).acquire_owned().await.map_err(|_| WriteError::BrokenOff)
    }
}

fn failed(name: &ObjectName, cause: StoreError) -> WriteError {
    WriteError::Store { object: name.to_string(), cause: Arc::new(cause) }
}
