//! How much I/O a second the users of a volume may do.
//!
//! Plain data: four numbers, each of them absent where there is no limit. [`crate::io_throttle`] is what the kernel does
//! with them.

use std::collections::BTreeMap;
use std::num::NonZeroU64;

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum IoQuantity {
    /// Requests that read.
    IopsRead,
    /// Requests that write.
    IopsWrite,
    /// Bytes that are read.
    BytesRead,
    /// Bytes that are written.
    BytesWrite,
}

impl IoQuantity {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::IopsRead, Self::IopsWrite, Self::BytesRead, Self::BytesWrite];

    /// What the parameter is called that limits it.
    #[must_use]
    pub const fn parameter(self) -> &'static str {
        match self {
            Self::IopsRead => "iops.read",
            Self::IopsWrite => "iops.write",
            Self::BytesRead => "bytes-per-second.read",
            Self::BytesWrite => "bytes-per-second.write",
        }
    }
}

/// The limits of one volume.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct IoLimits {
    /// Requests a second that read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub iops_read: Option<NonZeroU64>,
    /// Requests a second that write.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub iops_write: Option<NonZeroU64>,
    /// Bytes a second that are read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes_read: Option<NonZeroU64>,
    /// Bytes a second that are written.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes_write: Option<NonZeroU64>,
}

impl IoLimits {
    /// Without any limit.
    pub const NONE: Self = Self { iops_read: None, iops_write: None, bytes_read: None, bytes_write: None };

    /// Whether nothing is limited.
    #[must_use]
    pub fn is_none(&self) -> bool {
        *self == Self::NONE
    }

    /// The same with some limits set or lifted.
    #[must_use]
    pub fn changed(self, changes: &BTreeMap<IoQuantity, Option<NonZeroU64>>) -> Self {
        changes.iter().fold(self, |limits, (quantity, limit)| limits.with(*quantity, *limit))
    }

    /// `iops.write=20 bytes-per-second.read=1000`, or `none`.
    #[must_use]
    pub fn describe(&self) -> String {
        let set = IoQuantity::ALL
            .into_iter()
            .filter_map(|quantity| Some(format!("{}={}", quantity.parameter(), self.of(quantity)?)));
        let text = set.collect::<Vec<_>>().join(" ");
        if text.is_empty() { "none".to_owned() } else { text }
    }

    /// The limit of a quantity; `None`: there is none.
    #[must_use]
    pub const fn of(&self, quantity: IoQuantity) -> Option<NonZeroU64> {
        match quantity {
            IoQuantity::IopsRead => self.iops_read,
            IoQuantity::IopsWrite => self.iops_write,
            IoQuantity::BytesRead => self.bytes_read,
            IoQuantity::BytesWrite => self.bytes_write,
        }
    }

    /// The same with another limit for one quantity.
    #[must_use]
    pub const fn with(mut self, quantity: IoQuantity, limit: Option<NonZeroU64>) -> Self {
        match quantity {
            IoQuantity::IopsRead => self.iops_read = limit,
            IoQuantity::IopsWrite => self.iops_write = limit,
            IoQuantity::BytesRead => self.bytes_read = limit,
            IoQuantity::BytesWrite => self.bytes_write = limit,
        }
        self
    }
}
