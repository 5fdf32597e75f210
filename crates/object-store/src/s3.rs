//! Objects in a bucket, through the AWS SDK.
//!
//! What always holds:
//! * One call is one request: the SDK repeats nothing by itself, that is the work of [`crate::retry`]. Else a
//!   create-only write whose answer was lost would be sent again and meet its own object.
//! * The checksums of a body are made before it is sent and go in the header, that of a file too; nothing is sent in signed chunks
//!   with trailers, which older stores refuse.
//! * Every wait has an end: connecting, the whole of a request until its answer begins, each pause in the answer's body.
//!   The SDK's own guard against stalled streams is off: it kills uploads on slow lines.
//! * Conditions are used on plain PUT only. On completing a multipart upload and on deleting they are silently ignored
//!   by stores in wide use.

mod answer;
mod claims;
mod client;
mod lock;
mod upload;
mod whole;

use std::fs::File;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use aws_sdk_s3::Client;
use aws_sdk_s3::config::SharedCredentialsProvider;
use aws_sdk_s3::operation::head_object::HeadObjectOutput;
use aws_sdk_s3::operation::put_object::builders::PutObjectFluentBuilder;
use aws_sdk_s3::primitives::{ByteStream, DateTime};
use aws_sdk_s3::types::{ChecksumAlgorithm, EncodingType, StorageClass};
use base64::Engine as _;
use bytes::{Bytes, BytesMut};
use jiff::{SignedDuration, Timestamp};
use md5::{Digest, Md5};
use strongroom_model::Clock;
use strongroom_repository::abilities::Claims;
use strongroom_repository::layout::{ObjectKind, ObjectName, PackKind};
use strongroom_repository::store::{Deleted, ListPage, Listed, ObjectInfo, ObjectStore, StoreError, Upload};

use self::answer::AnswerDate;
use self::lock::Lock;
use crate::range;
use crate::settings::{ChecksumMode, S3Settings};

/// The largest object that is read at once; see the directory store.
const MAX_WHOLE_BYTES: u64 = 1 << 30;

/// From this size on a body is hashed on a thread that may be busy for a while (8 MiB take about 13 ms).
const HASHED_ASIDE_BYTES: usize = 256 << 10;

/// A prefix of a bucket.
#[derive(Debug, Clone)]
pub struct S3Store {
    client: Client,
    bucket: String,
    /// What every key begins with: empty, or ending in a slash.
    prefix: String,
    checksums: ChecksumMode,
    stall: Duration,
    connect: Duration,
    attempt: Duration,
    /// Of data packs; everything else is in the store's usual class.
    class: Option<StorageClass>,
    lock: Option<Lock>,
    /// Where there are locks: they end at a moment of the world.
    clock: Option<Arc<dyn Clock>>,
}

impl S3Store {
    /// Prepares a client; nothing is asked of the service yet. Credentials, and the region where the settings have
    /// none, come from the SDK's default chain: this is the one place below the programs that reads the environment.
    pub async fn connect(bucket: &str, prefix: &str, settings: &S3Settings) -> Self {
        Self::with_client(client::connect(settings, None).await, bucket, prefix, settings)
    }

    /// The same with credentials that are at hand.
    pub async fn connect_as(
        bucket: &str,
        prefix: &str,
        settings: &S3Settings,
        credentials: SharedCredentialsProvider,
    ) -> Self {
        Self::with_client(client::connect(settings, Some(credentials)).await, bucket, prefix, settings)
    }

    fn with_client(client: Client, bucket: &str, prefix: &str, settings: &S3Settings) -> Self {
        let prefix = if prefix.is_empty() { String::new() } else { format!("{prefix}/") };
        Self {
            client,
            bucket: bucket.to_owned(),
            prefix,
            checksums: settings.checksums,
            stall: settings.stall_timeout,
            connect: settings.connect_timeout,
            attempt: settings.attempt_timeout,
            class: settings.storage_class.as_deref().map(StorageClass::from),
            lock: settings.lock_for.map(|span| Lock {
                mode: settings.lock_mode,
                span: SignedDuration::try_from(span).unwrap_or(SignedDuration::MAX),
            }),
            clock: None,
        }
    }

    /// Tells it the time, without which it locks nothing, whatever the settings say.
    #[must_use]
    pub fn with_clock(self, clock: Arc<dyn Clock>) -> Self {
        Self { clock: Some(clock), ..self }
    }

    /// The storage class of a new object: where the settings name one, data packs have it. What describes them stays quick.
    fn class_of(&self, name: &ObjectName) -> Option<StorageClass> {
        let is_data =
            matches!(ObjectName::parse(name.as_str()), Some((_, ObjectKind::Pack(PackKind::Data, _))));
        self.class.clone().filter(|_| is_data)
    }

    fn key(&self, name: &ObjectName) -> String {
        format!("{}{name}", self.prefix)
    }

    fn checksum(&self) -> Option<ChecksumAlgorithm> {
        (self.checksums == ChecksumMode::WhenSupported).then_some(ChecksumAlgorithm::Crc32)
    }

    /// A PUT of an object, still without its body: where it goes, in which class, and for how long it is locked.
    fn put_request(&self, name: &ObjectName) -> PutObjectFluentBuilder {
        let lock = self.lock_of(name);
        self.client
            .put_object()
            .bucket(&self.bucket)
            .key(self.key(name))
            .set_storage_class(self.class_of(name))
            .set_object_lock_mode(lock.as_ref().map(|(mode, _)| mode.clone()))
            .set_object_lock_retain_until_date(lock.map(|(_, until)| until))
    }

    async fn write(&self, name: &ObjectName, body: Bytes, condition: Option<&str>) -> Result<(), StoreError> {
        let request = self
            .put_request(name)
            .content_md5(content_md5(&body).await)
            .set_checksum_algorithm(self.checksum())
            .set_if_none_match(condition.map(str::to_owned))
            .body(ByteStream::from(body));
        request.send().await.map(drop).map_err(|error| self.error(name.as_str(), error))
    }

    /// Takes the whole body of an answer, and exactly `bytes` of it.
    async fn collect(
        &self,
        name: &ObjectName,
        mut body: ByteStream,
        bytes: u64,
    ) -> Result<Bytes, StoreError> {
        let broken = |reason: String| StoreError::Unavailable {
            location: self.location(),
            name: name.as_str().to_owned(),
            reason,
        };
        let mut first: Option<Bytes> = None;
        let mut whole = BytesMut::new();
        loop {
            let Ok(next) = tokio::time::timeout(self.stall, body.next()).await else {
                return Err(broken(format!("the answer paused for more than {} s", self.stall.as_secs())));
            };
            let piece = match next {
                None => break,
                Some(Ok(piece)) => piece,
                Some(Err(error)) => return Err(self.broken_body(name.as_str(), &error)),
            };
            if whole.is_empty() && first.is_none() {
                first = Some(piece);
                continue;
            }
            if let Some(first) = first.take() {
                #[expect(
                    clippy::cast_possible_truncation,
                    reason = "at most MAX_WHOLE_BYTES, checked by the caller"
                )]
                whole.reserve(bytes as usize);
                whole.extend_from_slice(&first);
            }
            if (whole.len() + piece.len()) as u64 > bytes {
                return Err(broken("more bytes came than were promised".to_owned()));
            }
            whole.extend_from_slice(&piece);
        }
        let whole = first.unwrap_or_else(|| whole.freeze());
        if whole.len() as u64 == bytes {
            Ok(whole)
        } else {
            Err(broken(format!("{} of {bytes} bytes came", whole.len())))
        }
    }

    fn rejected(&self, name: &str, reason: impl Into<String>) -> StoreError {
        StoreError::Rejected { location: self.location(), name: name.to_owned(), reason: reason.into() }
    }

    /// HEAD, and what time the store said it was.
    async fn ask_head(&self, name: &ObjectName) -> Result<(HeadObjectOutput, Option<Timestamp>), StoreError> {
        let date = AnswerDate::default();
        let request = self.client.head_object().bucket(&self.bucket).key(self.key(name));
        let answer = request
            .customize()
            .interceptor(date.clone())
            .send()
            .await
            .map_err(|error| self.error(name.as_str(), error))?;
        Ok((answer, date.get()))
    }
}

/// The value of the header Content-MD5.
async fn content_md5(body: &Bytes) -> String {
    let encode = |body: &Bytes| base64::engine::general_purpose::STANDARD.encode(Md5::digest(body));
    if body.len() < HASHED_ASIDE_BYTES {
        return encode(body);
    }
    let aside = body.clone();
    // The runtime refuses such work only while it shuts down: then it is done right here.
    tokio::task::spawn_blocking(move || encode(&aside)).await.unwrap_or_else(|_| encode(body))
}

fn timestamp(date: &DateTime) -> Option<Timestamp> {
    Timestamp::new(date.secs(), i32::try_from(date.subsec_nanos()).ok()?).ok()
}

fn bytes_of(length: Option<i64>) -> Option<u64> {
    u64::try_from(length?).ok()
}

/// Undoes the encoding of names that we ask listings for, since XML cannot carry every name.
fn decoded(key: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(key.len());
    let mut rest = key.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        match byte {
            b'%' => {
                let digits = after.get(..2)?;
                bytes.push(u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?);
                rest = &after[2..];
            }
            b'+' => bytes.push(b' '),
            byte => bytes.push(byte),
        }
    }
    String::from_utf8(bytes).ok()
}

#[async_trait]
impl ObjectStore for S3Store {
    fn location(&self) -> String {
        format!("s3://{}/{}", self.bucket, self.prefix).trim_end_matches('/').to_owned()
    }

    async fn create(&self, name: &ObjectName, body: Bytes) -> Result<(), StoreError> {
        self.write(name, body, Some("*")).await
    }

    async fn put(&self, name: &ObjectName, body: Bytes) -> Result<(), StoreError> {
        self.write(name, body, None).await
    }

    async fn upload(&self, name: &ObjectName) -> Result<Box<dyn Upload>, StoreError> {
        Ok(Box::new(upload::PartUpload::begin(self.clone(), name.clone()).await?))
    }

    fn takes_files(&self) -> bool {
        true
    }

    async fn put_file(&self, name: &ObjectName, file: &File, bytes: u64) -> Result<(), StoreError> {
        self.write_file(name, file, bytes).await
    }

    async fn get(&self, name: &ObjectName) -> Result<Bytes, StoreError> {
        let request = self.client.get_object().bucket(&self.bucket).key(self.key(name));
        let answer = request.send().await.map_err(|error| self.error(name.as_str(), error))?;
        let bytes = bytes_of(answer.content_length())
            .ok_or_else(|| self.rejected(name.as_str(), "the answer does not say how long it is"))?;
        if bytes > MAX_WHOLE_BYTES {
            return Err(
                self.rejected(name.as_str(), format!("it has {bytes} bytes, too many to be read at once"))
            );
        }
        self.collect(name, answer.body, bytes).await
    }

    async fn get_range(&self, name: &ObjectName, start: u64, length: u64) -> Result<Bytes, StoreError> {
        let last = start.checked_add(length).and_then(|end| end.checked_sub(1));
        let Some(last) = last.filter(|_| length > 0 && length <= MAX_WHOLE_BYTES) else {
            // S3 has no empty ranges: whether it lies within the object only the object's size can tell.
            let bytes = self.head(name).await?.bytes;
            range::end_of(&self.location(), name.as_str(), start, length, bytes)?;
            return match length {
                0 => Ok(Bytes::new()),
                _ => {
                    Err(self
                        .rejected(name.as_str(), format!("{length} bytes are too many to be read at once")))
                }
            };
        };
        let request = self
            .client
            .get_object()
            .bucket(&self.bucket)
            .key(self.key(name))
            .range(format!("bytes={start}-{last}"));
        let answer = request.send().await.map_err(|error| self.error(name.as_str(), error))?;
        let Some((from, bytes)) = answer.content_range().and_then(content_range) else {
            return Err(self.rejected(name.as_str(), "the store does not answer ranges"));
        };
        range::end_of(&self.location(), name.as_str(), start, length, bytes)?;
        if from != start {
            return Err(self.rejected(name.as_str(), "the store answered another range"));
        }
        self.collect(name, answer.body, length).await
    }

    async fn head(&self, name: &ObjectName) -> Result<ObjectInfo, StoreError> {
        let (answer, store_time) = self.ask_head(name).await?;
        let (Some(bytes), Some(last_modified)) =
            (bytes_of(answer.content_length()), answer.last_modified().and_then(timestamp))
        else {
            return Err(self.rejected(name.as_str(), "the answer says neither size nor age"));
        };
        let locked_until = answer.object_lock_retain_until_date().and_then(timestamp);
        Ok(ObjectInfo { bytes, last_modified, store_time, locked_until })
    }

    async fn list(&self, prefix: &str, after: Option<&str>) -> Result<ListPage, StoreError> {
        let request = self
            .client
            .list_objects_v2()
            .bucket(&self.bucket)
            .prefix(format!("{}{prefix}", self.prefix))
            .set_start_after(after.map(|after| format!("{}{after}", self.prefix)))
            .encoding_type(EncodingType::Url);
        let answer = request.send().await.map_err(|error| match self.error(prefix, error) {
            // There is no object in question: only the bucket can be missing.
            StoreError::NotFound { .. } => StoreError::NoSuchPlace {
                location: self.location(),
                reason: "there is no such bucket".to_owned(),
            },
            error => error,
        })?;
        let encoded = answer.encoding_type() == Some(&EncodingType::Url);
        let mut objects = Vec::with_capacity(answer.contents().len());
        for object in answer.contents() {
            let key = object.key().and_then(|key| if encoded { decoded(key) } else { Some(key.to_owned()) });
            let below = key.as_deref().and_then(|key| key.strip_prefix(&self.prefix));
            // A name that is not even text is not ours.
            let Some(name) = below else { continue };
            let (Some(bytes), Some(last_modified)) =
                (bytes_of(object.size()), object.last_modified().and_then(timestamp))
            else {
                continue;
            };
            objects.push(Listed { name: name.to_owned(), bytes, last_modified });
        }
        let more = answer.is_truncated().unwrap_or(false);
        if more && objects.is_empty() {
            return Err(self.rejected(prefix, "a page of the listing holds no name that can be read"));
        }
        Ok(ListPage { objects, more })
    }

    async fn delete(&self, name: &ObjectName) -> Result<Deleted, StoreError> {
        if self.lock.is_some() {
            return self.delete_versions(name).await;
        }
        let request = self.client.delete_object().bucket(&self.bucket).key(self.key(name));
        match request.send().await.map_err(|error| self.error(name.as_str(), error)) {
            Ok(_) | Err(StoreError::NotFound { .. }) => Ok(Deleted::Gone),
            Err(StoreError::Refused { .. }) if self.is_locked(name).await => Ok(Deleted::Retained),
            Err(error) => Err(error),
        }
    }

    fn lock_span(&self) -> Option<Duration> {
        self.clock.as_ref()?;
        Duration::try_from(self.lock.as_ref()?.span).ok()
    }

    async fn prolong(&self, name: &ObjectName) -> Result<Option<Timestamp>, StoreError> {
        self.prolong_lock(name).await
    }

    async fn claims(&self, scratch: &ObjectName) -> Result<Claims, StoreError> {
        Ok(claims::ask(self, scratch).await)
    }
}

/// The first byte and the whole size out of `bytes 5-9/100`.
fn content_range(text: &str) -> Option<(u64, u64)> {
    let (range, whole) = text.strip_prefix("bytes ")?.split_once('/')?;
    Some((range.split_once('-')?.0.parse().ok()?, whole.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn encoded_names_and_ranges_are_read() {
        assert_eq!(decoded("a%2Fb+c%C3%BC").as_deref(), Some("a/b cü"));
        assert_eq!(decoded("%FF"), None);
        assert_eq!(decoded("%2"), None);
        assert_eq!(content_range("bytes 5-9/100"), Some((5, 100)));
        assert_eq!(content_range("bytes */100"), None);
    }
}
