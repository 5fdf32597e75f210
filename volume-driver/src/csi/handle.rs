//! How CSI names snapshots of both kinds: those of this driver, and recovery points of a repository.
//!
//! `snap-…` is local to this node and there at once. `point:rp-…` lies in the repository, so every node whose agent has the key of that
//! repository knows what it means.

use std::fmt;
use std::str::FromStr;

use strongroom_model::{IdError, RecoveryPointId, SnapshotId};

/// What a `snapshot_id` names. Ordered, so that a list of both kinds can be told page by page: those of the driver first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum SnapshotHandle {
    /// A snapshot of this driver.
    Local(SnapshotId),
    /// A recovery point.
    Point(RecoveryPointId),
}

/// What the handle of a recovery point begins with.
const POINT: &str = "point:";

impl fmt::Display for SnapshotHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Local(id) => write!(f, "{id}"),
            Self::Point(id) => write!(f, "{POINT}{id}"),
        }
    }
}

impl FromStr for SnapshotHandle {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        match text.strip_prefix(POINT) {
            Some(id) => id.parse().map(Self::Point),
            None => text.parse().map(Self::Local),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_handle_has_one_text_and_nothing_else_passes_for_one() {
        let digits = "0123456789abcdef0123456789abcdef";
        for text in [format!("snap-{digits}"), format!("point:rp-{digits}")] {
            assert_eq!(text.parse::<SnapshotHandle>().unwrap().to_string(), text);
        }
        for wrong in [
            String::new(),
            "point:".into(),
            format!("point:{digits}"),
            format!("rp-{digits}"),
            format!("point:snap-{digits}"),
            format!("point:point:rp-{digits}"),
            format!("snap-{digits}/../.."),
        ] {
            assert!(wrong.parse::<SnapshotHandle>().is_err(), "{wrong}");
        }
    }
}
