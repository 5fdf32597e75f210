//! What was reported is never missing, and the bytes are the server's own.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use strongroom_database::postgres::segment_name;
use strongroom_database::{LineageId, Position};
use strongroom_log_spool::{Progress, Spool};
use strongroom_model::{Clock, Entropy, World};
use strongroom_postgres::receiver::{Ended, Receiver};
use strongroom_postgres::replication::SlotName;
use strongroom_postgres::{PostgresError, ReplicationConnection};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::logging_in::target;
use crate::server::Server;

#[derive(Debug)]
struct Now;
impl Clock for Now {
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }
}
#[derive(Debug)]
struct None_;
impl Entropy for None_ {
    fn fill(&self, bytes: &mut [u8]) {
        bytes.fill(7);
    }
}

fn world() -> World {
    World { clock: Arc::new(Now), entropy: Arc::new(None_) }
}

/// One life of a receiver: goes on where the spool ends.
async fn receive(
    server: &Server,
    spool: Arc<Spool>,
    timeline: LineageId,
    progress: &watch::Sender<Progress>,
    cancel: &CancellationToken,
) -> Result<Ended, PostgresError> {
    let mut connection = ReplicationConnection::open(&target(server)).await?;
    let system = connection.identify().await?;
    let from = spool.range().map_or(system.flushed.segment_start(system.segment_bytes), |(_, end)| end);
    let slot = SlotName::new("strongroom").expect("it is there");
    let receiver = Receiver { slot, timeline, spool, budget_bytes: 1 << 30, world: world() };
    receiver.receive(connection, &system, from, progress, cancel).await
}

fn position(text: &str) -> Position {
    text.parse().expect("it is there")
}

/// All bytes of the spool equal those of the server's own files.
fn assert_equal_to_the_server(server: &Server, spool: &Spool, timeline: LineageId) -> u64 {
    let (start, end) = spool.range().expect("it is there");
    let (mut at, segment) = (start, 16 << 20);
    while at < end {
        let piece = spool.read(at, 16 << 20).expect("it is there").expect("it is there");
        let mut rest = &piece.bytes[..];
        while !rest.is_empty() {
            let inside = usize::try_from(at.number() % segment).expect("it is there");
            let take = rest.len().min(usize::try_from(segment).expect("it is there") - inside);
            let file = server.data().join("pg_wal").join(segment_name(timeline, at, segment));
            let theirs = std::fs::read(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
            assert!(theirs[inside..inside + take] == rest[..take], "{} differs at {at}", file.display());
            at = at.plus(take as u64);
            rest = &rest[take..];
        }
    }
    end.since(start)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_kills_of_receiver_and_server_nothing_that_was_reported_is_missing_and_every_byte_is_the_servers()
 {
    let Some(server) = Server::start("synchronous_commit = on\ncheckpoint_timeout = '1h'") else { return };
    server.sql("create table ledger (id bigserial primary key, filler text)");
    let folder = tempfile::tempdir().unwrap();
    let timeline = LineageId(1);
    let insert =
        "insert into ledger (filler) select repeat(md5(random()::text), 20) from generate_series(1, 300)";
    for life in 0..8_u64 {
        let spool = Arc::new(Spool::open(folder.path()).unwrap());
        let (progress, seen) = watch::channel(Progress::default());
        let cancel = CancellationToken::new();
        let receiving = async {
            // The end of a life without any good-bye: the future is dropped in the middle of whatever it does.
            let life = Duration::from_millis(150 + 130 * life);
            tokio::time::timeout(life, receive(&server, spool, timeline, &progress, &cancel)).await
        };
        let writing = tokio::task::block_in_place(|| async {
            for _ in 0..3 {
                let _ = server.try_sql(insert);
            }
        });
        let (ended, ()) = tokio::join!(receiving, writing);
        assert!(!matches!(ended, Ok(Ok(_))), "{ended:?}");
        let reported = seen.borrow().flushed;
        if life % 3 == 2 {
            server.kill();
            server.start_again();
        }
        // A write that was under way when the future was dropped may still end.
        tokio::time::sleep(Duration::from_millis(100)).await;
        let kept = Spool::open(folder.path()).unwrap().range();
        let restart =
            server.sql("select restart_lsn from pg_replication_slots where slot_name = 'strongroom'");
        if let Some((_, end)) = kept {
            assert!(end >= reported, "life {life}: reported {reported}, kept until {end}");
            assert!(position(&restart) <= end, "life {life}: the slot let go of {restart}, kept until {end}");
        }
    }
    let spool = Arc::new(Spool::open(folder.path()).unwrap());
    let (progress, mut seen) = watch::channel(Progress::default());
    let cancel = CancellationToken::new();
    let done = {
        let cancel = cancel.clone();
        let target = position(&server.sql("select pg_current_wal_flush_lsn()"));
        async move {
            seen.wait_for(|progress| progress.flushed >= target && progress.current_at.is_some())
                .await
                .unwrap();
            cancel.cancel();
            target
        }
    };
    let receiving = receive(&server, Arc::clone(&spool), timeline, &progress, &cancel);
    let all = async { tokio::join!(receiving, done) };
    let (ended, target) = tokio::time::timeout(Duration::from_secs(60), all).await.expect("it catches up");
    assert_eq!(ended.unwrap(), Ended::Cancelled);
    assert!(spool.range().unwrap().1 >= target);
    let compared = assert_equal_to_the_server(&server, &spool, timeline);
    assert!(compared > 1 << 20, "{compared} bytes were compared");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_promotion_ends_the_stream_where_the_new_timeline_begins_and_its_history_is_there() {
    let Some(primary) = Server::start("") else { return };
    primary.sql("create table t (id int)");
    let folder = tempfile::tempdir().unwrap();
    let spool = Arc::new(Spool::open(folder.path()).unwrap());
    let (progress, mut seen) = watch::channel(Progress::default());
    let cancel = CancellationToken::new();
    let before = {
        let wait = async {
            seen.wait_for(|progress| progress.current_at.is_some()).await.unwrap();
            cancel.cancel();
        };
        let receiving = receive(&primary, Arc::clone(&spool), LineageId(1), &progress, &cancel);
        tokio::join!(receiving, wait).0.unwrap()
    };
    assert_eq!(before, Ended::Cancelled);
    // Recovery without any target makes a new timeline of the same cluster.
    primary.run("pg_ctl", &["-D", primary.data().to_str().unwrap(), "-w", "-m", "fast", "stop"]);
    let signal = primary.data().join("recovery.signal");
    std::fs::write(&signal, "").unwrap();
    let owner = std::os::unix::fs::MetadataExt::uid(&std::fs::metadata(primary.data()).unwrap());
    std::os::unix::fs::chown(&signal, Some(owner), None).unwrap();
    let mut settings = std::fs::read_to_string(primary.data().join("postgresql.auto.conf")).unwrap();
    settings.push_str("\nrestore_command = 'false'\n");
    std::fs::write(primary.data().join("postgresql.auto.conf"), settings).unwrap();
    primary.start_again();
    let deadline = std::time::Instant::now() + Duration::from_secs(30);
    while primary.sql("select pg_is_in_recovery()") == "t" {
        assert!(std::time::Instant::now() < deadline);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let cancel = CancellationToken::new();
    let receiving = receive(&primary, Arc::clone(&spool), LineageId(1), &progress, &cancel);
    let ended = tokio::time::timeout(Duration::from_secs(30), receiving).await.unwrap().unwrap();
    let Ended::Timeline { next, at } = ended else { panic!("{ended:?}") };
    assert_eq!((next, spool.range().unwrap().1), (LineageId(2), at));
    let mut connection = ReplicationConnection::open(&target(&primary)).await.unwrap();
    let history = connection.timeline_history(next).await.unwrap();
    assert!(history.contains(&format!("1\t{at}")), "{history}");
    // The new timeline begins with the segment in which the old one ended.
    let system = connection.identify().await.unwrap();
    assert_eq!(system.timeline, next);
    let folder = tempfile::tempdir().unwrap();
    let spool = Arc::new(Spool::open(folder.path()).unwrap());
    let slot = SlotName::new("strongroom").unwrap();
    let receiver =
        Receiver { slot, timeline: next, spool: Arc::clone(&spool), budget_bytes: 1 << 30, world: world() };
    let (progress, mut seen) = watch::channel(Progress::default());
    let wait = async {
        seen.wait_for(|progress| progress.current_at.is_some()).await.unwrap();
        cancel.cancel();
    };
    let receiving = receiver.receive(connection, &system, at.segment_start(16 << 20), &progress, &cancel);
    tokio::join!(receiving, wait).0.unwrap();
    assert_equal_to_the_server(&primary, &spool, next);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_that_the_server_no_longer_has_is_a_gap_and_a_full_spool_leaves_the_log_at_the_server() {
    let Some(server) = Server::start("") else { return };
    server.sql("create table t (filler text)");
    server.sql("alter system set wal_keep_size = 0");
    server.sql("select pg_reload_conf()");
    let fill = || {
        for _ in 0..3 {
            server.sql("insert into t select repeat(md5(i::text), 30) from generate_series(1, 5000) i; select pg_switch_wal()");
        }
        server.sql("checkpoint");
    };
    fill();
    let folder = tempfile::tempdir().unwrap();
    let spool = Arc::new(Spool::open(folder.path()).unwrap());
    let (progress, _seen) = watch::channel(Progress::default());
    let mut connection = ReplicationConnection::open(&target(&server)).await.unwrap();
    let system = connection.identify().await.unwrap();
    let slot = SlotName::new("strongroom").unwrap();
    let mut receiver = Receiver {
        slot,
        timeline: LineageId(1),
        spool: Arc::clone(&spool),
        budget_bytes: 1 << 30,
        world: world(),
    };
    let cancel = CancellationToken::new();
    let gone =
        receiver.receive(connection, &system, Position::new(1 << 24), &progress, &cancel).await.unwrap_err();
    assert!(matches!(gone, PostgresError::Gap { .. }), "{gone:?}");

    // The slot stands. A receiver with room for little stops, and the server keeps what it did not take.
    receiver.budget_bytes = 1 << 20;
    let mut connection = ReplicationConnection::open(&target(&server)).await.unwrap();
    let system = connection.identify().await.unwrap();
    let (progress, mut seen) = watch::channel(Progress::default());
    let from = system.flushed.segment_start(16 << 20);
    let writing = async {
        seen.wait_for(|progress| progress.streaming).await.unwrap();
        tokio::task::block_in_place(fill);
        seen.wait_for(|progress| progress.is_full).await.unwrap();
        let flushed = seen.borrow().flushed;
        tokio::task::block_in_place(fill);
        let kept = position(&server.sql("select restart_lsn from pg_replication_slots"));
        assert!(kept <= flushed, "the slot keeps what was not taken");
        spool.release(flushed).unwrap();
        cancel.cancel();
        flushed
    };
    let (ended, flushed) =
        tokio::join!(receiver.receive(connection, &system, from, &progress, &cancel), writing);
    assert_eq!(ended.unwrap(), Ended::Cancelled);
    // With room again it goes on from there, without a gap.
    receiver.budget_bytes = 1 << 30;
    let mut connection = ReplicationConnection::open(&target(&server)).await.unwrap();
    let system = connection.identify().await.unwrap();
    let from = spool.range().map_or(flushed, |(_, end)| end);
    let cancel = CancellationToken::new();
    let (progress, mut seen) = watch::channel(Progress::default());
    let wait = async {
        seen.wait_for(|progress| progress.current_at.is_some()).await.unwrap();
        cancel.cancel();
    };
    let receiving = receiver.receive(connection, &system, from, &progress, &cancel);
    tokio::join!(receiving, wait).0.unwrap();
    assert!(spool.range().unwrap().1 >= system.flushed);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_comes_while_it_catches_up_is_not_called_complete_and_what_comes_behind_that_is() {
    let Some(server) = Server::start("checkpoint_timeout = '1h'\nmax_wal_size = '4GB'") else { return };
    server.sql("create table t (filler text)");
    let (from, system) = {
        let mut connection = ReplicationConnection::open(&target(&server)).await.unwrap();
        let system = connection.identify().await.unwrap();
        (system.flushed.segment_start(system.segment_bytes), system)
    };
    server.sql("select pg_create_physical_replication_slot('strongroom', true)");
    for _ in 0..4 {
        server.sql("insert into t select repeat(md5(i::text), 30) from generate_series(1, 15000) i");
    }
    let behind = position(&server.sql("select pg_current_wal_flush_lsn()"));
    let caught_up_from = Timestamp::now();
    let folder = tempfile::tempdir().unwrap();
    let spool = Arc::new(Spool::open(folder.path()).unwrap());
    let (progress, mut seen) = watch::channel(Progress::default());
    let cancel = CancellationToken::new();
    let mut connection = ReplicationConnection::open(&target(&server)).await.unwrap();
    let now = connection.identify().await.unwrap();
    assert_eq!(now.timeline, system.timeline);
    let receiver = Receiver {
        slot: SlotName::new("strongroom").unwrap(),
        timeline: LineageId(1),
        spool: Arc::clone(&spool),
        budget_bytes: 1 << 30,
        world: world(),
    };
    let watching = async {
        let early = seen.wait_for(|progress| progress.flushed > from).await.unwrap().clone();
        seen.wait_for(|progress| progress.flushed >= behind && progress.current_at.is_some()).await.unwrap();
        tokio::task::block_in_place(|| server.sql("insert into t values ('later')"));
        let end = position(&server.sql("select pg_current_wal_flush_lsn()"));
        seen.wait_for(|progress| progress.flushed >= end).await.unwrap();
        cancel.cancel();
        early
    };
    let receiving = async { receiver.receive(connection, &now, from, &progress, &cancel).await.unwrap() };
    let all = async { tokio::join!(receiving, watching) };
    let (ended, early) = tokio::time::timeout(Duration::from_secs(60), all).await.expect("it catches up");
    assert_eq!(ended, Ended::Cancelled);
    assert!(early.flushed >= behind || early.current_at.is_none(), "it is not up to date: {early:?}");
    let (mut at, end) = spool.range().unwrap();
    let (mut told, mut last) = (0, Timestamp::UNIX_EPOCH);
    while at < end {
        let piece = spool.read(at, 1 << 20).unwrap().unwrap();
        at = at.plus(piece.bytes.len() as u64);
        if at < behind {
            assert_eq!(piece.sent_at, Timestamp::UNIX_EPOCH, "up to {at} of {behind}");
            told += 1;
        }
        last = piece.sent_at;
    }
    assert!(told > 0, "it had to catch up");
    assert!(last >= caught_up_from, "{last} for what came when nothing was missing");
}
