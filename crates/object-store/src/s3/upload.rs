//! A multipart upload.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;
use aws_sdk_s3::error::ProvideErrorMetadata;
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{CompletedMultipartUpload, CompletedPart};
use bytes::Bytes;
use strongroom_repository::layout::ObjectName;
use strongroom_repository::store::{ObjectStore, PART_BYTES, StoreError, Upload};

use super::{S3Store, content_md5};
use crate::parts::bytes_of_parts;

#[derive(Debug)]
pub(super) struct PartUpload {
    store: S3Store,
    name: ObjectName,
    id: String,
    parts: Mutex<BTreeMap<u32, Part>>,
}

#[derive(Debug, Clone)]
struct Part {
    etag: String,
    crc32: Option<String>,
    bytes: u64,
}

impl PartUpload {
    pub(super) async fn begin(store: S3Store, name: ObjectName) -> Result<Self, StoreError> {
        let lock = store.lock_of(&name);
        let request = store
            .client
            .create_multipart_upload()
            .bucket(&store.bucket)
            .key(store.key(&name))
            .set_storage_class(store.class_of(&name))
            .set_object_lock_mode(lock.as_ref().map(|(mode, _)| mode.clone()))
            .set_object_lock_retain_until_date(lock.map(|(_, until)| until))
            .set_checksum_algorithm(store.checksum());
        let answer = request.send().await.map_err(|error| store.error(name.as_str(), error))?;
        let Some(id) = answer.upload_id().filter(|id| !id.is_empty()).map(str::to_owned) else {
            return Err(store.rejected(name.as_str(), "the store began an upload and gave it no id"));
        };
        Ok(Self { store, name, id, parts: Mutex::default() })
    }

    fn rejected(&self, reason: impl Into<String>) -> StoreError {
        self.store.rejected(self.name.as_str(), reason)
    }

    /// What the store needs to hear of parts `0..parts`, and how many bytes they have.
    fn list(&self, parts: u32) -> Result<(CompletedMultipartUpload, u64), StoreError> {
        let stored = self.parts.lock().unwrap_or_else(PoisonError::into_inner);
        let bytes = bytes_of_parts(parts, |number| stored.get(&number).map(|part| part.bytes))
            .map_err(|reason| self.rejected(reason))?;
        let mut list = CompletedMultipartUpload::builder();
        for number in 0..parts {
            let part = &stored[&number];
            list = list.parts(
                CompletedPart::builder()
                    .part_number(self.part_number(number)?)
                    .e_tag(&part.etag)
                    .set_checksum_crc32(part.crc32.clone())
                    .build(),
            );
        }
        Ok((list.build(), bytes))
    }

    /// Whether the object is there with all its bytes. The name is used by this upload alone.
    async fn stands(&self, bytes: u64) -> bool {
        self.store.head(&self.name).await.is_ok_and(|info| info.bytes == bytes)
    }

    /// S3 counts from 1 to 10,000.
    fn part_number(&self, number: u32) -> Result<i32, StoreError> {
        i32::try_from(number)
            .ok()
            .filter(|number| *number < 10_000)
            .map(|number| number + 1)
            .ok_or_else(|| self.rejected("an upload has at most 10000 parts"))
    }
}

impl PartUpload {
    async fn finish(&self, parts: u32) -> Result<(), StoreError> {
        let (list, bytes) = self.list(parts)?;
        let request = self
            .store
            .client
            .complete_multipart_upload()
            .bucket(&self.store.bucket)
            .key(self.store.key(&self.name))
            .upload_id(&self.id)
            .multipart_upload(list);
        // The SDK looks for an error inside of an answer that says 200, and so does a test of ours.
        let error = match request.send().await {
            Ok(answer) if answer.e_tag().is_some_and(|etag| !etag.is_empty()) => return Ok(()),
            // Ceph answers the first time without a tag: then the object itself is the proof.
            Ok(_) if self.stands(bytes).await => return Ok(()),
            Ok(_) => {
                return Err(StoreError::Unavailable {
                    location: self.store.location(),
                    name: self.name.as_str().to_owned(),
                    reason: "the store says that the upload is complete, and shows no object".to_owned(),
                });
            }
            Err(error) => error,
        };
        // An earlier call may have completed it, and its answer was lost.
        let unknown = error.as_service_error().is_some_and(|error| error.code() == Some("NoSuchUpload"));
        if unknown && self.stands(bytes).await {
            return Ok(());
        }
        Err(self.store.error(self.name.as_str(), error))
    }
}

#[async_trait]
impl Upload for PartUpload {
    async fn part(&self, number: u32, body: Bytes) -> Result<(), StoreError> {
        let part_number = self.part_number(number)?;
        if body.is_empty() || body.len() > PART_BYTES {
            return Err(self.rejected(format!("part {number} has {} bytes", body.len())));
        }
        let bytes = body.len() as u64;
        let request = self
            .store
            .client
            .upload_part()
            .bucket(&self.store.bucket)
            .key(self.store.key(&self.name))
            .upload_id(&self.id)
            .part_number(part_number)
            .content_md5(content_md5(&body).await)
            .set_checksum_algorithm(self.store.checksum())
            .body(ByteStream::from(body));
        let answer = request.send().await.map_err(|error| self.store.error(self.name.as_str(), error))?;
        let Some(etag) = answer.e_tag().filter(|etag| !etag.is_empty()) else {
            return Err(self.rejected(format!("the store took part {number} and gave it no tag")));
        };
        let part = Part { etag: etag.to_owned(), crc32: answer.checksum_crc32().map(str::to_owned), bytes };
        self.parts.lock().unwrap_or_else(PoisonError::into_inner).insert(number, part);
        Ok(())
    }

    async fn complete(&self, parts: u32) -> Result<(), StoreError> {
        self.finish(parts).await?;
        // There are stores (Ceph 16) that drop the lock that was asked for when the upload began.
        if self.store.lock_of(&self.name).is_some() {
            self.store.prolong_lock(&self.name).await?;
        }
        Ok(())
    }

    async fn abort(&self) -> Result<(), StoreError> {
        let request = self
            .store
            .client
            .abort_multipart_upload()
            .bucket(&self.store.bucket)
            .key(self.store.key(&self.name))
            .upload_id(&self.id);
        match request.send().await {
            Ok(_) => Ok(()),
            Err(error) => {
                let gone = error.as_service_error().is_some_and(|error| error.code() == Some("NoSuchUpload"));
                if gone { Ok(()) } else { Err(self.store.error(self.name.as_str(), error)) }
            }
        }
    }
}
