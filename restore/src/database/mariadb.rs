//! MariaDB brought to a transaction and not one further: by its own programs, where nobody sees it, and proved.
//!
//! ```text
//! server     the copy's server: recovers, without a network, replication, events and passwords
//! log        the archived files of the binary log on disk, and which of their transactions are replayed
//! feed       the server's own programs, one reading the files, one writing to the server
//! copy       all of it: to a stop, and on to a later one
//! asked      a copy that is looked at, or proved
//! ```
//! What the copy has after its recovery is asked of it, never assumed: replay begins behind that. In the end the server is asked
//! again; what it says it committed must be what the plan says, transaction by transaction.
//!
//! Where the binary log lies in the data folder it goes on there, so that the copy knows what was committed in it. Statements that
//! were logged as text take the time of the machine's own zone, as a replica's do.

mod asked;
mod copy;
mod error;
mod feed;
mod log;
mod server;

use std::path::{Path, PathBuf};

use strongroom_archive::DatabaseArchive;
use strongroom_console::Failed;
use strongroom_database::{Plan, Position};
use tokio_util::sync::CancellationToken;

use super::RecoveryError;

pub(super) use asked::AskedCopy;
pub use copy::{MariadbCopy, Reached};
pub use error::ReplayError;
pub use log::LaidOutLog;
use server::Server;

/// What logs of MariaDB call their engine.
pub(super) const ENGINE: &str = "mariadb";

/// Every data folder has it, and no other.
pub(super) const MARK: &str = "aria_log_control";

/// The largest packet that there can be: what was once written is written again.
const LARGEST_PACKET: &str = "--max-allowed-packet=1073741824";

/// Replays the plan in a data folder that holds its base; answers where it stopped. `work` is a private folder of ours.
pub(super) async fn replay(
    archive: &DatabaseArchive,
    plan: &Plan,
    data: &Path,
    work: &Path,
    programs: Option<&Path>,
    given_up: &CancellationToken,
) -> Result<Position, Failed> {
    let mut copy = MariadbCopy::prepare(data, work, programs, log_name(archive))?;
    let replaying = async {
        let mut log = copy.log()?;
        log.fetch(archive, plan).await?;
        copy.start(&settings(archive)).await?;
        Ok::<_, Failed>(copy.go_to(&log, plan).await?)
    };
    let replayed = tokio::select! {
        replayed = replaying => replayed,
        () = given_up.cancelled() => Err(RecoveryError::Ending.into()),
    };
    match replayed {
        Ok(stopped_at) => copy.end().await.map(|()| stopped_at).map_err(Failed::from),
        Err(failed) => {
            // Nobody can let go of the volume before it is gone.
            copy.kill().await;
            Err(failed)
        }
    }
}

/// How the files of its binary log are called.
pub(super) fn log_name(archive: &DatabaseArchive) -> &str {
    archive.fact("log-name").unwrap_or("mysql-bin")
}

/// What has to be as it was in the server that wrote the files.
pub(super) fn settings(archive: &DatabaseArchive) -> Vec<String> {
    let settings = archive.facts().filter(|(name, _)| server::SETTINGS.contains(name));
    settings.map(|(name, value)| format!("--{name}={value}")).collect()
}

/// Where distributions put the programs.
fn places(told: Option<&Path>) -> Vec<PathBuf> {
    let usual = ["/usr/sbin", "/usr/bin", "/usr/libexec", "/usr/local/mysql/bin", "/usr/local/bin"];
    told.map_or_else(|| usual.iter().map(PathBuf::from).collect(), |folder| vec![folder.to_owned()])
}
