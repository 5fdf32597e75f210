//! MariaDB brought to a transaction and not one further: by its own programs, where nobody sees it, and proved.
//!
//! ```text
//! server     the copy's server: recovers, without a network, replication, events and passwords
//! laid_out   the archived files of the binary log on disk, and which of their transactions are replayed
//! ```
//! What the copy has after its recovery is asked of it, never assumed: replay begins behind that. In the end the server is asked
//! again; what it says it committed must be what the plan says, transaction by transaction.
//!
//! Where the binary log lies in the data folder it goes on there, so that the copy knows what was committed in it. Statements that
//! were logged as text take the time of the machine's own zone, as a replica's do.

mod error;
mod laid_out;
mod server;

use std::path::{Path, PathBuf};
use std::process::Stdio;

use strongroom_archive::DatabaseArchive;
use strongroom_console::Failed;
use strongroom_database::mariadb::{GtidState, Replay, file, offset};
use strongroom_database::{Plan, Position};

pub use error::ReplayError;
use laid_out::LaidOut;
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
) -> Result<Position, Failed> {
    let log_name = archive.fact("log-name").unwrap_or("mysql-bin");
    let mut server = Server::prepare(data, work, programs, log_name)?;
    let laid_out = LaidOut::of(archive, plan, &server.folder("log")?, log_name).await?;
    let settings = archive.facts().filter(|(name, _)| server::SETTINGS.contains(name));
    server.start(settings.map(|(name, value)| format!("--{name}={value}")).collect()).await?;
    // Where the binary log is in the copy, the copy says what it has; else the position says it that was read around the cut.
    let has = if server.has_own_log() { Some(server.committed().await?) } else { None };
    let found = {
        let (laid_out, has, plan) = (laid_out.clone(), has.clone(), plan.clone());
        tokio::task::spawn_blocking(move || laid_out.scan(has, &plan))
            .await
            .map_err(|_| ReplayError::Ending)??
    };
    if has.is_none() {
        server.begin_with(&found.before).await?;
    }
    if found.transactions > 0 {
        feed(&server, &laid_out, &found).await?;
    }
    prove(&mut server, &found.after).await?;
    server.end().await?;
    Ok(found.to)
}

/// Gives the server the transactions.
async fn feed(server: &Server, laid_out: &LaidOut, replay: &Replay) -> Result<(), ReplayError> {
    let mut reading = server.program("mariadb-binlog")?;
    reading
        .args(["--no-defaults", "--loose-gtid-strict-mode=0"])
        .arg(format!("--local-load={}", server.folder("load")?.display()))
        .arg(format!("--start-position={}", offset(replay.from).max(4)))
        .arg(format!("--stop-position={}", offset(replay.to)))
        .args(laid_out.files(file(replay.from), file(replay.to)))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let failed = |name: &'static str| move |cause| ReplayError::Program { name, cause };
    let mut reading = reading.spawn().map_err(failed("mariadb-binlog"))?;
    let read: Option<Stdio> = reading.stdout.take().and_then(|out| out.try_into().ok());
    let mut writing = server.program("mariadb")?;
    writing
        .args(["--no-defaults", "--binary-mode", "--user=root", LARGEST_PACKET])
        // Accounts are written as well, for which the server has to know its own.
        .arg("--init-command=FLUSH LOCAL PRIVILEGES")
        .arg(format!("--socket={}", server.socket().display()))
        .stdin(read.unwrap_or_else(Stdio::null))
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    let writing = writing.spawn().map_err(failed("mariadb"))?;
    // Both at once: either may have more to say than a pipe holds.
    let (read, written) = tokio::join!(reading.wait_with_output(), writing.wait_with_output());
    let (read, written) = (read.map_err(failed("mariadb-binlog"))?, written.map_err(failed("mariadb"))?);
    // The writer's words first: when it gives up, the reader only says that nobody listens.
    for (name, output) in [("mariadb", written), ("mariadb-binlog", read)] {
        if !output.status.success() {
            let words = String::from_utf8_lossy(&output.stderr);
            return Err(ReplayError::Refused { name, words: words.trim().chars().take(600).collect() });
        }
    }
    Ok(())
}

async fn prove(server: &mut Server, wanted: &GtidState) -> Result<(), ReplayError> {
    let found = server.committed().await?;
    if found == *wanted {
        return Ok(());
    }
    Err(ReplayError::Unproved { wanted: wanted.to_string(), found: found.to_string() })
}

/// Where distributions put the programs.
fn places(told: Option<&Path>) -> Vec<PathBuf> {
    let usual = ["/usr/sbin", "/usr/bin", "/usr/libexec", "/usr/local/mysql/bin", "/usr/local/bin"];
    told.map_or_else(|| usual.iter().map(PathBuf::from).collect(), |folder| vec![folder.to_owned()])
}
