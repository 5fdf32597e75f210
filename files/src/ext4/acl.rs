//! Access control lists: from the form on the disk to the one that `getxattr` and `setxattr` have.

use crate::disk::Fields;

const ATTRIBUTE_VERSION: u32 = 2;
const USER: u16 = 2;
const GROUP: u16 = 8;

/// One line of a list: tag, permissions, id.
pub(crate) type Line = (u16, u16, u32);

/// The value of `system.posix_acl_*`: a version, then lines of eight bytes.
pub(crate) fn to_attribute(lines: impl IntoIterator<Item = Line>) -> Vec<u8> {
    let mut value = ATTRIBUTE_VERSION.to_le_bytes().to_vec();
    for (tag, permissions, id) in lines {
        value.extend_from_slice(&tag.to_le_bytes());
        value.extend_from_slice(&permissions.to_le_bytes());
        let id = if matches!(tag, USER | GROUP) { id } else { u32::MAX };
        value.extend_from_slice(&id.to_le_bytes());
    }
    value
}

/// ext4 leaves ids out where they mean nothing.
pub(super) fn from_disk(bytes: &[u8]) -> Option<Vec<Line>> {
    let fields = Fields(bytes);
    if bytes.len() < 4 || fields.le32(0) != 1 {
        return None;
    }
    let mut lines = Vec::new();
    let mut at = 4;
    while at < bytes.len() {
        let (tag, permissions) = (fields.le16(at), fields.le16(at + 2));
        let named = matches!(tag, USER | GROUP);
        let next = at + if named { 8 } else { 4 };
        if next > bytes.len() {
            return None;
        }
        lines.push((tag, permissions, if named { fields.le32(at + 4) } else { u32::MAX }));
        at = next;
    }
    Some(lines)
}
