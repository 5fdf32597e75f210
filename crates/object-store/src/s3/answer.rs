//! What an answer means, or the lack of one.

use std::error::Error;
use std::sync::{Arc, Mutex, PoisonError};

use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_s3::config::interceptors::BeforeDeserializationInterceptorContextRef;
use aws_sdk_s3::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_types::date_time::{DateTime, Format};
use jiff::Timestamp;
use strongroom_model::chain;
use strongroom_repository::store::{ObjectStore, StoreError};

use super::S3Store;

/// The kinds of answers that we act upon differently.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Meaning {
    NotFound,
    NoBucket,
    Exists,
    Refused,
    Archived,
    Full,
    Later,
    Damaged,
    Rejected,
}

/// The code counts more than the status: stores agree on the codes, and some send them with statuses of their own.
fn meaning(status: u16, code: &str) -> Meaning {
    match (code, status) {
        ("NoSuchKey" | "NoSuchVersion", _) => Meaning::NotFound,
        ("NoSuchBucket", _) => Meaning::NoBucket,
        ("PreconditionFailed" | "ConditionalRequestConflict", _) => Meaning::Exists,
        ("InvalidObjectState", _) => Meaning::Archived,
        ("QuotaExceeded" | "InsufficientStorage" | "InsufficientCapacity" | "XMinioStorageFull", _)
        | (_, 507) => Meaning::Full,
        (
            "SlowDown" | "RequestTimeout" | "InternalError" | "ServiceUnavailable" | "OperationAborted"
            | "Busy",
            _,
        ) => Meaning::Later,
        ("BadDigest", _) => Meaning::Damaged,
        ("NoSuchUpload" | "InvalidRange", _) => Meaning::Rejected,
        (_, 404) => Meaning::NotFound,
        (_, 401 | 403) => Meaning::Refused,
        (_, 409 | 412) => Meaning::Exists,
        // 501 is what a store answers to a request that it will never understand.
        (_, 501) => Meaning::Rejected,
        (_, 408 | 425 | 429 | 500..) => Meaning::Later,
        _ => Meaning::Rejected,
    }
}

impl S3Store {
    /// What a failed request means.
    pub(super) fn error<E>(&self, name: &str, error: SdkError<E, HttpResponse>) -> StoreError
    where
        E: ProvideErrorMetadata + Error + Send + Sync + 'static,
    {
        let (location, name) = (self.location(), name.to_owned());
        match error {
            SdkError::ServiceError(context) => {
                let status = context.raw().status().as_u16();
                let code = context.err().code().unwrap_or_default();
                let reason = match context.err().message() {
                    Some(message) => format!("{status} {code}: {message}"),
                    None => format!("{status} {code}").trim_end().to_owned(),
                };
                match meaning(status, code) {
                    Meaning::NotFound => StoreError::NotFound { name },
                    Meaning::NoBucket => StoreError::NoSuchPlace { location, reason },
                    Meaning::Exists => StoreError::Exists { name },
                    Meaning::Refused => StoreError::Refused { location, name, reason },
                    Meaning::Archived => StoreError::Archived { location, name },
                    Meaning::Full => StoreError::Full { location, reason },
                    Meaning::Later => StoreError::Unavailable { location, name, reason },
                    Meaning::Damaged => StoreError::Damaged { location, name, reason },
                    Meaning::Rejected => StoreError::Rejected { location, name, reason },
                }
            }
            SdkError::ConstructionFailure(_) => {
                StoreError::Rejected { location, name, reason: chain(&error) }
            }
            error if lacks_credentials(&error) => {
                StoreError::Refused { location, name, reason: format!("no credentials: {}", chain(&error)) }
            }
            error => StoreError::Unavailable { location, name, reason: chain(&error) },
        }
    }

    /// What a body that broke off means.
    pub(super) fn broken_body(&self, name: &str, error: &(dyn Error + 'static)) -> StoreError {
        let (location, name, reason) = (self.location(), name.to_owned(), chain(error));
        if reason.contains("checksum mismatch") {
            StoreError::Damaged { location, name, reason }
        } else {
            StoreError::Unavailable { location, name, reason }
        }
    }
}

/// Whether nothing was sent because nobody knows as whom. A provider that was too slow may be quicker the next time.
fn lacks_credentials(error: &(dyn Error + 'static)) -> bool {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<CredentialsError>() {
            return !matches!(error, CredentialsError::ProviderTimedOut(_));
        }
        cause = error.source();
    }
    false
}

/// Remembers what time a store said it was.
#[derive(Debug, Clone, Default)]
pub(super) struct AnswerDate(Arc<Mutex<Option<Timestamp>>>);

impl AnswerDate {
    pub(super) fn get(&self) -> Option<Timestamp> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Intercept for AnswerDate {
    fn name(&self) -> &'static str {
        "AnswerDate"
    }

    fn read_before_deserialization(
        &self,
        context: &BeforeDeserializationInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), aws_sdk_s3::error::BoxError> {
        let date = context.response().headers().get("date");
        let date = date.and_then(|text| DateTime::from_str(text, Format::HttpDate).ok());
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) =
            date.and_then(|date| Timestamp::new(date.secs(), 0).ok());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_and_statuses_mean_what_we_do_about_them() {
        for (status, code, expected) in [
            (404, "NoSuchKey", Meaning::NotFound),
            (404, "", Meaning::NotFound),
            (404, "NoSuchBucket", Meaning::NoBucket),
            (404, "NoSuchUpload", Meaning::Rejected),
            (412, "PreconditionFailed", Meaning::Exists),
            (409, "ConditionalRequestConflict", Meaning::Exists),
            (409, "OperationAborted", Meaning::Later),
            (403, "AccessDenied", Meaning::Refused),
            (403, "RequestTimeTooSkewed", Meaning::Refused),
            (403, "InvalidObjectState", Meaning::Archived),
            (403, "QuotaExceeded", Meaning::Full),
            (400, "BadDigest", Meaning::Damaged),
            (400, "RequestTimeout", Meaning::Later),
            (400, "XAmzContentSHA256Mismatch", Meaning::Rejected),
            (429, "", Meaning::Later),
            (500, "InternalError", Meaning::Later),
            (200, "InternalError", Meaning::Later),
            (501, "NotImplemented", Meaning::Rejected),
            (503, "SlowDown", Meaning::Later),
            (507, "", Meaning::Full),
        ] {
            assert_eq!(meaning(status, code), expected, "{status} {code}");
        }
    }
}
