//! What a bucket says of itself, and what its store does with checksums.
//!
//! A store that cannot be asked answers with an error; that is an answer too, never a failure of the probe.

use aws_sdk_s3::error::ProvideErrorMetadata;
use aws_sdk_s3::primitives::{ByteStream, SdkBody};
use aws_sdk_s3::types::{BucketVersioningStatus, ChecksumAlgorithm, ObjectLockEnabled};
use bytes::Bytes;
use http_body_util::Full;
use strongroom_repository::abilities::{Answer, Claims};
use strongroom_repository::layout::ObjectName;
use strongroom_repository::store::{ObjectStore, StoreError};

use super::S3Store;

const BODY: &[u8] = b"Strongroom asks what this store does with checksums.";
/// Not the CRC-32 of the body.
const WRONG_CRC32: &str = "AAAAAA==";

pub(super) async fn ask(store: &S3Store, scratch: &ObjectName) -> Claims {
    Claims {
        wrong_checksum_refused: wrong_checksum_refused(store, scratch).await,
        trailer_checksums: trailer_checksums(store, scratch).await,
        versioning: versioning(store).await,
        object_lock: object_lock(store).await,
    }
}

async fn wrong_checksum_refused(store: &S3Store, scratch: &ObjectName) -> Answer {
    let request = store
        .client
        .put_object()
        .bucket(&store.bucket)
        .key(store.key(scratch))
        .checksum_crc32(WRONG_CRC32)
        .body(ByteStream::from_static(BODY));
    match request.send().await {
        Ok(_) => Answer::No,
        // There are stores that answer 400 and keep the object all the same.
        Err(error) if error.as_service_error().is_some() => match store.head(scratch).await {
            Err(StoreError::NotFound { .. }) => Answer::Yes,
            Ok(_) => Answer::No,
            Err(_) => Answer::Unknown,
        },
        Err(_) => Answer::Unknown,
    }
}

async fn trailer_checksums(store: &S3Store, scratch: &ObjectName) -> Answer {
    // A body that is not in memory makes the SDK send the checksum behind it.
    let body = ByteStream::new(SdkBody::from_body_1_x(Full::new(Bytes::from_static(BODY))));
    let request = store
        .client
        .put_object()
        .bucket(&store.bucket)
        .key(store.key(scratch))
        .checksum_algorithm(ChecksumAlgorithm::Crc32)
        .body(body);
    match request.send().await {
        Ok(_) => match store.get(scratch).await {
            Ok(stored) => Answer::from(stored == BODY),
            Err(_) => Answer::Unknown,
        },
        Err(error) if error.as_service_error().is_some() => Answer::No,
        Err(_) => Answer::Unknown,
    }
}

async fn versioning(store: &S3Store) -> Answer {
    match store.client.get_bucket_versioning().bucket(&store.bucket).send().await {
        Ok(answer) => Answer::from(answer.status() == Some(&BucketVersioningStatus::Enabled)),
        Err(error) => not_offered(error.as_service_error().and_then(ProvideErrorMetadata::code)),
    }
}

async fn object_lock(store: &S3Store) -> Answer {
    match store.client.get_object_lock_configuration().bucket(&store.bucket).send().await {
        Ok(answer) => {
            let lock = answer.object_lock_configuration().and_then(|lock| lock.object_lock_enabled());
            Answer::from(lock == Some(&ObjectLockEnabled::Enabled))
        }
        Err(error) => not_offered(error.as_service_error().and_then(ProvideErrorMetadata::code)),
    }
}

fn not_offered(code: Option<&str>) -> Answer {
    match code {
        Some("ObjectLockConfigurationNotFoundError" | "NotImplemented" | "MethodNotAllowed") => Answer::No,
        _ => Answer::Unknown,
    }
}
