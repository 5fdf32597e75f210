//! What can be asked of the bytes of a volume.

use std::fmt::Debug;
use std::sync::Arc;

use strongroom_model::ByteRange;

use crate::BlockIoError;

/// Ranges in ascending order that neither touch nor overlap, found while one walks: memory stays the same for
/// any number of them. An error ends the walk, and what came before it must not be taken for all.
pub type Ranges<'a> = Box<dyn Iterator<Item = Result<ByteRange, BlockIoError>> + Send + 'a>;

/// Bytes that can be read.
///
/// The size is fixed while the source is open.
pub trait BlockSource: Debug + Send + Sync {
    /// How many bytes there are.
    fn bytes(&self) -> u64;

    /// Fills all of `buffer` from `offset` on.
    ///
    /// # Errors
    /// When the range is not inside the source, ends early, or the medium refuses.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<(), BlockIoError>;

    /// The ranges that may hold something else than zeros. What lies between them reads as zeros.
    fn allocated(&self) -> Ranges<'_>;
}

/// Bytes that can also be written.
pub trait BlockTarget: BlockSource {
    /// Writes all of `data` from `offset` on.
    ///
    /// # Errors
    /// When the range is not inside the target or the medium refuses; then any part may have been written.
    fn write_at(&self, offset: u64, data: &[u8]) -> Result<(), BlockIoError>;

    /// Makes `range` read as zeros, without taking space where the medium can do that.
    ///
    /// # Errors
    /// As [`BlockTarget::write_at`].
    fn zero(&self, range: ByteRange) -> Result<(), BlockIoError>;

    /// Returns when everything written before is durable.
    ///
    /// # Errors
    /// When the medium cannot promise it; then nothing written since the last success may be relied on.
    fn sync(&self) -> Result<(), BlockIoError>;
}

macro_rules! forward {
    ($($pointer:ty),*) => {$(
        impl<T: BlockSource + ?Sized> BlockSource for $pointer {
            fn bytes(&self) -> u64 {
                (**self).bytes()
            }

            fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<(), BlockIoError> {
                (**self).read_at(offset, buffer)
            }

            fn allocated(&self) -> Ranges<'_> {
                (**self).allocated()
            }
        }

        impl<T: BlockTarget + ?Sized> BlockTarget for $pointer {
            fn write_at(&self, offset: u64, data: &[u8]) -> Result<(), BlockIoError> {
                (**self).write_at(offset, data)
            }

            fn zero(&self, range: ByteRange) -> Result<(), BlockIoError> {
                (**self).zero(range)
            }

            fn sync(&self) -> Result<(), BlockIoError> {
                (**self).sync()
            }
        }
    )*};
}

forward!(Arc<T>, Box<T>);

/// The range `length` bytes from `offset`, checked to lie inside `bytes`; `None` when it is empty.
pub(crate) fn inside(
    name: &str,
    offset: u64,
    length: usize,
    bytes: u64,
) -> Result<Option<ByteRange>, BlockIoError> {
    let end = offset.checked_add(length as u64).filter(|end| *end <= bytes);
    match end {
        Some(end) => Ok(ByteRange::new(offset, end).ok()),
        None => Err(BlockIoError::Outside { name: name.to_owned(), offset, length: length as u64, bytes }),
    }
}
