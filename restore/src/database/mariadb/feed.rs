//! What is replayed, from MariaDB's program that reads its files to the one that writes to a server.
//!
//! The one that writes is the same for as long as the server whose log it is was not started anew: temporary tables live as long as
//! its session does. Whether it has done what it was given, it is asked.

use std::path::PathBuf;
use std::process::Stdio;

use strongroom_database::mariadb::{FIRST_EVENT, Replay, file, offset};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::{Child, ChildStdin, ChildStdout};
use tokio::task::JoinHandle;

use super::{LARGEST_PACKET, LaidOutLog, ReplayError, Server};

/// The server drops the temporary tables of a session that ends, and would write that to its binary log: nobody committed it.
const LAST_WORDS: &[u8] = b"\nSET SESSION sql_log_bin = 0;\n";

/// What is told of a program's words.
const MOST_WORDS: usize = 600;

/// What is kept of them.
const KEPT_WORDS: u64 = 64 << 10;

/// Gives the server the transactions of a replay. `feed` is what was begun before.
pub(super) async fn feed(
    feed: &mut Option<Feed>,
    server: &Server,
    log: &LaidOutLog,
    replay: &Replay,
) -> Result<(), ReplayError> {
    let lives = log.lives(file(replay.from), file(replay.to))?;
    let last = lives.len().saturating_sub(1);
    for (number, files) in lives.iter().enumerate() {
        if number > 0
            && let Some(before) = feed.take()
        {
            // The next life of the server knows none of the sessions of the one before, nor their temporary tables.
            before.end().await?;
        }
        let begun = match &mut *feed {
            Some(feed) => feed,
            none => none.insert(Feed::begin(server)?),
        };
        let from = (number == 0).then(|| offset(replay.from));
        let to = (number == last).then(|| offset(replay.to));
        begun.give(server, files, from, to).await?;
    }
    Ok(())
}

/// The program that writes to the server.
#[derive(Debug)]
pub(super) struct Feed {
    writing: Child,
    to: ChildStdin,
    answers: ChildStdout,
    words: JoinHandle<Vec<u8>>,
    given: u64,
}

fn failed(name: &'static str) -> impl Fn(std::io::Error) -> ReplayError {
    move |cause| ReplayError::Program { name, cause }
}

impl Feed {
    pub(super) fn begin(server: &Server) -> Result<Self, ReplayError> {
        let mut writing = server.program("mariadb")?;
        writing
            .args(["--no-defaults", "--binary-mode", "--user=root", LARGEST_PACKET])
            .args(["--batch", "--skip-column-names", "--unbuffered"])
            // Accounts are written as well, for which the server has to know its own.
            .arg("--init-command=FLUSH LOCAL PRIVILEGES")
            .arg(format!("--socket={}", server.socket().display()))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut writing = writing.spawn().map_err(failed("mariadb"))?;
        let words = writing.stderr.take().map(|mut from| {
            tokio::spawn(async move {
                let mut words = Vec::new();
                // What cannot be heard is not told.
                let _ = (&mut from).take(KEPT_WORDS).read_to_end(&mut words).await;
                let _ = tokio::io::copy(&mut from, &mut tokio::io::sink()).await;
                words
            })
        });
        let (Some(to), Some(answers), Some(words)) = (writing.stdin.take(), writing.stdout.take(), words)
        else {
            return Err(ReplayError::Ending);
        };
        Ok(Self { writing, to, answers, words, given: 0 })
    }

    /// Gives the server the transactions of some files, in the first from this offset on and in the last up to that one.
    pub(super) async fn give(
        &mut self,
        server: &Server,
        files: &[PathBuf],
        from: Option<u32>,
        to: Option<u32>,
    ) -> Result<(), ReplayError> {
        let mut reading = server.program("mariadb-binlog")?;
        reading
            .args(["--no-defaults", "--loose-gtid-strict-mode=0"])
            .arg(format!("--local-load={}", server.folder("load")?.display()))
            .args(from.map(|offset| format!("--start-position={}", offset.max(FIRST_EVENT))))
            .args(to.map(|offset| format!("--stop-position={offset}")))
            .args(files)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut reading = reading.spawn().map_err(failed("mariadb-binlog"))?;
        let said = reading.stdout.take();
        self.given += 1;
        let mark = format!("strongroom has given {}", self.given);
        let question = format!("\nSELECT '{mark}';\n");
        let to = &mut self.to;
        let handing = async move {
            if let Some(mut said) = said {
                tokio::io::copy(&mut said, to).await?;
            }
            to.write_all(question.as_bytes()).await?;
            to.flush().await
        };
        // All at once: each may have more to say than a pipe holds. Who gives up says why itself.
        let (read, _, has_all) =
            tokio::join!(reading.wait_with_output(), handing, hear(&mut self.answers, mark.as_bytes()));
        if !has_all {
            return Err(self.refusal().await);
        }
        let read = read.map_err(failed("mariadb-binlog"))?;
        if read.status.success() {
            return Ok(());
        }
        Err(ReplayError::Refused { name: "mariadb-binlog", words: told(&read.stderr) })
    }

    /// Why it does not go on.
    async fn refusal(&mut self) -> ReplayError {
        // It closed its mouth, so it ends.
        let _ = self.writing.wait().await;
        let words = (&mut self.words).await.unwrap_or_default();
        ReplayError::Refused { name: "mariadb", words: told(&words) }
    }

    /// Ends it. What it is asked last is all that is left to do: whether it did is not asked.
    pub(super) async fn end(mut self) -> Result<(), ReplayError> {
        let _ = self.to.write_all(LAST_WORDS).await;
        drop(self.to);
        let status = self.writing.wait().await.map_err(failed("mariadb"))?;
        if status.success() {
            return Ok(());
        }
        let words = self.words.await.unwrap_or_default();
        Err(ReplayError::Refused { name: "mariadb", words: told(&words) })
    }
}

fn told(words: &[u8]) -> String {
    String::from_utf8_lossy(words).trim().chars().take(MOST_WORDS).collect()
}

/// Listens until the mark comes. False: it says nothing any more.
async fn hear(from: &mut (impl AsyncRead + Unpin), mark: &[u8]) -> bool {
    let mut buffer = vec![0; 16 << 10];
    let mut heard = Vec::new();
    loop {
        match from.read(&mut buffer).await {
            Ok(0) | Err(_) => return false,
            Ok(read) => heard.extend_from_slice(&buffer[..read]),
        }
        if heard.windows(mark.len()).any(|window| window == mark) {
            return true;
        }
        heard.drain(..heard.len().saturating_sub(mark.len()));
    }
}
