//! Real writers in processes of their own, with checkpoints of their own, killed at any moment.

use std::os::unix::fs::FileExt as _;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use strongroom_database::{Commit, Index, LineageId};

use super::*;
use crate::{Reader, Rebuild};

const START: Position = Position::new(1 << 40);

/// The database that a process started by a test writes to.
const DATABASE: &str = "STRONGROOM_TEST_SQLITE";

/// One row a commit, in one transaction with much else.
#[test]
#[ignore = "the other tests start it as a process"]
fn writes_commits_until_it_is_killed() {
    let Some(path) = std::env::var_os(DATABASE) else { return };
    let database = Connection::open(path).unwrap();
    database.busy_timeout(Duration::from_secs(20)).unwrap();
    // A small cache: long transactions write frames before they commit, some of which are rolled back.
    database.execute_batch("PRAGMA cache_size = 10; PRAGMA wal_autocheckpoint = 50;").unwrap();
    for round in 0_u64.. {
        let mut work = String::from("BEGIN IMMEDIATE;");
        for _ in 0..[1, 3, 200][usize::try_from(round % 3).unwrap()] {
            work.push_str("INSERT OR REPLACE INTO filler VALUES (abs(random()) % 500, randomblob(900));");
        }
        if round % 7 == 3 {
            work.push_str("DELETE FROM filler WHERE id % 3 = 0;");
        }
        database.execute_batch(&work).unwrap();
        if round % 5 == 4 {
            database.execute_batch("ROLLBACK").unwrap();
            continue;
        }
        database.execute_batch("INSERT INTO ledger DEFAULT VALUES; COMMIT;").unwrap();
        std::thread::sleep(Duration::from_millis(10));
        let checkpoint = ["PASSIVE", "FULL", "RESTART", "TRUNCATE"][usize::try_from(round / 11 % 4).unwrap()];
        if round % 11 == 10 {
            database.busy_timeout(Duration::from_millis(5)).unwrap();
            let _ = database.execute_batch(&format!("PRAGMA wal_checkpoint({checkpoint})"));
            database.busy_timeout(Duration::from_secs(20)).unwrap();
        }
    }
}

struct Writer(Child);

impl Writer {
    fn start(path: &Path) -> Self {
        let mut line = Command::new(std::env::current_exe().unwrap());
        line.args(["--exact", "follower::tests::writes_commits_until_it_is_killed", "--ignored"]);
        line.env(DATABASE, path).stdout(Stdio::null()).stderr(Stdio::inherit());
        Self(line.spawn().unwrap())
    }

    fn signal(&self, name: &str) {
        let done = Command::new("kill").args([name, &self.0.id().to_string()]).status().unwrap();
        assert!(done.success());
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

struct Ground {
    folder: tempfile::TempDir,
    path: PathBuf,
    spool: Spool,
}

impl Ground {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("shop.db");
        let database = Connection::open(&path).unwrap();
        let tables = "PRAGMA journal_mode=WAL; CREATE TABLE ledger (id INTEGER PRIMARY KEY AUTOINCREMENT);
            CREATE TABLE filler (id INTEGER PRIMARY KEY, bytes BLOB);";
        database.execute_batch(tables).unwrap();
        let spool = Spool::open(&folder.path().join("spool")).unwrap();
        Self { folder, path, spool }
    }

    fn write(&self, sql: &str) {
        // In a process of its own: closing it here would drop the follower's locks.
        let done = Command::new("sqlite3").arg(&self.path).arg(".timeout 5000").arg(sql).output().unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    }

    /// What lies there, all at one moment as long as nobody writes.
    fn copy(&self, name: &str) -> PathBuf {
        let to = self.folder.path().join(name);
        for ending in ["", "-wal", "-shm"] {
            let with = |path: &Path| format!("{}{ending}", path.display());
            let _ = Command::new("cp").arg(with(&self.path)).arg(with(&to)).stderr(Stdio::null()).status();
        }
        to
    }

    fn log(&self) -> Vec<u8> {
        let (mut from, end) = self.spool.range().unwrap_or((START, START));
        let mut all = Vec::new();
        while from < end {
            let piece = self.spool.read(from, 8 << 20).unwrap().unwrap();
            from = from.plus(piece.bytes.len() as u64);
            all.extend(piece.bytes);
        }
        all
    }

    fn commits(&self) -> Vec<Commit> {
        let mut reader = Reader::new(START, LineageId(1));
        let mut at = START;
        for piece in self.log().chunks(77_777) {
            reader.push(at, piece).unwrap();
            at = at.plus(piece.len() as u64);
        }
        Index::read(&reader.cut().index).unwrap().commits()
    }
}

fn now() -> Timestamp {
    Timestamp::now()
}

fn ids(path: &Path) -> (i64, i64) {
    let database = Connection::open(path).unwrap();
    database
        .query_row("SELECT count(*), coalesce(max(id), 0) FROM ledger", [], |row| {
            Ok((row.get(0)?, row.get(1)?))
        })
        .unwrap()
}

#[test]
fn whatever_writers_and_checkpoints_do_each_target_is_the_exact_prefix_by_commit_order() {
    let ground = Ground::new();
    let mut follower = Follower::open(&ground.path).unwrap();
    follower.begin_at(START, 0).unwrap();
    let mut writers = vec![Writer::start(&ground.path), Writer::start(&ground.path)];
    let (mut bases, mut checkpoints, mut most_log) = (Vec::new(), 0, 0);
    let (mut kill_due, mut kills) = (false, 0);
    let began = Instant::now();
    for round in 0_u32.. {
        if began.elapsed() > Duration::from_secs(8)
            && bases.len() >= 4
            && follower.cursor().commits > 300
            && checkpoints > 10
            && kills > 2
        {
            break;
        }
        assert!(began.elapsed() < Duration::from_secs(100), "{checkpoints} {:?}", follower.cursor());
        follower.catch_up(&ground.spool, now()).unwrap();
        most_log = most_log.max(follower.log_bytes());
        if follower.log_bytes() > 1 << 20 {
            checkpoints += u32::from(follower.checkpoint(&ground.spool, now()).unwrap());
        }
        if round % 40 == 20 && bases.len() < 6 {
            let start = follower.cursor().position;
            writers.iter().for_each(|writer| writer.signal("-STOP"));
            let copy = ground.copy(&format!("base-{round}"));
            writers.iter().for_each(|writer| writer.signal("-CONT"));
            follower.catch_up(&ground.spool, now()).unwrap();
            bases.push((copy, start, follower.cursor().position));
        }
        if round % 50 == 33 {
            // Dropped, it is killed, in the middle of whatever it does.
            writers.remove(0);
            writers.push(Writer::start(&ground.path));
        }
        if round % 60 == 55 {
            kill_due = true;
        }
        if kill_due {
            // As an agent that is killed: what it knows is on disk.
            let end = follower.cursor().position;
            writers.iter().for_each(|writer| writer.signal("-STOP"));
            // A log file begun anew since it was last looked at, or all of which is copied and which is begun anew by the next
            // writer, proves nothing to who was not there: that is a gap, and another test.
            let shared = follower.shared().unwrap();
            let mut copied = [0; 4];
            follower.index.read_exact_at(&mut copied, 96).unwrap();
            if shared.salts == follower.cursor().salts
                && follower.cursor().frame > 0
                && u32::from_ne_bytes(copied) < shared.frames
            {
                drop(follower);
                let cursor = Cursor::resume(Path::new("/nowhere"), &ground.spool, end).unwrap();
                follower = Follower::open(&ground.path).unwrap();
                writers.iter().for_each(|writer| writer.signal("-CONT"));
                follower.go_on(cursor, &ground.spool, now()).unwrap();
                (kill_due, kills) = (false, kills + 1);
            } else {
                writers.iter().for_each(|writer| writer.signal("-CONT"));
            }
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    writers.clear();
    follower.catch_up(&ground.spool, now()).unwrap();
    // One that was killed between its last frame and telling the others of it committed all the same: whoever opens the database
    // first finds it.
    let cursor = *follower.cursor();
    drop(follower);
    let mut follower = Follower::open(&ground.path).unwrap();
    follower.go_on(cursor, &ground.spool, now()).unwrap();
    let commits = ground.commits();
    assert_eq!(commits.len() as u64, follower.cursor().commits);
    drop(follower);
    let all = ids(&ground.path);
    assert_eq!(
        all,
        (commits.len().try_into().unwrap(), all.0),
        "each commit of the writers is one of the log"
    );
    let log = ground.log();
    let mut tried = 0;
    for (number, (base, start, end)) in bases.iter().enumerate() {
        let later: Vec<&Commit> = commits.iter().filter(|commit| commit.end >= *end).collect();
        for (at, commit) in
            later.iter().enumerate().filter(|(at, _)| (at + number) % 11 == 0 || at + 1 == later.len())
        {
            let copy = ground.folder.path().join("restored");
            for ending in ["", "-wal", "-shm"] {
                let _ = std::fs::remove_file(format!("{}{ending}", copy.display()));
                let _ = std::fs::copy(
                    format!("{}{ending}", base.display()),
                    format!("{}{ending}", copy.display()),
                );
            }
            // At the commit's end, or anywhere in the first of the next: that begins behind it.
            let cut = if at % 2 == 0 { commit.end } else { commit.start.plus(1) };
            let mut rebuild = Rebuild::prepare(&copy, *start, cut).unwrap();
            let skip = usize::try_from(start.since(START)).unwrap();
            log[skip..].chunks(1 << 20).for_each(|piece| rebuild.push(piece).unwrap());
            let rebuilt = rebuild.finish().unwrap();
            let strongroom_database::TransactionId::Number(expected) = commit.transaction else { panic!() };
            let expected = i64::try_from(expected).unwrap();
            assert_eq!(ids(&copy), (expected, expected), "base {number}, {rebuilt:?}");
            tried += 1;
        }
    }
    assert!(tried > 30, "{tried} targets");
    eprintln!(
        "{tried} targets, {} commits, {checkpoints} checkpoints, {} bytes of log, the log file at most {most_log}",
        commits.len(),
        log.len()
    );
}

#[test]
fn a_checkpoint_that_nobody_saw_is_a_gap_and_what_was_only_appended_is_none() {
    let ground = Ground::new();
    let mut follower = Follower::open(&ground.path).unwrap();
    follower.begin_at(START, 0).unwrap();
    ground.write("INSERT INTO ledger DEFAULT VALUES");
    assert!(follower.catch_up(&ground.spool, now()).unwrap());
    let file = ground.folder.path().join("cursor");
    follower.cursor().write(&file).unwrap();
    let cursor = Cursor::resume(&file, &ground.spool, follower.cursor().position).unwrap();
    assert_eq!(cursor, *follower.cursor());
    assert_eq!(Cursor::resume(Path::new("/nowhere"), &ground.spool, cursor.position), Some(cursor));
    drop(follower);
    // Somebody else keeps it open, so that the log file stays.
    let other = Connection::open(&ground.path).unwrap();
    other.execute_batch("INSERT INTO ledger DEFAULT VALUES").unwrap();
    let mut follower = Follower::open(&ground.path).unwrap();
    follower.go_on(cursor, &ground.spool, now()).unwrap();
    assert_eq!(follower.cursor().commits, 2);
    let cursor = *follower.cursor();
    drop(follower);
    // All that there was had been read: the new file is the next one.
    other.execute_batch("PRAGMA wal_checkpoint(RESTART); INSERT INTO ledger DEFAULT VALUES;").unwrap();
    let mut follower = Follower::open(&ground.path).unwrap();
    follower.go_on(cursor, &ground.spool, now()).unwrap();
    assert!(follower.cursor().salts != cursor.salts && follower.cursor().commits == 3);
    let cursor = *follower.cursor();
    drop(follower);
    other.execute_batch("INSERT INTO ledger DEFAULT VALUES; PRAGMA wal_checkpoint(RESTART); INSERT INTO ledger DEFAULT VALUES;").unwrap();
    let mut follower = Follower::open(&ground.path).unwrap();
    let gone = follower.go_on(cursor, &ground.spool, now()).unwrap_err();
    assert!(gone.is_gap(), "{gone}");
    // The same file with the same salts and other frames: a power failure took the tail, and others were written.
    drop(follower);
    let mut other_frames = Cursor { frame: 1, ..cursor };
    other_frames.salts =
        Shared::parse(&std::fs::read(format!("{}-shm", ground.path.display())).unwrap()).unwrap().salts;
    let mut follower = Follower::open(&ground.path).unwrap();
    assert!(follower.go_on(other_frames, &ground.spool, now()).unwrap_err().is_gap());
}

#[test]
fn what_was_written_while_nobody_looked_and_there_was_no_log_file_before_and_after_is_a_gap() {
    let ground = Ground::new();
    let follow = |cursor: Option<Cursor>| {
        let mut follower = Follower::open(&ground.path).unwrap();
        let went = match cursor {
            Some(cursor) => follower.go_on(cursor, &ground.spool, now()),
            None => follower.begin_at(START, 0),
        };
        // Killed: it goes without a word, and the one who closes last removes the log file.
        let cursor = *follower.cursor();
        drop(follower);
        let _ = std::fs::remove_file(format!("{}-wal", ground.path.display()));
        let _ = std::fs::remove_file(format!("{}-shm", ground.path.display()));
        went.map(|()| cursor)
    };
    let begun = follow(None).unwrap();
    let file = ground.folder.path().join("cursor");
    begun.write(&file).unwrap();
    let begun = Cursor::resume(&file, &ground.spool, START).unwrap();
    let again = follow(Some(begun)).unwrap();
    assert_eq!(again, begun, "nothing was written");
    ground.write("INSERT INTO ledger DEFAULT VALUES");
    assert!(!PathBuf::from(format!("{}-wal", ground.path.display())).exists());
    assert!(follow(Some(begun)).unwrap_err().is_gap());
}

#[test]
fn a_torn_tail_of_the_log_file_is_never_taken_and_what_is_committed_over_it_is() {
    let ground = Ground::new();
    let mut follower = Follower::open(&ground.path).unwrap();
    follower.begin_at(START, 0).unwrap();
    ground.write("INSERT INTO ledger DEFAULT VALUES");
    follower.catch_up(&ground.spool, now()).unwrap();
    let log = File::options().write(true).open(format!("{}-wal", ground.path.display())).unwrap();
    log.write_all_at(&[0x5a; 6000], log.metadata().unwrap().len()).unwrap();
    assert!(!follower.catch_up(&ground.spool, now()).unwrap());
    ground.write("INSERT INTO ledger DEFAULT VALUES");
    assert!(follower.catch_up(&ground.spool, now()).unwrap());
    assert_eq!(ground.commits().len(), 2);
}

#[test]
fn the_log_file_does_not_grow_without_bound_and_a_database_without_one_is_refused() {
    let ground = Ground::new();
    let mut follower = Follower::open(&ground.path).unwrap();
    follower.begin_at(START, 0).unwrap();
    let mut most = 0;
    for round in 0..60 {
        ground.write(&format!("INSERT OR REPLACE INTO filler VALUES ({round}, randomblob(60000))"));
        follower.catch_up(&ground.spool, now()).unwrap();
        most = most.max(std::fs::metadata(format!("{}-wal", ground.path.display())).unwrap().len());
        if follower.log_bytes() > 400_000 {
            assert!(follower.checkpoint(&ground.spool, now()).unwrap());
        }
    }
    assert!(ground.log().len() > 3_600_000 && most < 800_000, "{most}");
    let plain = ground.folder.path().join("plain.db");
    Connection::open(&plain).unwrap().execute_batch("CREATE TABLE t (a)").unwrap();
    assert!(matches!(Follower::open(&plain), Err(SqliteError::NotWal { .. })));
    assert!(matches!(Follower::open(Path::new("/nowhere")), Err(SqliteError::Missing { .. })));
}
