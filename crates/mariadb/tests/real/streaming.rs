//! The binary log, as it is received.

use std::collections::BTreeMap;
use std::time::Duration;

use strongroom_database::mariadb::{Indexer, file, offset, place};
use strongroom_database::{Entry, Index, LineageId, Position, Statements};
use strongroom_mariadb::stream::{Anchor, LogStream, Piece};
use strongroom_mariadb::{Connection, MariadbError};

use super::server::Server;

/// The bytes of each file.
type Files = BTreeMap<u32, Vec<u8>>;

const MINE: u32 = 4_000_000_001;

async fn stream(server: &Server, from: Position, anchor: Option<Anchor>) -> LogStream {
    let connection = Connection::open(&server.target()).await.unwrap();
    connection.stream("mysql-bin", from, anchor, MINE, "strongroom").await.unwrap()
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
    Connection::open(&server.target()).await.unwrap().log_end().await.unwrap().end
}

/// The file as the server has it; while it is written to, it is marked so.
fn content(server: &Server, number: u32) -> Vec<u8> {
    let mut content = std::fs::read(server.data().join(format!("mysql-bin.{number:06}"))).unwrap();
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
        .filter_map(|entry| match entry {
            Entry::Commit(commit) => Some(format!("{}: {}", commit.transaction, commit.changes)),
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
    assert!(Statements::DROP.words().eq(["drop"]));
}
