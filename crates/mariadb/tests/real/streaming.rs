//! The binary log, as it is received.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use strongroom_database::mariadb::{Indexer, file, offset, place};
use strongroom_database::{Entry, Index, LineageId, Position};
use strongroom_log_spool::{Progress, Spool};
use strongroom_mariadb::receiver::{Last, Receiver, Trouble};
use strongroom_mariadb::stream::{Anchor, LogStream, Piece};
use strongroom_mariadb::{Connection, MariadbError, Target, TlsMode};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::server::{PASSWORD, Server};

/// The bytes of each file.
type Files = BTreeMap<u32, Vec<u8>>;

const MINE: u32 = 4_000_000_001;

async fn stream(server: &Server, from: Position, anchor: Option<Anchor>) -> LogStream {
    let connection = Connection::open(&server.target()).await.expect("a connection");
    connection.stream("mysql-bin", from, anchor, MINE, "strongroom").await.expect("a stream")
}

/// Reads until `end` is there.
async fn until(stream: &mut LogStream, files: &mut Files, end: Position) -> Result<(), MariadbError> {
    let mut at = Position::START;
    while at < end {
        let next = tokio::time::timeout(Duration::from_secs(60), stream.next()).await;
        if let Piece::Log { start, bytes } = next.expect("the server says nothing")? {
            let file = files.entry(file(start)).or_default();
            assert_eq!(file.len(), offset(start) as usize, "at {start}");
            file.extend_from_slice(&bytes);
            at = start.plus(bytes.len() as u64);
        }
    }
    Ok(())
}

async fn end(server: &Server) -> Position {
    let mut connection = Connection::open(&server.target()).await.expect("a connection");
    connection.log_end().await.expect("the end of the log").end
}

/// The file as the server has it; while it is written to, it is marked so.
fn content(server: &Server, number: u32) -> Vec<u8> {
    let mut content =
        std::fs::read(server.data().join(format!("mysql-bin.{number:06}"))).expect("a file of the log");
    content[4 + 17] &= !1;
    content
}

#[tokio::test]
async fn what_is_received_is_byte_by_byte_what_the_server_wrote_and_is_understood() {
    let Some(server) = Server::start(&[]) else { return };
    let asked = Connection::open(&server.target()).await.unwrap().identify().await.unwrap();
    assert_eq!((asked.id, asked.log_name.as_str(), asked.is_durable), (7, "mysql-bin", false));
    server.sql("create database shop; create table shop.t (id int primary key auto_increment, a varchar(300), b text, c decimal(20,5), d datetime(3), e enum('x','y'), f bit(11), g timestamp null, h time(2), i blob, j char(200), k set('a','b','c'), l double, m date, n year, o float, p json) engine=innodb; create table shop.my (a int) engine=myisam");
    server.sql("set binlog_format=row; use shop; insert into t (a,b,c,d,e,f,g,h,i,j,k,l,m,n,o,p) values ('a','bbb',1.5,now(3),'x',b'101',now(),'10:00:00.12','xx','j','a,b',1.5,'2026-01-01',2026,1.5,'{}'), ('b',null,null,null,null,null,null,null,null,null,null,null,null,null,null,null); update t set a = repeat('z', 290)");
    server.sql("set binlog_format=row; use shop; begin; delete from t where id = 1; insert into my values (1), (2); insert into t (a) values ('1'), ('2'), ('3'); commit; flush binary logs");
    server.sql("set binlog_format=statement; use shop; insert into t (a) values ('a statement'); flush binary logs; truncate t; drop table t");
    let mut files = Files::new();
    let first = place(1, 0);
    let mut streaming = stream(&server, first, None).await;
    until(&mut streaming, &mut files, end(&server).await).await.unwrap();
    // One that is longer than a packet, and one more while we listen.
    server.sql("set global max_allowed_packet = 64 * 1024 * 1024");
    server.sql("create table shop.big (a longblob); set binlog_format=row; insert into shop.big select repeat('x', 20 * 1024 * 1024)");
    server.sql("set binlog_format=row; delete from shop.big");
    until(&mut streaming, &mut files, end(&server).await).await.unwrap();
    assert_eq!(files.keys().copied().collect::<Vec<_>>(), [1, 2, 3]);
    for (number, bytes) in &files {
        assert!(*bytes == content(&server, *number), "file {number}");
    }

    let mut indexer = Indexer::new(first, LineageId(1));
    for (number, bytes) in &files {
        for (part, piece) in bytes.chunks(1000).enumerate() {
            indexer.push(place(*number, u32::try_from(part * 1000).unwrap()), piece).unwrap();
        }
    }
    let indexed = indexer.cut();
    assert_eq!(indexed.whole_to, end(&server).await);
    let told: Vec<String> = Index::read(&indexed.index)
        .unwrap()
        .entries
        .iter()
        .map(|entry| match entry {
            Entry::Commit(commit) => format!("{}: {}", commit.transaction, commit.changes),
            other => panic!("{other:?}"),
        })
        .collect();
    let state: Vec<String> = server.sql("select @@gtid_binlog_state").split(',').map(str::to_owned).collect();
    assert!(told.last().unwrap().starts_with(&format!("{}:", state[0])), "{told:?}, {state:?}");
    let what: Vec<&str> = told.iter().skip(2).map(|one| one.split_once(": ").unwrap().1).collect();
    assert_eq!(
        what,
        [
            "create database",
            "create",
            "create",
            "2 rows inserted",
            "2 rows updated",
            "2 rows inserted",
            "3 rows inserted, 1 rows deleted",
            "no rows, perhaps more",
            "truncate or rewrite",
            "drop",
            "create",
            "no rows, perhaps more",
            "no rows, perhaps more",
        ]
    );
}

/// Receives into a spool until the server's log is there, as an agent does that was killed before and knows `last`.
async fn receive(
    server: &Server,
    spool: &Arc<Spool>,
    from: Position,
    last: Option<Last>,
) -> Result<(), Trouble> {
    let mut asking = Connection::open(&server.target()).await?;
    let known = asking.identify().await?;
    let wanted = asking.log_end().await?.end;
    let receiver = Receiver {
        target: server.target(),
        replica: MINE,
        whole_to: last.as_ref().map_or(from, |last| last.start),
        last,
        from,
        committed_before: None,
        spool: Arc::clone(spool),
        budget_bytes: 1 << 30,
    };
    let (progress, mut seen) = watch::channel(Progress::default());
    let cancel = CancellationToken::new();
    let reached = async {
        let all = |progress: &Progress| progress.flushed >= wanted && progress.current_at.is_some();
        let waiting = seen.wait_for(all);
        tokio::time::timeout(Duration::from_secs(60), waiting).await.expect("it comes").expect("it runs");
        cancel.cancel();
    };
    let received = receiver.receive(asking, &known, &progress, &cancel);
    tokio::pin!(received);
    tokio::select! {
        biased;
        ended = &mut received => ended,
        () = reached => received.await,
    }
}

fn in_spool(spool: &Spool, from: Position) -> Files {
    let (mut files, mut at) = (Files::new(), from);
    while let Some(piece) = spool.read(at, 1 << 20).expect("the spool") {
        let file = files.entry(file(piece.start)).or_default();
        assert_eq!(file.len(), offset(piece.start) as usize);
        at = piece.start.plus(piece.bytes.len() as u64);
        file.extend(piece.bytes);
    }
    files
}

/// The last transaction of the log.
fn last(files: &Files) -> Last {
    let first = files.keys().next().copied().expect("a file");
    let mut indexer = Indexer::new(place(first, 0), LineageId(1));
    for (number, bytes) in files {
        indexer.push(place(*number, 0), bytes).expect("it is understood");
    }
    let last = indexer.cut().commits.expect("commits").last;
    Last { start: last.start, transaction: last.transaction.to_string(), at: last.at }
}

#[tokio::test]
async fn what_was_received_goes_on_through_kills_and_another_history_is_told_from_it() {
    let Some(mut server) = Server::start(&[]) else { return };
    let folder = tempfile::tempdir().unwrap();
    server.sql("create database shop; create table shop.t (id int primary key auto_increment, a varchar(300)) engine=innodb");
    let from = place(1, 0);
    let mut known = None;
    for life in 0..3 {
        server.sql("insert into shop.t (a) values ('one'), ('two')");
        // Opened anew, as after a kill of ours.
        let spool = Arc::new(Spool::open(folder.path()).unwrap());
        let at = spool.range().map_or(from, |(_, end)| end);
        receive(&server, &spool, at, known.take()).await.unwrap();
        let files = in_spool(&spool, from);
        for (number, bytes) in &files {
            assert!(*bytes == content(&server, *number), "life {life}, file {number}");
        }
        known = Some(last(&files));
        server.kill();
        server.start_again();
    }
    let spool = Arc::new(Spool::open(folder.path()).unwrap());
    let at = spool.range().unwrap().1;
    // The same names of files, the same names of transactions, and longer files; but another history.
    server.sql("reset master");
    for _ in 0..5 {
        server.sql("insert into shop.t (a) values ('one'), ('two'); insert into shop.t (a) select a from shop.t; flush binary logs");
    }
    let received = receive(&server, &spool, at, known.clone()).await;
    let is_gap = matches!(&received, Err(Trouble::Server(error)) if error.is_gap());
    assert!(is_gap, "{received:?}");
    assert_eq!(spool.range().unwrap().1, at, "nothing of it was stored");
    // Files that are needed are gone.
    let number = file(end(&server).await);
    server.sql(&format!("purge binary logs to 'mysql-bin.{number:06}'"));
    let received = receive(&server, &spool, at, known).await;
    assert!(matches!(received, Err(Trouble::Server(MariadbError::Gap { .. }))), "{received:?}");
}

#[tokio::test]
async fn whoever_may_not_come_in_is_told_why_and_no_password_is_shown() {
    let Some(server) = Server::start(&[]) else { return };
    let wrong = Target { user: "nobody".into(), ..server.target() };
    let error = Connection::open(&wrong).await.unwrap_err();
    assert!(matches!(error, MariadbError::NotLetIn { .. }), "{error:?}");
    assert!(!format!("{error:?} {error}").contains(PASSWORD));
    let encrypted = Target { tls: TlsMode::Require, ..server.target() };
    let error = Connection::open(&encrypted).await.unwrap_err();
    assert!(matches!(error, MariadbError::NotEncrypted { .. }), "this server has no certificate: {error:?}");
    let by_socket = Target { host: server.folder().display().to_string(), ..server.target() };
    let mut connection = Connection::open(&by_socket).await.unwrap();
    let refused = connection.ask("what it may not", "SELECT * FROM mysql.global_priv").await.unwrap_err();
    assert!(matches!(refused, MariadbError::Refused { number: 1142, .. }), "{refused:?}");
    // The connection goes on behind a refusal.
    assert_eq!(connection.ask_row("one", "SELECT 1, 'two'").await.unwrap(), ["1", "two"]);
}
