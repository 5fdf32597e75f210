//! The one way in which journal records and checkpoints become bytes: CBOR maps with integer keys.
//!
//! Stricter than CBOR asks: lengths are definite, keys ascend, a key that is not known is an error. So a value
//! has one encoding, and a reader that is older than the writer stops instead of guessing. An absent `Option`
//! is left out. docs/format.md lists the keys of every map; the numbers here are that list.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use minicbor::data::Type;
use minicbor::{Decoder, Encoder};
use strongroom_model::{LogId, PackId, RecoveryPointId, RunId, SnapshotId, VolumeId, VolumeName};

use crate::layout::{PackKind, PackObject};
use crate::map::MapRoot;
use crate::pack::EntryRef;

/// Why bytes are not what they should be. The caller names the object.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum CborError {
    /// Not the CBOR that was expected at this place.
    #[error("not valid CBOR: {0}")]
    Syntax(String),
    /// A field that this version does not know.
    #[error("{what} has the unknown field {key}; it was written by a newer version")]
    UnknownField {
        /// The kind of map.
        what: &'static str,
        /// The key.
        key: u32,
    },
    /// A field that must be there.
    #[error("{what} lacks the field {key}")]
    MissingField {
        /// The kind of map.
        what: &'static str,
        /// The key.
        key: u32,
    },
    /// A kind that this version does not know.
    #[error("unknown kind {kind} of {what}; it was written by a newer version")]
    UnknownKind {
        /// Kind of what.
        what: &'static str,
        /// The number.
        kind: u32,
    },
    /// A value that cannot be.
    #[error("{0}")]
    Value(String),
    /// Bytes after the end.
    #[error("{0} bytes follow the end")]
    Trailing(usize),
}

impl From<minicbor::decode::Error> for CborError {
    fn from(error: minicbor::decode::Error) -> Self {
        Self::Syntax(error.to_string())
    }
}

pub(crate) type Enc = Encoder<Vec<u8>>;
type EncError = minicbor::encode::Error<std::convert::Infallible>;

/// Writing to a `Vec` cannot fail.
pub(crate) fn sure(written: Result<&mut Enc, EncError>) {
    written.expect("writing to memory cannot fail");
}

/// Something with one stored form.
pub(crate) trait Cbor: Sized {
    fn put(&self, e: &mut Enc);
    fn take(d: &mut Decoder<'_>) -> Result<Self, CborError>;
    /// What a missing field means, if it may be missing.
    fn absent() -> Option<Self> {
        None
    }
    /// Whether the field is left out.
    fn is_absent(&self) -> bool {
        false
    }
}

/// The stored form of `value`.
pub(crate) fn to_bytes<T: Cbor>(value: &T) -> Vec<u8> {
    let mut e = Encoder::new(Vec::new());
    value.put(&mut e);
    e.into_writer()
}

/// Reads exactly one value.
pub(crate) fn from_bytes<T: Cbor>(bytes: &[u8]) -> Result<T, CborError> {
    let mut d = Decoder::new(bytes);
    let value = T::take(&mut d)?;
    match bytes.len() - d.position() {
        // CBOR can write a number in several lengths; only the shortest is ours.
        0 if to_bytes(&value) == bytes => Ok(value),
        0 => Err(CborError::Value("it is not in its one form".into())),
        more => Err(CborError::Trailing(more)),
    }
}

/// The next key of a map, which must be above the one before.
pub(crate) fn key(d: &mut Decoder<'_>, last: &mut Option<u32>) -> Result<u32, CborError> {
    let key = d.u32()?;
    if last.is_some_and(|last| key <= last) {
        return Err(CborError::Value(format!("the key {key} of a map is out of order")));
    }
    *last = Some(key);
    Ok(key)
}

/// The length of a map or an array, which must be definite.
pub(crate) fn definite(length: Option<u64>) -> Result<u64, CborError> {
    length.ok_or_else(|| CborError::Value("a length is not definite".into()))
}

/// Implements [`Cbor`] for a struct: `cbor_map!(Point { 0 => id, 1 => volume })`.
macro_rules! cbor_map {
    ($name:ident { $($key:literal => $field:ident),* $(,)? }) => {
        impl $crate::cbor::Cbor for $name {
            fn put(&self, e: &mut $crate::cbor::Enc) {
                let fields = 0 $(+ u64::from(!$crate::cbor::Cbor::is_absent(&self.$field)))*;
                $crate::cbor::sure(e.map(fields));
                $(if !$crate::cbor::Cbor::is_absent(&self.$field) {
                    $crate::cbor::sure(e.u32($key));
                    $crate::cbor::Cbor::put(&self.$field, e);
                })*
            }

            fn take(d: &mut minicbor::Decoder<'_>) -> Result<Self, $crate::cbor::CborError> {
                $(let mut $field = $crate::cbor::Cbor::absent();)*
                let mut last = None;
                for _ in 0..$crate::cbor::definite(d.map()?)? {
                    match $crate::cbor::key(d, &mut last)? {
                        $($key => $field = Some($crate::cbor::Cbor::take(d)?),)*
                        key => return Err($crate::cbor::CborError::UnknownField { what: stringify!($name), key }),
                    }
                }
                Ok(Self {
                    $($field: $field.ok_or($crate::cbor::CborError::MissingField { what: stringify!($name), key: $key })?,)*
                })
            }
        }
    };
}
pub(crate) use cbor_map;

macro_rules! cbor_id {
    ($($name:ident),*) => {$(
        impl Cbor for $name {
            fn put(&self, e: &mut Enc) {
                sure(e.bytes(self.bytes()));
            }
            fn take(d: &mut Decoder<'_>) -> Result<Self, CborError> {
                <[u8; 16]>::take(d).map(Self::from_bytes)
            }
        }
    )*};
}
cbor_id!(LogId, PackId, RecoveryPointId, RunId, SnapshotId, VolumeId);

impl<const N: usize> Cbor for [u8; N] {
    fn put(&self, e: &mut Enc) {
        sure(e.bytes(self));
    }
    fn take(d: &mut Decoder<'_>) -> Result<Self, CborError> {
        let bytes = d.bytes()?;
        bytes
            .try_into()
            .map_err(|_| CborError::Value(format!("{} bytes where {N} were expected", bytes.len())))
    }
}

impl Cbor for u64 {
    fn put(&self, e: &mut Enc) {
        sure(e.u64(*self));
    }
    fn take(d: &mut Decoder<'_>) -> Result<Self, CborError> {
        Ok(d.u64()?)
    }
}

impl Cbor for u32 {
    fn put(&self, e: &mut Enc) {
        sure(e.u32(*self));
    }
    fn take(d: &mut Decoder<'_>) -> Result<Self, CborError> {
        Ok(d.u32()?)
    }
}

impl Cbor for bool {
    fn put(&self, e: &mut Enc) {
        sure(e.bool(*self));
    }
    fn take(d: &mut Decoder<'_>) -> Result<Self, CborError> {
        Ok(d.bool()?)
    }
}

/// As many bytes as there are; the limits of what holds them bound it.
impl Cbor for bytes::Bytes {
    fn put(&self, e: &mut Enc) {
        sure(e.bytes(self));
    }
    fn take(d: &mut Decoder<'_>) -> Result<Self, CborError> {
        Ok(Self::copy_from_slice(d.bytes()?))
    }
}

impl Cbor for String {
    fn put(&self, e: &mut Enc) {
        sure(e.str(self));
    }
    fn take(d: &mut Decoder<'_>) -> Result<Self, CborError> {
        Ok(d.str()?.to_owned())
    }
}

impl Cbor for VolumeName {
    fn put(&self, e: &mut Enc) {
        sure(e.str(self.as_str()));
    }
    fn take(d: &mut Decoder<'_>) -> Result<Self, CborError> {
        d.str()?.parse().map_err(|error: strongroom_model::NameError| CborError::Value(error.to_string()))
    }
}

/// Nanoseconds since 1970, which an i64 holds until the year 2262; times beyond are cut to it.
impl Cbor for Timestamp {
    fn put(&self, e: &mut Enc) {
        let most = i128::from(i64::MAX);
        let nanoseconds = self.as_nanosecond().clamp(-most, most);
        sure(e.i64(i64::try_from(nanoseconds).expect("it was cut to the range of an i64")));
    }
    fn take(d: &mut Decoder<'_>) -> Result<Self, CborError> {
        Self::from_nanosecond(i128::from(d.i64()?)).map_err(|error| CborError::Value(error.to_string()))
    }
}

impl<T: Cbor> Cbor for Option<T> {
    fn put(&self, e: &mut Enc) {
        match self {
            Some(value) => value.put(e),
            None => sure(e.null()),
        }
    }
    fn take(d: &mut Decoder<'_>) -> Result<Self, CborError> {
        if d.datatype()? == Type::Null {
            return Err(CborError::Value("null where a field should be left out".into()));
        }
        T::take(d).map(Some)
    }
    fn absent() -> Option<Self> {
        Some(None)
    }
    fn is_absent(&self) -> bool {
        self.is_none()
    }
}

impl<T: Cbor> Cbor for Vec<T> {
    fn put(&self, e: &mut Enc) {
        sure(e.array(self.len() as u64));
        self.iter().for_each(|item| item.put(e));
    }
    fn take(d: &mut Decoder<'_>) -> Result<Self, CborError> {
        // Not `with_capacity`: the length is only a claim until the items are there.
        (0..definite(d.array()?)?).map(|_| T::take(d)).collect()
    }
}

impl<T: Cbor + Ord> Cbor for BTreeSet<T> {
    fn put(&self, e: &mut Enc) {
        sure(e.array(self.len() as u64));
        self.iter().for_each(|item| item.put(e));
    }
    fn take(d: &mut Decoder<'_>) -> Result<Self, CborError> {
        let mut set = Self::new();
        for _ in 0..definite(d.array()?)? {
            let item = T::take(d)?;
            if set.last().is_some_and(|last| *last >= item) {
                return Err(CborError::Value("the items of a set are out of order".into()));
            }
            set.insert(item);
        }
        Ok(set)
    }
}

impl<K: Cbor + Ord, V: Cbor> Cbor for BTreeMap<K, V> {
    fn put(&self, e: &mut Enc) {
        sure(e.map(self.len() as u64));
        for (key, value) in self {
            key.put(e);
            value.put(e);
        }
    }
    fn take(d: &mut Decoder<'_>) -> Result<Self, CborError> {
        let mut map = Self::new();
        for _ in 0..definite(d.map()?)? {
            let key = K::take(d)?;
            if map.last_key_value().is_some_and(|(last, _)| *last >= key) {
                return Err(CborError::Value("the keys of a map are out of order".into()));
            }
            map.insert(key, V::take(d)?);
        }
        Ok(map)
    }
}

impl Cbor for PackKind {
    fn put(&self, e: &mut Enc) {
        sure(e.u32(match self {
            Self::Data => 0,
            Self::Map => 1,
            Self::Log => 2,
        }));
    }
    fn take(d: &mut Decoder<'_>) -> Result<Self, CborError> {
        match d.u32()? {
            0 => Ok(Self::Data),
            1 => Ok(Self::Map),
            2 => Ok(Self::Log),
            kind => Err(CborError::UnknownKind { what: "pack", kind }),
        }
    }
}

/// The pack's id and the suffix, one behind the other: 24 bytes.
impl Cbor for PackObject {
    fn put(&self, e: &mut Enc) {
        let mut bytes = [0; 24];
        bytes[..16].copy_from_slice(self.pack.bytes());
        bytes[16..].copy_from_slice(&self.suffix);
        bytes.put(e);
    }
    fn take(d: &mut Decoder<'_>) -> Result<Self, CborError> {
        let bytes = <[u8; 24]>::take(d)?;
        let (pack, suffix) = bytes.split_at(16);
        Ok(Self {
            pack: PackId::from_bytes(pack.try_into().expect("24 bytes were split at 16")),
            suffix: suffix.try_into().expect("24 bytes were split at 16"),
        })
    }
}

/// The pack's id and the number of the entry, little-endian, one behind the other: 20 bytes.
impl Cbor for EntryRef {
    fn put(&self, e: &mut Enc) {
        let mut bytes = [0; 20];
        bytes[..16].copy_from_slice(self.pack.bytes());
        bytes[16..].copy_from_slice(&self.entry.to_le_bytes());
        bytes.put(e);
    }
    fn take(d: &mut Decoder<'_>) -> Result<Self, CborError> {
        let bytes = <[u8; 20]>::take(d)?;
        let (pack, entry) = bytes.split_at(16);
        Ok(Self {
            pack: PackId::from_bytes(pack.try_into().expect("20 bytes were split at 16")),
            entry: u32::from_le_bytes(entry.try_into().expect("20 bytes were split at 16")),
        })
    }
}

impl Cbor for MapRoot {
    fn put(&self, e: &mut Enc) {
        self.at.put(e);
    }
    fn take(d: &mut Decoder<'_>) -> Result<Self, CborError> {
        Ok(Self { at: EntryRef::take(d)? })
    }
}
