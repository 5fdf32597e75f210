//! Running the few programs that the driver does not replace: mkfs, fsck and the growing tools.
//!
//! No shell, a fixed search path, a time limit, and no more kept of what a program says than its end.

use std::io::Read;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::core_error::CoreError;

const SEARCH_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// How much of the end of a program's messages is kept.
const KEPT_BYTES: usize = 2048;

/// How a program ended.
#[derive(Debug)]
pub(crate) struct Ended {
    /// Its exit code; `None`: by a signal.
    pub(crate) code: Option<i32>,
    /// The end of what it said.
    pub(crate) said: String,
}

/// Runs `program` on `subject` (for the messages) and waits for its end.
pub(crate) fn run(
    program: &str,
    arguments: &[&str],
    subject: &str,
    limit: Duration,
) -> Result<Ended, CoreError> {
    let failed = |report: String| CoreError::Program {
        program: program.to_owned(),
        subject: subject.to_owned(),
        report,
    };
    let mut child = Command::new(program)
        .args(arguments)
        .env_clear()
        .env("PATH", SEARCH_PATH)
        .env("LC_ALL", "C")
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|cause| failed(format!("it could not be started: {cause}")))?;
    let out = child.stdout.take().map(|pipe| thread::spawn(move || tail(pipe)));
    let err = child.stderr.take().map(|pipe| thread::spawn(move || tail(pipe)));

    let started = Instant::now();
    let status = loop {
        match child.try_wait() {
            Ok(Some(status)) => break status,
            Ok(None) if started.elapsed() < limit => {
                // Programs that are quick are asked often, those that are slow seldom.
                thread::sleep(
                    (started.elapsed() / 8).clamp(Duration::from_millis(1), Duration::from_millis(200)),
                );
            }
            Ok(None) => {
                let _ = child.kill();
                let _ = child.wait();
                return Err(failed(format!(
                    "it did not end within {} seconds and was stopped",
                    limit.as_secs()
                )));
            }
            Err(cause) => return Err(failed(format!("waiting for it: {cause}"))),
        }
    };
    let said = [out, err].into_iter().flatten().filter_map(|reader| reader.join().ok()).collect::<Vec<_>>();
    let said =
        said.iter().map(|text| text.trim()).filter(|text| !text.is_empty()).collect::<Vec<_>>().join("; ");
    Ok(Ended { code: status.code(), said: said.replace('\n', ", ") })
}

/// As [`run`], and anything but exit code 0 is an error.
pub(crate) fn run_well(
    program: &str,
    arguments: &[&str],
    subject: &str,
    limit: Duration,
) -> Result<(), CoreError> {
    let ended = run(program, arguments, subject, limit)?;
    if ended.code == Some(0) {
        return Ok(());
    }
    let how = ended.code.map_or_else(|| "ended by a signal".to_owned(), |code| format!("exit code {code}"));
    Err(CoreError::Program {
        program: program.to_owned(),
        subject: subject.to_owned(),
        report: format!("{how}: {}", ended.said),
    })
}

fn tail(mut pipe: impl Read) -> String {
    let mut kept = Vec::new();
    let mut piece = [0; 4096];
    while let Ok(read) = pipe.read(&mut piece) {
        if read == 0 {
            break;
        }
        kept.extend_from_slice(&piece[..read]);
        let excess = kept.len().saturating_sub(KEPT_BYTES);
        kept.drain(..excess);
    }
    String::from_utf8_lossy(&kept).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_end_of_what_a_program_says_is_kept() {
        let ended = run("seq", &["1", "100000"], "nothing", Duration::from_secs(60)).unwrap();
        assert_eq!(ended.code, Some(0));
        assert!(ended.said.len() <= 2 * KEPT_BYTES && ended.said.ends_with("100000"), "{}", ended.said);
    }

    #[test]
    fn a_program_that_does_not_end_is_stopped() {
        let refused = run("sleep", &["60"], "nothing", Duration::from_millis(50)).unwrap_err();
        assert!(refused.to_string().contains("did not end"), "{refused}");
        assert!(run("no-such-program", &[], "nothing", Duration::from_secs(1)).is_err());
    }
}
