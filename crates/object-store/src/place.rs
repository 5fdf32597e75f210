//! From a URL to a store with the wrappers a program wants.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use strongroom_model::{Failure, Remedy, World};
use strongroom_repository::store::{ObjectStore, StoreError};

use crate::directory::DirectoryStore;
use crate::limit::Limit;
use crate::record::{Counts, Record};
use crate::retry::{Retry, RetryPolicy};
use crate::s3::S3Store;
use crate::settings::S3Settings;

/// Requests to a directory under way at once: enough to keep a disk busy, few enough threads to cost nothing.
const DIRECTORY_CONCURRENCY: usize = 16;

/// Where a repository is: `file:///path`, a bare path, or `s3://bucket/prefix`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoreUrl {
    /// A folder of this machine.
    Directory(PathBuf),
    /// A prefix of a bucket.
    S3 {
        /// The bucket.
        bucket: String,
        /// What every object's key begins with: empty, or without a slash at either end.
        prefix: String,
    },
}

/// A place that cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum PlaceError {
    /// The text is no URL that we understand.
    #[error("{url:?} is no place for a repository: {reason}")]
    Url {
        /// What was given.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The folder could not be made.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Failure for PlaceError {
    fn code(&self) -> &'static str {
        match self {
            Self::Url { .. } => "store.url",
            Self::Store(cause) => cause.code(),
        }
    }

    fn remedy(&self) -> Remedy {
        match self {
            Self::Url { .. } => Remedy::FixRequest,
            Self::Store(cause) => cause.remedy(),
        }
    }

    fn advice(&self) -> String {
        match self {
            Self::Url { .. } => "Give file:///path, a path, or s3://bucket/prefix.".to_owned(),
            Self::Store(cause) => cause.advice(),
        }
    }
}

impl FromStr for StoreUrl {
    type Err = PlaceError;

    fn from_str(url: &str) -> Result<Self, PlaceError> {
        let wrong = |reason: &str| PlaceError::Url { url: url.to_owned(), reason: reason.to_owned() };
        if let Some(rest) = url.strip_prefix("s3://") {
            let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
            if !(3..=63).contains(&bucket.len())
                || !bucket
                    .bytes()
                    .all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'A'..=b'Z'))
            {
                return Err(wrong("a bucket's name has 3 to 63 letters, digits, dots and dashes"));
            }
            let prefix = prefix.trim_matches('/');
            if prefix.len() > 512 {
                return Err(wrong("the prefix is longer than 512 bytes"));
            }
            if prefix.contains(['?', '#', '@']) || prefix.chars().any(char::is_control) {
                return Err(wrong("the prefix cannot hold ?, #, @ or control characters"));
            }
            if !prefix.is_empty() && prefix.split('/').any(|step| matches!(step, "" | "." | "..")) {
                return Err(wrong("the prefix has an empty step, or steps named . or .."));
            }
            return Ok(Self::S3 { bucket: bucket.to_owned(), prefix: prefix.to_owned() });
        }
        if let Some(rest) = url.strip_prefix("file://") {
            return if rest.starts_with('/') {
                Ok(Self::Directory(PathBuf::from(rest)))
            } else {
                Err(wrong("file:// is followed by an absolute path, as in file:///var/backups"))
            };
        }
        if url.is_empty() {
            return Err(wrong("it is empty"));
        }
        if url.contains("://") {
            return Err(wrong("only file:// and s3:// are known"));
        }
        Ok(Self::Directory(PathBuf::from(url)))
    }
}

impl fmt::Display for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Directory(path) if path.is_absolute() => write!(f, "file://{}", path.display()),
            Self::Directory(path) => write!(f, "{}", path.display()),
            Self::S3 { bucket, prefix } if prefix.is_empty() => write!(f, "s3://{bucket}"),
            Self::S3 { bucket, prefix } => write!(f, "s3://{bucket}/{prefix}"),
        }
    }
}

/// A store, and what has been asked of it so far.
#[derive(Debug, Clone)]
pub struct OpenedStore {
    /// The store: retrying, limited, counted.
    pub store: Arc<dyn ObjectStore>,
    /// Requests and bytes as they went over the line, repetitions included.
    pub counts: Arc<Counts>,
}

/// Opens the store at `url`. Nothing is asked of it yet: a missing bucket shows at the first request.
///
/// # Errors
/// When the URL makes no sense.
pub async fn open_store(
    url: &str,
    s3: Option<&S3Settings>,
    world: &World,
) -> Result<Arc<dyn ObjectStore>, PlaceError> {
    Ok(open_counted(url, s3, world).await?.store)
}

/// Like [`open_store`], and hands out the counters of its requests.
///
/// # Errors
/// When the URL makes no sense.
pub async fn open_counted(
    url: &str,
    s3: Option<&S3Settings>,
    world: &World,
) -> Result<OpenedStore, PlaceError> {
    match url.parse()? {
        StoreUrl::Directory(path) => {
            let counted = Record::new(Arc::new(DirectoryStore::new(&path)));
            let counts = counted.counts();
            // Files answer or they do not: what a disk refuses once it refuses again.
            Ok(OpenedStore { store: Arc::new(Limit::new(Arc::new(counted), DIRECTORY_CONCURRENCY)), counts })
        }
        StoreUrl::S3 { bucket, prefix } => {
            let settings = s3.cloned().unwrap_or_default();
            let store = S3Store::connect(&bucket, &prefix, &settings).await;
            let counted = Record::new(Arc::new(store.with_clock(Arc::clone(&world.clock))));
            let counts = counted.counts();
            let limited = Limit::new(Arc::new(counted), settings.concurrency);
            let policy = RetryPolicy {
                attempts: settings.attempts,
                patience: settings.operation_timeout,
                ..RetryPolicy::default()
            };
            let retrying = Retry::new(Arc::new(limited), policy, Arc::clone(&world.entropy));
            Ok(OpenedStore { store: Arc::new(retrying), counts })
        }
    }
}

/// Makes the folder of a directory repository, with its parents; a bucket must be there already.
///
/// # Errors
/// When the URL makes no sense or the folder cannot be made.
pub fn make_place(url: &str) -> Result<(), PlaceError> {
    match url.parse()? {
        StoreUrl::Directory(path) => Ok(crate::directory::make(Path::new(&path))?),
        StoreUrl::S3 { .. } => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_understood_or_refused_with_a_reason() {
        let s3 = |bucket: &str, prefix: &str| StoreUrl::S3 { bucket: bucket.into(), prefix: prefix.into() };
        for (url, place) in [
            ("s3://bucket", s3("bucket", "")),
            ("s3://bucket/", s3("bucket", "")),
            ("s3://bucket/a/b/", s3("bucket", "a/b")),
            ("file:///var/x", StoreUrl::Directory("/var/x".into())),
            ("/var/x", StoreUrl::Directory("/var/x".into())),
            ("some/where", StoreUrl::Directory("some/where".into())),
        ] {
            assert_eq!(url.parse::<StoreUrl>().unwrap(), place, "{url}");
        }
        for wrong in [
            "",
            "s3://",
            "s3://a/b",
            "s3://bucket/../x",
            "s3://user:pw@bucket/x",
            "s3://bucket/a?b",
            "file://host/x",
            "http://x/y",
        ] {
            let error = wrong.parse::<StoreUrl>().unwrap_err();
            assert_eq!((error.code(), error.remedy()), ("store.url", Remedy::FixRequest), "{wrong}");
        }
    }
}
