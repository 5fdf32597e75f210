//! A receiver in a process of its own, which can be killed as any other: this very program, told to do nothing else.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use strongroom_database::mariadb::Indexer;
use strongroom_database::{LineageId, Position};
use strongroom_log_spool::{Progress, Spool};
use strongroom_mariadb::receiver::{Last, Receiver, Trouble};
use strongroom_mariadb::{Connection, Target, TlsMode};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::server::Server;

const TOLD: &str = "STRONGROOM_LEDGER_RECEIVES";
const CONFIRMED: &str = "confirmed ";

pub(crate) struct Receiving {
    child: Child,
    heard: watch::Receiver<Position>,
    listening: Option<JoinHandle<()>>,
}

impl Receiving {
    /// Receives into a spool, from where it ends, or from here.
    pub(crate) fn start(server: &Server, spool: &Path, from: Position) -> Self {
        let target = server.target();
        let password = target.password_file.unwrap();
        let told = format!("{}|{}|{}|{from}", target.port, password.display(), spool.display());
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "receiving::it_receives_when_it_is_told", "--nocapture"])
            .env(TOLD, told)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        let (say, heard) = watch::channel(Position::START);
        let listening = std::thread::spawn(move || {
            for line in out.lines().map_while(Result::ok) {
                if let Some(position) = line.strip_prefix(CONFIRMED) {
                    say.send_replace(position.parse().unwrap());
                }
            }
        });
        Self { child, heard, listening: Some(listening) }
    }

    pub(crate) async fn wait_for(&mut self, end: Position) {
        let waiting = self.heard.wait_for(|heard| *heard >= end);
        tokio::time::timeout(Duration::from_secs(60), waiting).await.expect("it receives").unwrap();
    }

    /// Kills it. Answers what it had confirmed.
    pub(crate) fn kill(&mut self) -> Position {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if let Some(listening) = self.listening.take() {
            listening.join().unwrap();
        }
        *self.heard.borrow()
    }
}

impl Drop for Receiving {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Not a test: the other process.
#[tokio::test]
async fn it_receives_when_it_is_told() {
    let Ok(told) = std::env::var(TOLD) else { return };
    let told: Vec<&str> = told.split('|').collect();
    let target = Target {
        host: "127.0.0.1".into(),
        port: told[0].parse().unwrap(),
        user: "strongroom".into(),
        password_file: Some(told[1].into()),
        tls: TlsMode::Prefer,
        tls_ca: None,
        application: "strongroom".into(),
    };
    let from = told[3].parse().unwrap();
    loop {
        let ended = receive(&target, Path::new(told[2]), from).await;
        eprintln!("the receiver ended: {ended:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn receive(target: &Target, folder: &Path, begin: Position) -> Result<(), Trouble> {
    let mut asking = Connection::open(target).await?;
    let known = asking.identify().await?;
    let spool = Arc::new(Spool::open(folder).unwrap());
    let (from, last) = match spool.range() {
        Some((start, end)) => (end, last(&spool, start)),
        None => (begin, None),
    };
    let receiver = Receiver {
        target: target.clone(),
        replica: 4_000_000_001,
        whole_to: last.as_ref().map_or(begin, |last| last.start),
        last,
        from,
        committed_before: None,
        spool,
        budget_bytes: 1 << 30,
    };
    let (progress, mut seen) = watch::channel(Progress::default());
    let telling = async {
        while seen.changed().await.is_ok() {
            // Only now is it durable.
            println!("{CONFIRMED}{}", seen.borrow_and_update().flushed);
        }
    };
    let cancel = CancellationToken::new();
    tokio::select! {
        ended = receiver.receive(asking, &known, &progress, &cancel) => ended,
        () = telling => Ok(()),
    }
}

/// The last transaction in the spool.
fn last(spool: &Spool, start: Position) -> Option<Last> {
    let mut indexer = Indexer::new(start, LineageId(1));
    let mut at = start;
    while let Some(piece) = spool.read(at, 1 << 20).unwrap() {
        indexer.push(piece.start, &piece.bytes).unwrap();
        at = piece.start.plus(piece.bytes.len() as u64);
    }
    let last = indexer.cut().commits?.last;
    Some(Last { start: last.start, transaction: last.transaction.to_string(), at: last.at })
}
