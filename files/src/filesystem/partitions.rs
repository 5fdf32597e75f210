//! The partitions of an image: GPT, or the four of an MBR.
//!
//! Logical partitions of an MBR are not looked for, and a GPT is read from its first copy only.

use strongroom_console::Size;

use crate::disk::{Disk, Fields};
use crate::error::FilesError;
use crate::tree::unread;

const SECTOR: u64 = 512;
/// A GPT has 128 rows; some tools make 256.
const MOST_ROWS: u64 = 1024;

/// A part of an image.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Partition {
    /// Its number, from 1.
    pub number: u32,
    /// Where it begins.
    pub start_bytes: u64,
    /// How long it is.
    pub bytes: u64,
}

/// The partitions, in order of number; empty where there is no table.
pub(super) fn read(disk: &dyn Disk) -> Result<Vec<Partition>, FilesError> {
    if disk.bytes() < 2 * SECTOR {
        return Ok(Vec::new());
    }
    let mut sectors = vec![0; 1024];
    disk.read_at(0, &mut sectors).map_err(unread)?;
    let (mbr, gpt) = (Fields(&sectors[..512]), Fields(&sectors[512..]));
    if sectors[512..520] == *b"EFI PART" {
        return rows(disk, gpt);
    }
    if mbr.le16(510) != 0xaa55 {
        return Ok(Vec::new());
    }
    let row = |number: u32| {
        let at = 446 + 16 * usize::try_from(number - 1).unwrap_or_default();
        let (kind, start, count) =
            (mbr.u8(at + 4), u64::from(mbr.le32(at + 8)), u64::from(mbr.le32(at + 12)));
        // 0x05 and 0x0f hold further tables, not filesystems.
        let usable = !matches!(kind, 0 | 0x05 | 0x0f) && count > 0;
        usable.then_some(Partition { number, start_bytes: start * SECTOR, bytes: count * SECTOR })
    };
    Ok((1..=4).filter_map(row).collect())
}

fn rows(disk: &dyn Disk, header: Fields<'_>) -> Result<Vec<Partition>, FilesError> {
    let (first, count, length) = (header.le64(72), u64::from(header.le32(80)), u64::from(header.le32(84)));
    if !(128..=4096).contains(&length) {
        return Err(FilesError::Nonsense { what: "the table of partitions is damaged".into() });
    }
    let mut found = Vec::new();
    for index in 0..count.min(MOST_ROWS) {
        let mut row = [0; 48];
        let at = first.saturating_mul(SECTOR).saturating_add(index * length);
        disk.read_at(at, &mut row).map_err(unread)?;
        let fields = Fields(&row);
        let (start, last) = (fields.le64(32), fields.le64(40));
        if row[..16] == [0; 16] || last < start {
            continue;
        }
        found.push(Partition {
            number: u32::try_from(index + 1).unwrap_or(u32::MAX),
            start_bytes: start.saturating_mul(SECTOR),
            bytes: (last - start).saturating_add(1).saturating_mul(SECTOR),
        });
    }
    Ok(found)
}

pub(super) fn listed(partitions: &[Partition]) -> String {
    if partitions.is_empty() {
        return "none".into();
    }
    let one = |partition: &Partition| format!("{} ({})", partition.number, Size(partition.bytes));
    partitions.iter().map(one).collect::<Vec<_>>().join(", ")
}
