//! Why a copy does not take the live database's place.

use strongroom_database::LineageId;
use strongroom_model::{Failure, Remedy, VolumeName};

/// The copy was not promoted; nothing was changed.
#[derive(Debug, thiserror::Error)]
pub(in crate::database) enum PromoteError {
    /// There is no such volume.
    #[error("there is no volume {name}")]
    NoCopy {
        /// Which.
        name: VolumeName,
    },
    /// The volume is not what `db restore` made.
    #[error("volume {name} is no copy that `strongroom db restore` made")]
    NotACopy {
        /// Which.
        name: VolumeName,
    },
    /// The volume is for a look.
    #[error("volume {name} is a clone, for a look")]
    Clone {
        /// Which.
        name: VolumeName,
    },
    /// The restore that makes the volume was interrupted.
    #[error("the restore into volume {name} is not finished")]
    Unfinished {
        /// Which.
        name: VolumeName,
    },
    /// Somebody uses a volume.
    #[error("volume {name} is in use: it is mounted at {path}")]
    InUse {
        /// Which.
        name: VolumeName,
        /// Where.
        path: String,
        /// It was mounted with `strongroom volume mount`.
        by_hand: bool,
    },
    /// The log that the live database goes on with is not in the volume.
    #[error(
        "the binary log of the database is not in volume {name}, so it would go on in the one of the live database"
    )]
    LogElsewhere {
        /// Which.
        name: VolumeName,
    },
    /// Another copy was promoted under the same number.
    #[error("volume {name} writes lineage {lineage}, and another one of that number is archived already")]
    LineageTaken {
        /// Which.
        name: VolumeName,
        /// Its history.
        lineage: LineageId,
    },
}

impl Failure for PromoteError {
    fn code(&self) -> &'static str {
        match self {
            Self::NoCopy { .. } => "database.no-copy",
            Self::NotACopy { .. } => "database.not-a-copy",
            Self::Clone { .. } => "database.copy-is-clone",
            Self::Unfinished { .. } => "database.copy-unfinished",
            Self::InUse { .. } => "database.volume-in-use",
            Self::LogElsewhere { .. } => "database.log-elsewhere",
            Self::LineageTaken { .. } => "database.lineage-taken",
        }
    }

    fn remedy(&self) -> Remedy {
        match self {
            Self::InUse { .. } => Remedy::FixSurroundings,
            _ => Remedy::FixRequest,
        }
    }

    fn advice(&self) -> String {
        match self {
            Self::NoCopy { .. } => {
                "Make one with `strongroom db restore`, or say with --restored what it is called.".into()
            }
            Self::NotACopy { .. } => "Say with --restored which volume `strongroom db restore` made.".into(),
            Self::Clone { .. } => {
                "Restore the state that you want with `strongroom db restore`, and promote that.".into()
            }
            Self::Unfinished { .. } => "Give the command of the restore again: it goes on.".into(),
            Self::InUse { by_hand: true, name, path } => {
                format!("Stop the database that runs there, then `strongroom volume unmount {name} {path}`.")
            }
            Self::InUse { .. } => {
                "Stop the container or pod that has it: the exchange needs the database stopped.".into()
            }
            Self::LogElsewhere { .. } => {
                "Stop the database, put the content of the copy in its place, and begin the binary log anew with RESET MASTER before anything is written; what is archived then begins a history of its own.".into()
            }
            Self::LineageTaken { .. } => {
                "Restore the same state again: the new copy gets a number of its own.".into()
            }
        }
    }
}
