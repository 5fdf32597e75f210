//! Taking a range out of an object, the same in every adapter.

use strongroom_repository::store::StoreError;

/// The end of the range, or what is wrong with it when it leaves an object of `bytes` bytes.
pub(crate) fn end_of(
    location: &str,
    name: &str,
    start: u64,
    length: u64,
    bytes: u64,
) -> Result<u64, StoreError> {
    start.checked_add(length).filter(|end| *end <= bytes).ok_or_else(|| StoreError::Rejected {
        location: location.to_owned(),
        name: name.to_owned(),
        reason: format!("it has {bytes} bytes, and {length} were asked for from byte {start}"),
    })
}
