//! The identity of a btrfs: every volume has one of its own.
//!
//! The kernel knows a btrfs by the id in its superblock and takes two devices with the same id for one filesystem: a
//! clone would not be mounted beside its source, or, on older kernels, be mixed up with it. So before each mount the id
//! of the filesystem is made that of its volume, in the way that btrfs has for this (`metadata_uuid`, kernel 5.0 and
//! newer): only the superblock changes, all metadata keeps the id that it was written with.
//!
//! `btrfstune -m` does the same, but also writes a new generation: a log tree that was to be replayed (of a clone that
//! was cut without a freeze, or after a crash) then belongs to no superblock, and the filesystem cannot be mounted any
//! more. Here the generation stays, and the log is replayed at the mount.
//!
//! ```text
//! superblock, 4096 bytes at 64 KiB, 64 MiB and 256 GiB
//!    0  32  checksum (CRC-32C, little endian, in the first 4) of all behind it
//!   32  16  id of the filesystem
//!   48   8  where this copy lies
//!   64   8  "_BHRfS_M"
//!  188   8  incompatible features; bit 10: the id of the metadata is another one
//!  196   2  kind of checksum; 0: CRC-32C
//!  571  16  id of the metadata
//! ```

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use strongroom_model::VolumeId;

use crate::core_error::CoreError;

const SUPERBLOCK_BYTES: usize = 4096;
const COPIES: [u64; 3] = [64 << 10, 64 << 20, 256 << 30];
const CHECKSUM: usize = 32;
const ID: std::ops::Range<usize> = 32..48;
const PLACE: std::ops::Range<usize> = 48..56;
const MAGIC: std::ops::Range<usize> = 64..72;
const FEATURES: std::ops::Range<usize> = 188..196;
const CHECKSUM_KIND: std::ops::Range<usize> = 196..198;
const METADATA_ID: std::ops::Range<usize> = 571..587;
const HAS_METADATA_ID: u64 = 1 << 10;

/// The id that the filesystem of a volume has, as `mkfs.btrfs -U` takes it.
pub(crate) fn id_text(volume: VolumeId) -> String {
    let hex: String = volume.bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}

/// Gives the btrfs on `device`, which must not be mounted, the id of its volume. What is no btrfs that we understand is
/// left as it is: the mount will say what is wrong with it.
pub(crate) fn take_identity(device: &Path, volume: VolumeId) -> Result<(), CoreError> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .open(device)
        .map_err(CoreError::system("opening", device))?;
    let changed = change(&file, volume.bytes()).map_err(CoreError::system("naming the btrfs on", device))?;
    if changed {
        file.sync_all().map_err(CoreError::system("making durable", device))?;
    }
    Ok(())
}

/// The first copy last: the kernel reads that one, so a crash in between leaves the old id or the new.
fn change(file: &File, id: &[u8; 16]) -> io::Result<bool> {
    let mut changed = false;
    for at in COPIES.into_iter().rev() {
        let mut block = [0; SUPERBLOCK_BYTES];
        match file.read_exact_at(&mut block, at) {
            // The device is smaller than that.
            Err(cause) if cause.kind() == io::ErrorKind::UnexpectedEof => continue,
            read => read?,
        }
        if rename(&mut block, at, id) {
            file.write_all_at(&block, at)?;
            file.sync_data()?;
            changed = true;
        }
    }
    Ok(changed)
}

/// Whether the superblock had to be changed.
fn rename(block: &mut [u8; SUPERBLOCK_BYTES], at: u64, id: &[u8; 16]) -> bool {
    let whole = block[MAGIC] == *b"_BHRfS_M"
        && block[PLACE] == at.to_le_bytes()
        && block[CHECKSUM_KIND] == [0, 0]
        && block[..4] == crc32c(&block[CHECKSUM..]).to_le_bytes();
    if !whole || block[ID] == *id {
        return false;
    }
    let mut features = u64::from_le_bytes(block[FEATURES].try_into().expect("the range has 8 bytes"));
    if features & HAS_METADATA_ID == 0 {
        features |= HAS_METADATA_ID;
        block.copy_within(ID, METADATA_ID.start);
        block[FEATURES].copy_from_slice(&features.to_le_bytes());
    }
    block[ID].copy_from_slice(id);
    let checksum = crc32c(&block[CHECKSUM..]).to_le_bytes();
    block[..4].copy_from_slice(&checksum);
    true
}

/// CRC-32C, bit by bit: three blocks of 4 KiB are not worth a table.
fn crc32c(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc: u32, byte| {
        (0..8)
            .fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (0x82f6_3b78 & (0_u32.wrapping_sub(crc & 1))))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_the_one_of_the_standard() {
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
    }

    #[test]
    fn only_a_whole_superblock_in_its_place_gets_another_id() {
        let mut block = [0; SUPERBLOCK_BYTES];
        block[MAGIC].copy_from_slice(b"_BHRfS_M");
        block[PLACE].copy_from_slice(&COPIES[0].to_le_bytes());
        block[ID].copy_from_slice(&[1; 16]);
        assert!(!rename(&mut block.clone(), COPIES[0], &[2; 16]), "the checksum is wrong");
        let checksum = crc32c(&block[CHECKSUM..]).to_le_bytes();
        block[..4].copy_from_slice(&checksum);
        assert!(!rename(&mut block.clone(), COPIES[1], &[2; 16]), "it belongs elsewhere");
        assert!(rename(&mut block, COPIES[0], &[2; 16]));
        assert_eq!((&block[ID], &block[METADATA_ID]), ([2; 16].as_slice(), [1; 16].as_slice()));
        assert!(!rename(&mut block, COPIES[0], &[2; 16]), "it has that id already");
        // The id of the metadata is that of its birth for ever.
        assert!(rename(&mut block, COPIES[0], &[3; 16]));
        assert_eq!((&block[ID], &block[METADATA_ID]), ([3; 16].as_slice(), [1; 16].as_slice()));
    }
}
