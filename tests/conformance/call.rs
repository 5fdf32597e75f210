//! Every call of CSI as a type: a request knows its path and its answer, so that tests can treat all calls alike.
//!
//! Whatever is refused is looked at here, once for all tests: CSI wants a message and no details.

use prost::Message;
use prost::bytes::{Buf as _, BufMut as _, Bytes};
use strongroom_proto::csi;
use tonic::client::Grpc;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::Channel;
use tonic::{Request, Status};
use tonic_prost::ProstCodec;

/// A request of CSI.
pub(crate) trait Call: Message + std::fmt::Debug + Default + Clone + 'static {
    /// Where gRPC finds it.
    const PATH: &'static str;
    /// What comes back, once or many times.
    type Answer: Message + std::fmt::Debug + Default + 'static;
}

/// The name of a call, without its service.
pub(crate) fn name_of(path: &str) -> &str {
    path.rsplit('/').next().unwrap()
}

macro_rules! calls {
    ($($service:literal: $($request:ident => $answer:ident ($name:literal)),+;)+) => {
        $($(impl Call for csi::$request {
            const PATH: &'static str = concat!("/csi.v1.", $service, "/", $name);
            type Answer = csi::$answer;
        })+)+
        /// All calls of the standard.
        pub(crate) const PATHS: &[&str] = &[$($(concat!("/csi.v1.", $service, "/", $name)),+),+];
    };
}

calls! {
    "Identity":
        GetPluginInfoRequest => GetPluginInfoResponse ("GetPluginInfo"),
        GetPluginCapabilitiesRequest => GetPluginCapabilitiesResponse ("GetPluginCapabilities"),
        ProbeRequest => ProbeResponse ("Probe");
    "Controller":
        CreateVolumeRequest => CreateVolumeResponse ("CreateVolume"),
        DeleteVolumeRequest => DeleteVolumeResponse ("DeleteVolume"),
        ControllerPublishVolumeRequest => ControllerPublishVolumeResponse ("ControllerPublishVolume"),
        ControllerUnpublishVolumeRequest => ControllerUnpublishVolumeResponse ("ControllerUnpublishVolume"),
        ValidateVolumeCapabilitiesRequest => ValidateVolumeCapabilitiesResponse ("ValidateVolumeCapabilities"),
        ListVolumesRequest => ListVolumesResponse ("ListVolumes"),
        GetCapacityRequest => GetCapacityResponse ("GetCapacity"),
        ControllerGetCapabilitiesRequest => ControllerGetCapabilitiesResponse ("ControllerGetCapabilities"),
        CreateSnapshotRequest => CreateSnapshotResponse ("CreateSnapshot"),
        DeleteSnapshotRequest => DeleteSnapshotResponse ("DeleteSnapshot"),
        ListSnapshotsRequest => ListSnapshotsResponse ("ListSnapshots"),
        GetSnapshotRequest => GetSnapshotResponse ("GetSnapshot"),
        ControllerExpandVolumeRequest => ControllerExpandVolumeResponse ("ControllerExpandVolume"),
        ControllerGetVolumeRequest => ControllerGetVolumeResponse ("ControllerGetVolume"),
        ControllerModifyVolumeRequest => ControllerModifyVolumeResponse ("ControllerModifyVolume");
    "GroupController":
        GroupControllerGetCapabilitiesRequest => GroupControllerGetCapabilitiesResponse ("GroupControllerGetCapabilities"),
        CreateVolumeGroupSnapshotRequest => CreateVolumeGroupSnapshotResponse ("CreateVolumeGroupSnapshot"),
        DeleteVolumeGroupSnapshotRequest => DeleteVolumeGroupSnapshotResponse ("DeleteVolumeGroupSnapshot"),
        GetVolumeGroupSnapshotRequest => GetVolumeGroupSnapshotResponse ("GetVolumeGroupSnapshot");
    "SnapshotMetadata":
        GetMetadataAllocatedRequest => GetMetadataAllocatedResponse ("GetMetadataAllocated"),
        GetMetadataDeltaRequest => GetMetadataDeltaResponse ("GetMetadataDelta");
    "Node":
        NodeStageVolumeRequest => NodeStageVolumeResponse ("NodeStageVolume"),
        NodeUnstageVolumeRequest => NodeUnstageVolumeResponse ("NodeUnstageVolume"),
        NodePublishVolumeRequest => NodePublishVolumeResponse ("NodePublishVolume"),
        NodeUnpublishVolumeRequest => NodeUnpublishVolumeResponse ("NodeUnpublishVolume"),
        NodeGetVolumeStatsRequest => NodeGetVolumeStatsResponse ("NodeGetVolumeStats"),
        NodeExpandVolumeRequest => NodeExpandVolumeResponse ("NodeExpandVolume"),
        NodeGetCapabilitiesRequest => NodeGetCapabilitiesResponse ("NodeGetCapabilities"),
        NodeGetInfoRequest => NodeGetInfoResponse ("NodeGetInfo");
}

/// A call of our own control service, to bring a volume into a state that CSI knows no way to.
impl Call for strongroom_proto::control::BeginRestoreRequest {
    const PATH: &'static str = "/strongroom.v1.DriverControl/BeginRestore";
    type Answer = strongroom_proto::control::BeginRestoreResponse;
}

impl Call for strongroom_proto::control::DiscardRestoreRequest {
    const PATH: &'static str = "/strongroom.v1.DriverControl/DiscardRestore";
    type Answer = strongroom_proto::control::DiscardRestoreResponse;
}

/// One call to its end. A stream is read to its end, too: the messages before an error are lost with it.
pub(crate) async fn call<R: Call>(channel: Channel, request: R) -> Result<Vec<R::Answer>, Status> {
    finish(channel, R::PATH, ProstCodec::<R, R::Answer>::default(), request).await
}

/// The same with the bytes of a message, whatever they mean.
pub(crate) async fn call_raw(channel: Channel, path: &str, message: Vec<u8>) -> Result<Vec<Bytes>, Status> {
    finish(channel, path, Raw, Bytes::from(message)).await
}

async fn finish<C>(
    channel: Channel,
    path: &str,
    codec: C,
    message: C::Encode,
) -> Result<Vec<C::Decode>, Status>
where
    C: Codec,
    C::Encode: Send + Sync + 'static,
    C::Decode: Send + Sync + 'static,
{
    let path: PathAndQuery = path.parse().expect("paths are constants");
    let mut grpc = Grpc::new(channel).max_decoding_message_size(64 << 20);
    let read = async {
        grpc.ready().await.map_err(|cause| Status::unavailable(format!("no connection: {cause}")))?;
        // A call with one answer is a stream of one.
        let mut stream =
            grpc.server_streaming(Request::new(message), path.clone(), codec).await?.into_inner();
        let mut all = Vec::new();
        while let Some(one) = stream.message().await? {
            all.push(one);
        }
        Ok::<_, Status>(all)
    };
    // Nothing that is asked for here takes a minute; who waits longer waits for ever.
    let answer = match tokio::time::timeout(std::time::Duration::from_secs(90), read).await {
        Ok(answer) => answer,
        Err(_) => panic!("{path} hangs"),
    };
    if let Err(status) = &answer {
        // A service that nobody serves is refused by the library, in no words.
        let unserved = status.code() == tonic::Code::Unimplemented;
        assert!(unserved || !status.message().is_empty(), "{path}: CSI wants a message: {status:?}");
        assert!(status.details().is_empty(), "{path}: CSI forbids details: {status:?}");
    }
    answer
}

/// Bytes as they are.
#[derive(Debug, Clone, Copy)]
struct Raw;

impl Codec for Raw {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;
    fn encoder(&mut self) -> Self {
        Self
    }
    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Raw {
    type Item = Bytes;
    type Error = Status;
    fn encode(&mut self, item: Bytes, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put(item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Bytes;
    type Error = Status;
    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        let all = buffer.remaining();
        Ok(Some(buffer.copy_to_bytes(all)))
    }
}

#[test]
fn the_calls_of_this_suite_are_those_of_the_standard() {
    let pool = prost_reflect::DescriptorPool::decode(strongroom_proto::DESCRIPTORS).unwrap();
    let mut standard: Vec<String> = pool
        .services()
        .filter(|service| service.package_name() == "csi.v1")
        .flat_map(|service| {
            let name = service.full_name().to_owned();
            service.methods().map(move |call| format!("/{name}/{}", call.name())).collect::<Vec<_>>()
        })
        .collect();
    standard.sort();
    let mut ours = PATHS.to_vec();
    ours.sort_unstable();
    assert_eq!(standard, ours);
}
