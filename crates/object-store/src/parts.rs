//! What the parts of an upload must be before it can be completed.

use strongroom_repository::store::PART_BYTES;

/// How many bytes the parts `0..parts` have together, given the length of each that is there.
///
/// # Errors
/// What is wrong, for people: one is missing, or short and not the last, or there is none.
pub(crate) fn bytes_of_parts(parts: u32, length: impl Fn(u32) -> Option<u64>) -> Result<u64, String> {
    let mut bytes = 0;
    for number in 0..parts {
        match length(number) {
            None => return Err(format!("part {number} is missing")),
            Some(length) if length != PART_BYTES as u64 && number + 1 != parts => {
                return Err(format!("part {number} is short, and not the last"));
            }
            Some(length) => bytes += length,
        }
    }
    if bytes == 0 { Err("an upload has at least one part".to_owned()) } else { Ok(bytes) }
}
