//! `pg_dump` of some tables, from a copy that waits at its stop.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use strongroom_console::Failed;

use super::RecoveryError;
use super::interrupts::Interrupts;
use super::look::{Asking, Look, LookError};

/// Dumps to standard output, or to a file that appears when it is whole.
pub(super) async fn dump(
    look: &Look,
    interrupts: &Interrupts,
    asking: &Asking,
    tables: &[String],
    to: Option<&Path>,
) -> Result<(), Failed> {
    let mut command = look.client("pg_dump", asking)?;
    // Of a table that is not logged there is nothing to be had from a log.
    command.args(["--no-password", "--no-unlogged-table-data"]);
    for table in tables {
        command.arg("--table").arg(table);
    }
    let partial = to.map(|path| {
        let mut name = path.as_os_str().to_owned();
        name.push(".partial");
        PathBuf::from(name)
    });
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |cause| RecoveryError::Folder { path, cause }
    };
    let out = match &partial {
        Some(path) => Stdio::from(File::create(path).map_err(failed(path))?),
        None => Stdio::inherit(),
    };
    command.stdin(Stdio::null()).stdout(out).stderr(Stdio::piped());
    let running = command.spawn().map_err(|cause| LookError::Program { name: "pg_dump", cause })?;
    let pid = rustix::process::Pid::from_child(&running);
    let mut waiting = tokio::task::spawn_blocking(move || running.wait_with_output());
    let output = tokio::select! {
        output = &mut waiting => output,
        () = interrupts.given_up.cancelled() => {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
            waiting.await
        }
    };
    let output = output
        .map_err(|_| LookError::Gone)?
        .map_err(|cause| LookError::Program { name: "pg_dump", cause })?;
    if !output.status.success() {
        let _ = partial.map(fs::remove_file);
        let said = String::from_utf8_lossy(&output.stderr);
        let said = said.lines().next().unwrap_or("nothing").chars().take(400).collect();
        return Err(LookError::Failed { name: "pg_dump", said }.into());
    }
    if let (Some(partial), Some(path)) = (partial, to) {
        File::open(&partial).and_then(|file| file.sync_all()).map_err(failed(&partial))?;
        fs::rename(&partial, path).map_err(failed(path))?;
    }
    Ok(())
}
