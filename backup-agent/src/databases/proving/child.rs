//! A restore test, carried out by this very program as `strongroom db test`, and noted in the journal.
//!
//! The agent does not restore: it starts the part of the program that does, with the lowest priority, and tells it by the
//! configuration file what it needs. What it answers is written to the journal here, so that in a repository for one
//! writer there is still only one.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use jiff::Timestamp;
use rustix::process::{Pid, Signal, kill_process};
use serde::Deserialize;
use strongroom_archive::newest_log;
use strongroom_database::Position;
use strongroom_model::{Failure as _, LogId, RecoveryPointId, chain};
use strongroom_repository::record::{DatabaseTested, TestFailure};
use strongroom_settings::{RepositoryArgs, RestoreTestConfig};
use tokio::io::AsyncReadExt as _;
use tokio::process::{Child, Command};
use tokio_util::sync::CancellationToken;

use super::super::Database;
use super::Aim;
use crate::run::Agent;

/// The answer is a page of JSON.
const MOST_ANSWER_BYTES: u64 = 1 << 20;

/// A test ends itself at its time limit; one that does not even do that is ended after this.
const OVERTIME: Duration = Duration::from_mins(10);

/// How long a test that is told to stop may clear away.
const CLEARING: Duration = Duration::from_secs(90);

/// The exit code of what may work later: docs/exit-codes.md.
const TRY_AGAIN: i32 = 5;

/// How restore tests are started.
#[derive(Debug, Clone)]
pub struct Prover {
    program: PathBuf,
    repository: Vec<OsString>,
}

/// What `db test` answers, as far as the journal notes it: docs/json-output.md.
#[derive(Debug, Deserialize)]
struct Answer {
    log: LogId,
    point: Option<RecoveryPointId>,
    wanted_at: Option<Timestamp>,
    cut: Option<String>,
    last_kept: Option<Kept>,
    proven: bool,
    rto_ms: Option<u64>,
    steps: BTreeMap<String, u64>,
    checks: Vec<String>,
    failure: Option<Told>,
}

#[derive(Debug, Deserialize)]
struct Kept {
    at: Timestamp,
}

/// A failure as it is told in JSON.
#[derive(Debug, Deserialize)]
struct Told {
    code: String,
    message: String,
}

/// How a test ended.
#[derive(Debug)]
enum Ended {
    /// It says something of the database.
    Noted(Box<DatabaseTested>),
    /// It could not be carried out for now.
    NotNow(String),
}

impl Prover {
    /// For the repository that `args` name. `None`: this program does not know where it lies.
    #[must_use]
    pub fn new(args: &RepositoryArgs) -> Option<Self> {
        let mut repository = Vec::new();
        let mut say = |flag: &str, value: Option<&Path>| {
            if let Some(value) = value {
                repository.extend([flag.into(), value.as_os_str().to_owned()]);
            }
        };
        say("--config", args.config.as_deref());
        say("--repository", args.repository.as_deref().map(Path::new));
        // The paths of files with secrets, never secrets.
        say("--key-file", args.key_file.as_deref());
        say("--passphrase-file", args.passphrase_file.as_deref());
        Some(Self { program: std::env::current_exe().ok()?, repository })
    }

    /// Carries a test out and notes what came of it. What fails is logged.
    pub(crate) async fn prove(
        &self,
        agent: &Agent,
        database: &Database,
        rules: &RestoreTestConfig,
        aim: Aim,
        cancel: &CancellationToken,
    ) {
        let name = &database.name;
        tracing::info!(database = name, ?aim, "testing a restore");
        let ended = match self.start(database, aim) {
            Ok(child) => self.follow(child, agent, database, rules, cancel).await,
            Err(error) => Ended::NotNow(format!("the program could not be started: {}", chain(&error))),
        };
        let tested = match ended {
            Ended::Noted(tested) => tested,
            Ended::NotNow(why) => {
                tracing::warn!(database = name, why, "a restore was not tested; it is tried again");
                return;
            }
        };
        match &tested.failure {
            None => tracing::info!(
                database = name, rto_ms = tested.rto_ms, wanted_at = ?tested.wanted_at, "a restore is proven"
            ),
            Some(failure) => tracing::error!(
                database = name, code = failure.code, error = failure.message, wanted_at = ?tested.wanted_at,
                "a restore is NOT PROVEN"
            ),
        }
        if let Err(error) = agent.repository.note_database_tested(*tested).await {
            let (code, advice) = (error.code(), error.advice());
            tracing::error!(database = name, code, error = chain(&error), advice, "the test is not noted");
        }
    }

    fn start(&self, database: &Database, aim: Aim) -> std::io::Result<Child> {
        // Whoever waits for the disk or the processor comes before a test.
        let polite: &[&str] =
            match (Path::new("/usr/bin/nice").exists(), Path::new("/usr/bin/ionice").exists()) {
                (true, true) => &["/usr/bin/nice", "-n", "19", "/usr/bin/ionice", "-c", "3"],
                (true, false) => &["/usr/bin/nice", "-n", "19"],
                _ => &[],
            };
        let mut line: Vec<OsString> = polite.iter().map(OsString::from).collect();
        line.push(self.program.clone().into());
        line.extend(["db", "test", "--output", "json", "--no-record", "--database"].map(OsString::from));
        line.push(database.name.clone().into());
        line.extend(self.repository.iter().cloned());
        line.extend(match aim {
            Aim::Window => Vec::new(),
            Aim::NewestBase => vec!["--newest-base".into()],
            Aim::At(at) => vec!["--at".into(), at.to_string().into()],
            Aim::Latest => vec!["--latest".into()],
        });
        line.extend(["--".into(), database.volume.as_str().into()]);
        let mut command = Command::new(line.remove(0));
        command.args(line).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        command.env_remove("NOTIFY_SOCKET").env_remove("WATCHDOG_USEC");
        command.spawn()
    }

    async fn follow(
        &self,
        mut child: Child,
        agent: &Agent,
        database: &Database,
        rules: &RestoreTestConfig,
        cancel: &CancellationToken,
    ) -> Ended {
        let mut said = Vec::new();
        let answering = async {
            if let Some(out) = child.stdout.take() {
                // What cannot be read is as good as no answer.
                let _ = out.take(MOST_ANSWER_BYTES).read_to_end(&mut said).await;
            }
            child.wait().await
        };
        let limit = rules.time_limit.get().saturating_add(OVERTIME);
        let status = tokio::select! {
            status = answering => status,
            () = tokio::time::sleep(limit) => {
                end(&mut child).await;
                let message = format!("it was not done after {} seconds, and was ended", limit.as_secs());
                return failed(agent, database, "database.test-slow", message);
            }
            () = cancel.cancelled() => {
                end(&mut child).await;
                return Ended::NotNow("the agent stops".to_owned());
            }
        };
        let Ok(status) = status else { return Ended::NotNow("nobody knows how it ended".to_owned()) };
        if let Some(answer) = json::<Answer>(&said, "result") {
            return Ended::Noted(Box::new(answer.into()));
        }
        match (json::<Told>(&said, "error"), status.code()) {
            (told, Some(TRY_AGAIN)) => Ended::NotNow(told.map_or_else(String::new, |told| told.message)),
            (Some(told), _) => {
                let newest =
                    newest_log(&agent.repository.known_fold(), &database.name).map(|log| log.opened.log);
                newest.map_or_else(
                    || Ended::NotNow(told.message.clone()),
                    |log| Ended::Noted(Box::new(unproven(log, &told.code, told.message.clone()))),
                )
            }
            (None, _) => failed(
                agent,
                database,
                "database.test-ended",
                format!("it ended without an answer: {status}"),
            ),
        }
    }
}

/// The object of this type, of all that were said.
fn json<T: serde::de::DeserializeOwned>(said: &[u8], wanted: &str) -> Option<T> {
    let objects = said.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice(line).ok());
    let mut of_type = objects.filter(|object: &serde_json::Value| object["type"] == wanted);
    serde_json::from_value(of_type.next_back()?).ok()
}

impl From<Answer> for DatabaseTested {
    fn from(answer: Answer) -> Self {
        let cut = answer.cut.and_then(|text| text.parse::<Position>().ok());
        Self {
            log: answer.log,
            point: answer.point,
            wanted_at: answer.wanted_at,
            cut: cut.map(Position::number),
            last_kept_at: answer.last_kept.map(|kept| kept.at),
            passed: answer.proven,
            rto_ms: answer.rto_ms,
            steps: answer.steps,
            checks: answer.checks,
            failure: answer.failure.map(|told| TestFailure { code: told.code, message: told.message }),
        }
    }
}

fn failed(agent: &Agent, database: &Database, code: &str, message: String) -> Ended {
    match newest_log(&agent.repository.known_fold(), &database.name) {
        Some(log) => Ended::Noted(Box::new(unproven(log.opened.log, code, message))),
        None => Ended::NotNow(message),
    }
}

fn unproven(log: LogId, code: &str, message: String) -> DatabaseTested {
    DatabaseTested {
        log,
        point: None,
        wanted_at: None,
        cut: None,
        last_kept_at: None,
        passed: false,
        rto_ms: None,
        steps: BTreeMap::new(),
        checks: Vec::new(),
        failure: Some(TestFailure { code: code.to_owned(), message }),
    }
}

/// Tells a test to stop, and waits until it has cleared away.
async fn end(child: &mut Child) {
    let id = child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
    if let Some(id) = id {
        let _ = kill_process(id, Signal::TERM);
    }
    if tokio::time::timeout(CLEARING, child.wait()).await.is_err() {
        let _ = child.kill().await;
    }
}
