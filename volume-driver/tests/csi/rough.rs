//! Callers that give up, talk nonsense, or say too much.

use std::io::Write as _;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use strongroom_proto::csi::{ListVolumesRequest, ProbeRequest};
use tonic::Code;

use crate::ground::{Ground, new_volume};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_that_gives_up_finds_its_volume_when_it_asks_again() {
    let Some(mut ground) = Ground::new("callers that give up").await else { return };
    for wait_ms in [0, 1, 5, 20] {
        let call = ground.clients.controller.create_volume(new_volume("db", 64));
        // Given up or not: asking again is right in both cases.
        let _ = tokio::time::timeout(Duration::from_millis(wait_ms), call).await;
    }
    let mut tries = 0;
    let volume = loop {
        match ground.clients.controller.create_volume(new_volume("db", 64)).await {
            Ok(answer) => break answer.into_inner().volume.unwrap(),
            Err(status) => assert_eq!(status.code(), Code::Aborted, "{status}"),
        }
        tries += 1;
        assert!(tries < 200, "it is never finished");
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    let listed = ground.clients.controller.list_volumes(ListVolumesRequest::default()).await.unwrap();
    let listed: Vec<_> =
        listed.into_inner().entries.into_iter().map(|entry| entry.volume.unwrap().volume_id).collect();
    assert_eq!(listed, [volume.volume_id]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nonsense_and_silence_on_the_socket_hurt_nobody_else() {
    let Some(mut ground) = Ground::new("nonsense on the socket").await else { return };
    let path = strongroom_proto::socket_path(&ground.endpoint).unwrap();
    let mut silent = Vec::new();
    for number in 0..50_u8 {
        let mut stream = UnixStream::connect(&path).unwrap();
        // The driver may hang up in the middle of it.
        let _ = stream.write_all(&[number.wrapping_mul(37); 4096]);
        silent.push(UnixStream::connect(&path).unwrap());
    }
    let mut huge = new_volume("huge", 64);
    huge.parameters.insert("label.a".into(), "x".repeat(8 << 20));
    ground.clients.controller.create_volume(huge).await.unwrap_err();
    assert_eq!(ground.clients.identity.probe(ProbeRequest {}).await.unwrap().into_inner().ready, Some(true));
    drop(silent);
}
