//! SnapshotMetadata: which blocks a snapshot holds, and which differ between two.
//!
//! Blocks are told with the length they have, ascending, and never touch. A stream that ends without an error is
//! complete; a caller that was cut off asks again from where it stands. Memory holds a few messages, however
//! many blocks there are: the extents are read as fast as the caller takes them.

use strongroom_model::ByteRange;
use strongroom_proto::csi::snapshot_metadata_server::SnapshotMetadata;
use strongroom_proto::csi::{
    BlockMetadata, BlockMetadataType, GetMetadataAllocatedRequest, GetMetadataAllocatedResponse,
    GetMetadataDeltaRequest, GetMetadataDeltaResponse,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use super::status::RequestError;
use super::{Csi, answer, answered, door};
use crate::ExtentReader;

/// How many blocks a message tells of when the caller does not say: about 60 KiB.
const USUAL_RESULTS: usize = 4096;

/// The most that fit into a message under gRPC's usual limit of 4 MiB, with room to spare: a block takes up to 24 bytes.
const MOST_RESULTS: usize = 65_536;

/// How many messages wait for a slow caller.
const MESSAGES_AHEAD: usize = 2;

/// What both calls stream.
#[derive(Debug)]
struct Piece {
    block_metadata_type: i32,
    volume_capacity_bytes: i64,
    block_metadata: Vec<BlockMetadata>,
}

impl From<Piece> for GetMetadataAllocatedResponse {
    fn from(piece: Piece) -> Self {
        let Piece { block_metadata_type, volume_capacity_bytes, block_metadata } = piece;
        Self { block_metadata_type, volume_capacity_bytes, block_metadata }
    }
}

impl From<Piece> for GetMetadataDeltaResponse {
    fn from(piece: Piece) -> Self {
        let Piece { block_metadata_type, volume_capacity_bytes, block_metadata } = piece;
        Self { block_metadata_type, volume_capacity_bytes, block_metadata }
    }
}

fn block(range: &ByteRange) -> BlockMetadata {
    BlockMetadata { byte_offset: answer::bytes(range.start()), size_bytes: answer::bytes(range.len()) }
}

/// How many blocks a message shall tell of.
fn results(asked: i32) -> Result<usize, RequestError> {
    Ok(match door::count("max_results", asked)? {
        0 => USUAL_RESULTS,
        asked => asked.min(MOST_RESULTS),
    })
}

/// An offset behind the end is wrong; the end itself is where a caller stands who has seen everything.
fn inside(from: u64, volume_bytes: u64) -> Result<(), RequestError> {
    if from > volume_bytes {
        let reason = format!("{from} is behind the end, which is at {volume_bytes}");
        return Err(RequestError::OutOfRange { field: "starting_offset", reason });
    }
    Ok(())
}

/// Reads ahead of the caller, in a task that ends when the caller goes away.
fn stream<M: From<Piece> + Send + 'static>(
    mut reader: ExtentReader,
    results: usize,
) -> ReceiverStream<Result<M, Status>> {
    let (send, receive) = mpsc::channel(MESSAGES_AHEAD);
    tokio::spawn(async move {
        let mut first = true;
        loop {
            let found = match reader.next(results).await {
                Ok(found) => found,
                Err(error) => {
                    tracing::warn!("a list of changed blocks was cut off: {error}");
                    // A caller who went away does not need the reason.
                    let _ = send.send(Err(Status::from(error))).await;
                    return;
                }
            };
            // An empty list is told, too: it says how large the volume is.
            if found.is_empty() && !first {
                return;
            }
            let last = found.is_empty();
            first = false;
            let piece = Piece {
                block_metadata_type: BlockMetadataType::VariableLength.into(),
                volume_capacity_bytes: answer::bytes(reader.volume_bytes),
                block_metadata: found.iter().map(block).collect(),
            };
            if send.send(Ok(piece.into())).await.is_err() || last {
                return;
            }
        }
    });
    ReceiverStream::new(receive)
}

#[tonic::async_trait]
impl SnapshotMetadata for Csi {
    type GetMetadataAllocatedStream = ReceiverStream<Result<GetMetadataAllocatedResponse, Status>>;
    type GetMetadataDeltaStream = ReceiverStream<Result<GetMetadataDeltaResponse, Status>>;

    async fn get_metadata_allocated(
        &self,
        request: Request<GetMetadataAllocatedRequest>,
    ) -> Result<Response<Self::GetMetadataAllocatedStream>, Status> {
        let request = request.into_inner();
        answered("GetMetadataAllocated", &request.snapshot_id, async {
            door::required("snapshot_id", &request.snapshot_id)?;
            let results = results(request.max_results)?;
            let from = door::offset("starting_offset", request.starting_offset)?;
            let id = door::known_snapshot("snapshot_id", &request.snapshot_id)?;
            inside(from, self.volumes.snapshot(id).await?.bytes)?;
            Ok(stream(self.volumes.allocated(id, from).await?, results))
        })
        .await
    }

    async fn get_metadata_delta(
        &self,
        request: Request<GetMetadataDeltaRequest>,
    ) -> Result<Response<Self::GetMetadataDeltaStream>, Status> {
        let request = request.into_inner();
        answered("GetMetadataDelta", &request.target_snapshot_id, async {
            door::required("base_snapshot_id", &request.base_snapshot_id)?;
            door::required("target_snapshot_id", &request.target_snapshot_id)?;
            let results = results(request.max_results)?;
            let from = door::offset("starting_offset", request.starting_offset)?;
            let base = door::known_snapshot("base_snapshot_id", &request.base_snapshot_id)?;
            let target = door::known_snapshot("target_snapshot_id", &request.target_snapshot_id)?;
            let (older, newer) = (self.volumes.snapshot(base).await?, self.volumes.snapshot(target).await?);
            if older.volume != newer.volume {
                let reason = format!("{base} is of {}, {target} is of {}", older.volume, newer.volume);
                return Err(RequestError::Wrong { field: "base_snapshot_id", reason }.into());
            }
            inside(from, newer.bytes)?;
            let reader = self.volumes.changed(base, target, from).await?;
            Ok(stream(reader, results))
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_stays_below_the_usual_limit_of_grpc() {
        use prost::Message as _;
        let far = BlockMetadata { byte_offset: i64::MAX, size_bytes: i64::MAX };
        let piece = GetMetadataDeltaResponse {
            block_metadata_type: BlockMetadataType::VariableLength.into(),
            volume_capacity_bytes: i64::MAX,
            block_metadata: vec![far; MOST_RESULTS],
        };
        assert!(piece.encoded_len() < 4 << 20);
        assert_eq!(results(i32::MAX), Ok(MOST_RESULTS));
        assert_eq!(results(0), Ok(USUAL_RESULTS));
        assert!(results(-1).is_err());
    }

    #[test]
    fn the_end_of_a_volume_is_a_place_to_begin_and_what_is_behind_it_is_not() {
        assert_eq!(inside(4096, 4096), Ok(()));
        assert!(inside(4097, 4096).is_err());
    }
}
