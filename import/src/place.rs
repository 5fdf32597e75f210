//! Where a restic repository is: in our words, or as restic itself writes it.

use strongroom_object_store::{S3Settings, StoreUrl};

use crate::error::ImportError;

/// A place that can be opened.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Place {
    /// Where it is, in our words.
    pub(crate) url: StoreUrl,
    /// How to talk to S3.
    pub(crate) s3: S3Settings,
}

impl Place {
    /// A path, `file://…` and `s3://bucket/prefix` are ours, the latter where `own` says that buckets are; `local:…` and
    /// `s3:host/bucket/prefix` are restic's. `profile` names other credentials.
    pub(crate) fn parse(text: &str, own: &S3Settings, profile: Option<&str>) -> Result<Self, ImportError> {
        let wrong = |reason: String| ImportError::Place { place: text.to_owned(), reason };
        let mut s3 = own.clone();
        let url = match text.strip_prefix("s3:") {
            Some(rest) if !rest.starts_with("//") => {
                let (scheme, rest) = match rest.split_once("://") {
                    Some((scheme @ ("http" | "https"), rest)) => (scheme, rest),
                    Some(_) => return Err(wrong("before the host only http and https are known".to_owned())),
                    None => ("https", rest),
                };
                let Some((host, bucket)) = rest.split_once('/').filter(|(host, _)| !host.is_empty()) else {
                    return Err(wrong("it names no bucket, as in s3:https://host/bucket/prefix".to_owned()));
                };
                if host.contains('@') {
                    return Err(wrong("credentials do not belong there".to_owned()));
                }
                s3.endpoint = Some(format!("{scheme}://{host}"));
                s3.path_style = None;
                format!("s3://{bucket}")
            }
            _ => text.strip_prefix("local:").unwrap_or(text).to_owned(),
        };
        // What restic knows besides (sftp:, rest:, b2:, …) would be taken for the name of a folder.
        let scheme = url.split_once(':').map(|(scheme, _)| scheme);
        if scheme
            .is_some_and(|scheme| ["sftp", "rest", "b2", "azure", "gs", "swift", "rclone"].contains(&scheme))
        {
            return Err(wrong("only folders and S3 can be read".to_owned()));
        }
        if let Some(profile) = profile {
            s3.profile = Some(profile.to_owned());
        }
        // Nothing is written there.
        (s3.storage_class, s3.lock_for) = (None, None);
        Ok(Self { url: url.parse().map_err(|error| wrong(strongroom_model::chain(&error)))?, s3 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_read_as_we_write_them_and_as_restic_does() {
        let own = S3Settings { endpoint: Some("https://ours".into()), ..S3Settings::default() };
        for (text, url, endpoint) in [
            ("/srv/restic", "file:///srv/restic", "https://ours"),
            ("local:/srv/restic", "file:///srv/restic", "https://ours"),
            ("s3://bucket/a/b", "s3://bucket/a/b", "https://ours"),
            ("s3:http://127.0.0.1:9000/bucket/a", "s3://bucket/a", "http://127.0.0.1:9000"),
            ("s3:s3.amazonaws.com/bucket", "s3://bucket", "https://s3.amazonaws.com"),
        ] {
            let place = Place::parse(text, &own, None).unwrap();
            assert_eq!((place.url.to_string().as_str(), place.s3.endpoint.as_deref()), (url, Some(endpoint)));
        }
        for wrong in [
            "",
            "sftp:host:/x",
            "rest:https://host/",
            "s3:https://host",
            "s3:https://me:pw@host/bucket",
            "b2:x",
        ] {
            assert!(matches!(Place::parse(wrong, &own, None), Err(ImportError::Place { .. })), "{wrong}");
        }
    }
}
