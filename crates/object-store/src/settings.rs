//! What a person can tune about an S3 store: plain data, made to be a table of the configuration file.
//!
//! Credentials are never here. They come by the usual chain of the AWS SDK: environment, profile, container or
//! instance role.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The table `[repository.s3]`. Durations carry their unit: `"30s"`, `"2m"`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct S3Settings {
    /// Where the service is, such as `https://s3.example.org`. Without it: AWS itself, or what the SDK's chain says.
    pub endpoint: Option<String>,
    /// The region to sign for. Without it what the SDK's chain says, and `us-east-1` when it says nothing.
    pub region: Option<String>,
    /// Whether the bucket stands in the path instead of the host name. Without it: yes where an endpoint is given.
    pub path_style: Option<bool>,
    /// When bodies are sent with, and answers checked against, S3's own checksums.
    pub checksums: ChecksumMode,
    /// How long to wait for a connection.
    #[serde(with = "patience")]
    pub connect_timeout: Duration,
    /// How long one request may take to be sent and answered. A part of 8 MiB in this time is the slowest line that
    /// works.
    #[serde(with = "patience")]
    pub attempt_timeout: Duration,
    /// How long an answer's body may pause.
    #[serde(with = "patience")]
    pub stall_timeout: Duration,
    /// How long an idle connection is kept for the next request; must be less than the server keeps it.
    #[serde(with = "patience")]
    pub idle_timeout: Duration,
    /// How long a request may take with all its repetitions.
    #[serde(with = "patience")]
    pub operation_timeout: Duration,
    /// How often one request is sent at most.
    pub attempts: u32,
    /// How many requests are under way at once at most.
    pub concurrency: usize,
    /// Whose credentials are used: a profile of the SDK's files. Without it what the SDK's chain says.
    pub profile: Option<String>,
    /// The storage class of data packs, such as `STANDARD_IA`. Maps, journal, index and keys are in the store's usual one.
    pub storage_class: Option<String>,
    /// For how long new packs are locked against deleting; the bucket must have Object Lock. Without it: not at all.
    #[serde(with = "days")]
    pub lock_for: Option<Duration>,
    /// How strictly.
    pub lock_mode: LockMode,
}

impl Default for S3Settings {
    fn default() -> Self {
        Self {
            endpoint: None,
            region: None,
            path_style: None,
            checksums: ChecksumMode::WhenSupported,
            connect_timeout: Duration::from_secs(5),
            // 8 MiB in 120 s is 70 KB/s: below that nobody backs up volumes.
            attempt_timeout: Duration::from_secs(120),
            stall_timeout: Duration::from_secs(30),
            // Servers commonly close after 60 s, AWS after about 20 s without warning.
            idle_timeout: Duration::from_secs(15),
            operation_timeout: Duration::from_secs(600),
            attempts: 6,
            concurrency: 32,
            profile: None,
            storage_class: None,
            lock_for: None,
            lock_mode: LockMode::Compliance,
        }
    }
}

/// When S3's own checksums are used. Content-MD5 goes with every body in either mode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ChecksumMode {
    /// Wherever the operation can carry one.
    #[default]
    WhenSupported,
    /// Only where it must; for stores that refuse what they do not know.
    WhenRequired,
}

/// How strictly a lock holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LockMode {
    /// Nobody can take it off or shorten it, the owner of the account neither.
    #[default]
    Compliance,
    /// Who has the right to bypass it can.
    Governance,
}

/// A span of days, `"30d"`, or of hours: S3 counts in seconds, people here in days.
mod days {
    use std::time::Duration;

    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serializer};

    const HOUR: u64 = 3600;
    /// A century: more is a slip of the finger, and nobody could take it back.
    const LONGEST: u64 = 100 * 365 * 24 * HOUR;

    pub(super) fn serialize<S: Serializer>(
        span: &Option<Duration>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match span {
            None => serializer.serialize_none(),
            Some(span) => serializer.collect_str(&format_args!("{}h", span.as_secs() / HOUR)),
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Duration>, D::Error> {
        let Some(text) = Option::<String>::deserialize(deserializer)? else { return Ok(None) };
        let (number, unit) = text.split_at(text.len().saturating_sub(1));
        let hours = match unit {
            "h" => Some(1),
            "d" => Some(24),
            "w" => Some(7 * 24),
            _ => None,
        };
        let seconds = hours
            .zip(number.parse::<u64>().ok())
            .and_then(|(hours, number)| number.checked_mul(hours * HOUR));
        match seconds.filter(|seconds| (1..=LONGEST).contains(seconds)) {
            Some(seconds) => Ok(Some(Duration::from_secs(seconds))),
            None => Err(D::Error::custom(format!(
                "{text:?} is no time to lock for: write it like \"30d\", \"12h\" or \"4w\", at most a century"
            ))),
        }
    }
}

/// A duration as text with a unit.
mod patience {
    use std::time::Duration;

    use jiff::SignedDuration;
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        let signed = SignedDuration::try_from(*duration).map_err(serde::ser::Error::custom)?;
        serializer.collect_str(&format_args!("{signed:#}"))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        let text = String::deserialize(deserializer)?;
        let wrong =
            || D::Error::custom(format!("{text:?} is not a duration with a unit, such as \"30s\" or \"2m\""));
        let duration =
            Duration::try_from(text.parse::<SignedDuration>().map_err(|_| wrong())?).map_err(|_| wrong())?;
        if duration.is_zero() {
            Err(D::Error::custom("a duration of zero is no time at all"))
        } else {
            Ok(duration)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_table_is_the_default_and_units_are_read() {
        assert_eq!(toml::from_str::<S3Settings>("").unwrap(), S3Settings::default());
        let some: S3Settings =
            toml::from_str("endpoint = \"http://127.0.0.1:1\"\nchecksums = \"when-required\"\nattempt_timeout = \"1m 30s\"\nconcurrency = 4\nlock_for = \"30d\"\nstorage_class = \"GLACIER_IR\"")
                .unwrap();
        assert_eq!(some.lock_for, Some(Duration::from_secs(30 * 86_400)));
        assert_eq!(some.attempt_timeout, Duration::from_secs(90));
        assert_eq!(some.checksums, ChecksumMode::WhenRequired);
        let text = toml::to_string(&some).unwrap();
        assert_eq!(toml::from_str::<S3Settings>(&text).unwrap(), some);
    }

    #[test]
    fn what_has_no_unit_or_no_meaning_is_refused() {
        for wrong in [
            "attempt_timeout = \"90\"",
            "attempt_timeout = 90",
            "attempt_timeout = \"-5s\"",
            "attempt_timeout = \"0s\"",
            "atempts = 3",
            "lock_for = \"30\"",
            "lock_for = \"0d\"",
            "lock_for = \"1000y\"",
            "lock_mode = \"strict\"",
        ] {
            assert!(toml::from_str::<S3Settings>(wrong).is_err(), "{wrong}");
        }
    }
}
