//! What a driver says of changes, whole and broken off, over a real socket.

use std::pin::Pin;

use strongroom_proto::csi::snapshot_metadata_server::{SnapshotMetadata, SnapshotMetadataServer};
use tokio::net::UnixListener;
use tokio_stream::Stream;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::{Request, Response, Status};

use super::*;

/// Says the same ranges to everybody, and then breaks off if it is told to.
struct Sayer {
    ranges: Vec<(i64, i64)>,
    breaks: bool,
}

type Answer<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl SnapshotMetadata for Sayer {
    type GetMetadataAllocatedStream = Answer<csi::GetMetadataAllocatedResponse>;
    type GetMetadataDeltaStream = Answer<csi::GetMetadataDeltaResponse>;

    async fn get_metadata_allocated(
        &self,
        _: Request<csi::GetMetadataAllocatedRequest>,
    ) -> Result<Response<Self::GetMetadataAllocatedStream>, Status> {
        Err(Status::unimplemented("not here"))
    }

    async fn get_metadata_delta(
        &self,
        _: Request<csi::GetMetadataDeltaRequest>,
    ) -> Result<Response<Self::GetMetadataDeltaStream>, Status> {
        let say = |(byte_offset, size_bytes): &(i64, i64)| {
            let block_metadata =
                vec![csi::BlockMetadata { byte_offset: *byte_offset, size_bytes: *size_bytes }];
            Ok(csi::GetMetadataDeltaResponse { block_metadata, ..Default::default() })
        };
        let mut messages: Vec<_> = self.ranges.iter().map(say).collect();
        if self.breaks {
            messages.push(Err(Status::unavailable("the driver is going down")));
        }
        Ok(Response::new(Box::pin(tokio_stream::iter(messages))))
    }
}

async fn changes(ranges: Vec<(i64, i64)>, breaks: bool) -> Vec<Result<ByteRange, String>> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s");
    let listener = UnixListener::bind(&path).unwrap();
    let server = tonic::transport::Server::builder()
        .add_service(SnapshotMetadataServer::new(Sayer { ranges, breaks }))
        .serve_with_incoming(UnixListenerStream::new(listener));
    let server = tokio::spawn(server);
    let clients = Arc::new(connect(path.to_str().unwrap()).await.unwrap());
    let driver = Driver { clients, node: "n".into() };
    let (base, target) = (SnapshotId::from_bytes([1; 16]), SnapshotId::from_bytes([2; 16]));
    let changes = driver.changes(base, target).await.unwrap();
    let walk = move || changes.map(|range| range.map_err(|error| strongroom_model::chain(&*error))).collect();
    let walked = tokio::task::spawn_blocking(walk).await.unwrap();
    server.abort();
    walked
}

#[tokio::test(flavor = "multi_thread")]
async fn all_ranges_arrive_in_their_order() {
    let ranges: Vec<(i64, i64)> = (0..500).map(|number| (number * 100_000, 4096)).collect();
    let arrived: Vec<ByteRange> =
        changes(ranges.clone(), false).await.into_iter().map(Result::unwrap).collect();
    let expected: Vec<ByteRange> = ranges
        .iter()
        .map(|(start, bytes)| ByteRange::at(start.unsigned_abs(), bytes.unsigned_abs()).unwrap())
        .collect();
    assert_eq!(arrived, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_that_breaks_off_ends_with_an_error_and_not_with_an_end() {
    let arrived = changes(vec![(0, 4096)], true).await;
    assert_eq!(arrived.len(), 2);
    let text = arrived[1].clone().unwrap_err();
    assert!(
        text.starts_with("asking what changed between") && text.contains("the driver is going down"),
        "{text}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn ranges_that_make_no_sense_are_refused() {
    for wrong in [(-1, 4096), (0, 0), (4096, -5), (i64::MAX, i64::MAX)] {
        let arrived = changes(vec![wrong, (0, 1)], false).await;
        let sound = wrong == (i64::MAX, i64::MAX);
        assert_eq!(arrived[0].is_ok(), sound, "{wrong:?}");
        assert_eq!(arrived.len(), if sound { 2 } else { 1 }, "nothing after it is taken");
    }
}
