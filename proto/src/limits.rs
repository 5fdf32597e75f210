//! The limits of CSI for strings and maps, kept as a request comes in.
//!
//! The standard allows 128 bytes for a string, 256 for the name of a node, 4 KiB for a map, keys and values together, and
//! for mount flags; a path may be as long as the kernel allows. The fields are found in the descriptors when this crate
//! is built, so a handler cannot forget one. What is too long is refused before it is turned into a message: no handler
//! sees it, and no log.

use std::marker::PhantomData;

use prost::Message;
use prost::bytes::Buf as _;
use strongroom_model::{Failure, Remedy};
use tonic::codec::{BufferSettings, Codec, DecodeBuf, Decoder};
use tonic::{Code, Status};
use tonic_prost::{ProstCodec, ProstEncoder};

/// What a field may hold.
#[derive(Debug, Clone, Copy)]
enum Kind {
    /// A string of at most so many bytes, or a list of such.
    Text(usize),
    /// A list of strings with at most so many bytes together.
    Texts(usize),
    /// A map of strings with at most so many bytes, keys and values together.
    Map(usize),
    /// A message with limits of its own.
    Part(&'static str),
}

/// A message by its name without its package, and its fields that have limits.
type Fields = (&'static str, &'static [(u64, &'static str, Kind)]);

/// Tells which limits hold for what comes in as this type; `None`: no limits but those of the transport.
pub trait Limits {
    /// The message in the list of limits.
    const MESSAGE: Option<&'static str>;
}

include!(concat!(env!("OUT_DIR"), "/limits.rs"));

/// A field is longer than CSI allows.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field} has {bytes} bytes; CSI allows {limit}")]
struct TooLong {
    field: &'static str,
    bytes: usize,
    limit: usize,
}

impl Failure for TooLong {
    fn code(&self) -> &'static str {
        "request.too-long"
    }

    fn remedy(&self) -> Remedy {
        Remedy::FixRequest
    }

    fn advice(&self) -> String {
        "make it shorter".into()
    }
}

/// Looks through a message as it is on the wire. What is no message is left to whoever decodes it.
fn check(message: &str, bytes: &[u8]) -> Result<(), TooLong> {
    let Ok(at) = LIMITS.binary_search_by_key(&message, |(name, _)| name) else { return Ok(()) };
    let fields = LIMITS[at].1;
    let mut sums = vec![0; fields.len()];
    for (number, content) in pieces(bytes) {
        let Some(at) = fields.iter().position(|(known, ..)| *known == number) else { continue };
        let (_, field, kind) = fields[at];
        let (bytes, limit) = match kind {
            Kind::Part(part) => {
                check(part, content)?;
                continue;
            }
            Kind::Text(limit) => (content.len(), limit),
            Kind::Texts(limit) => {
                sums[at] += content.len();
                (sums[at], limit)
            }
            Kind::Map(limit) => {
                sums[at] += pieces(content).map(|(_, text)| text.len()).sum::<usize>();
                (sums[at], limit)
            }
        };
        if bytes > limit {
            return Err(TooLong { field, bytes, limit });
        }
    }
    Ok(())
}

/// The pieces of a message that have a length, by the number of their field, until it makes no sense any more.
fn pieces(mut bytes: &[u8]) -> impl Iterator<Item = (u64, &[u8])> {
    std::iter::from_fn(move || {
        loop {
            let key = varint(&mut bytes)?;
            let skipped = match key & 7 {
                0 => {
                    varint(&mut bytes)?;
                    0
                }
                1 => 8,
                5 => 4,
                2 => {
                    let length = usize::try_from(varint(&mut bytes)?).ok()?;
                    let content = bytes.get(..length)?;
                    bytes = &bytes[length..];
                    return Some((key >> 3, content));
                }
                _ => return None,
            };
            bytes = bytes.get(skipped..)?;
        }
    })
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (first, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(first & 0x7f) << shift;
        if first & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

/// Protobuf, with the limits kept.
#[derive(Debug)]
pub struct LimitedCodec<T, U>(PhantomData<(T, U)>);

impl<T, U> Default for LimitedCodec<T, U> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<T, U> Codec for LimitedCodec<T, U>
where
    T: Message + Send + 'static,
    U: Message + Limits + Default + Send + 'static,
{
    type Encode = T;
    type Decode = U;
    type Encoder = ProstEncoder<T>;
    type Decoder = LimitedDecoder<U>;

    fn encoder(&mut self) -> Self::Encoder {
        ProstCodec::<T, U>::raw_encoder(BufferSettings::default())
    }

    fn decoder(&mut self) -> Self::Decoder {
        LimitedDecoder(PhantomData)
    }
}

/// Reads messages that keep to the limits.
#[derive(Debug)]
pub struct LimitedDecoder<U>(PhantomData<U>);

impl<U: Message + Limits + Default> Decoder for LimitedDecoder<U> {
    type Item = U;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<U>, Status> {
        let bytes = buffer.copy_to_bytes(buffer.remaining());
        if let Some(message) = U::MESSAGE {
            check(message, &bytes).map_err(|long| crate::status(Code::InvalidArgument, &long))?;
        }
        // As prost's own codec answers it.
        U::decode(bytes).map(Some).map_err(|cause| Status::internal(cause.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::csi;

    fn over<R: Message + Limits>(request: &R) -> Option<TooLong> {
        check(R::MESSAGE.unwrap(), &request.encode_to_vec()).err()
    }

    #[test]
    fn strings_end_at_128_bytes_wherever_they_are() {
        let mut request = csi::CreateVolumeRequest { name: "x".repeat(128), ..Default::default() };
        assert_eq!(over(&request), None);
        request.name.push('x');
        assert_eq!(over(&request), Some(TooLong { field: "name", bytes: 129, limit: 128 }));
        let source = csi::volume_content_source::SnapshotSource { snapshot_id: "x".repeat(129) };
        let request = csi::CreateVolumeRequest {
            volume_content_source: Some(csi::VolumeContentSource {
                r#type: Some(csi::volume_content_source::Type::Snapshot(source)),
            }),
            ..Default::default()
        };
        assert_eq!(over(&request).unwrap().field, "snapshot_id");
        let request = csi::ControllerPublishVolumeRequest { node_id: "x".repeat(256), ..Default::default() };
        assert_eq!(over(&request), None);
    }

    #[test]
    fn maps_end_at_4_kib_keys_and_values_together() {
        let entries =
            |bytes: usize| [("k".repeat(6), "v".repeat(bytes - 6)), ("a".into(), "b".into())].into();
        let request = |bytes| csi::DeleteVolumeRequest { secrets: entries(bytes), ..Default::default() };
        assert_eq!(over(&request(4094)), None);
        assert_eq!(over(&request(4095)), Some(TooLong { field: "secrets", bytes: 4097, limit: 4096 }));
    }

    #[test]
    fn what_is_no_message_is_left_to_the_decoder() {
        for bytes in [&[0xff; 64][..], &[0x0a, 0xff, 0xff, 0xff, 0xff, 0x0f], &[0x0a], &[]] {
            assert_eq!(check("CreateVolumeRequest", bytes), Ok(()));
        }
    }
}
