//! What ext4's first block says of the use of a filesystem rather than of its content.
//!
//! Offsets are those of `struct ext4_super_block` in the kernel's documentation (filesystems/ext4, "Super Block").

/// The first block, with the superblock in it.
pub(crate) const BLOCK_BYTES: usize = 4096;

/// Where the superblock begins; before it is room for a boot loader.
const BEGIN: usize = 1024;

/// `s_wtime` and its high byte, `s_kbytes_written`, and the checksum over all of it.
const VOLATILE: [(usize, usize); 4] = [(0x30, 4), (0x274, 1), (0x178, 8), (0x3FC, 4)];

/// `s_feature_incompat`, and its flag that the journal is to be replayed.
const INCOMPATIBLE: usize = 0x60;
const RECOVER: u8 = 0x4;

/// Whether two first blocks of an ext4 differ at most in when it was last written and whether its journal is to be replayed.
pub(crate) fn ext4_differ_in_use_only(one: [u8; BLOCK_BYTES], other: [u8; BLOCK_BYTES]) -> bool {
    without_use(one) == without_use(other)
}

fn without_use(mut block: [u8; BLOCK_BYTES]) -> [u8; BLOCK_BYTES] {
    for (offset, bytes) in VOLATILE {
        block[BEGIN + offset..][..bytes].fill(0);
    }
    block[BEGIN + INCOMPATIBLE] &= !RECOVER;
    block
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_of_writing_and_the_flag_of_the_journal_are_use_and_all_else_is_content() {
        let block = [7; BLOCK_BYTES];
        let changed = |offset: usize, by: u8| {
            let mut changed = block;
            changed[offset] ^= by;
            changed
        };
        for offset in [0x30, 0x33, 0x274, 0x178, 0x17F, 0x3FC, 0x3FF] {
            assert!(ext4_differ_in_use_only(block, changed(BEGIN + offset, 0xFF)), "{offset:x}");
        }
        assert!(ext4_differ_in_use_only(block, changed(BEGIN + INCOMPATIBLE, RECOVER)));
        for offset in
            [0, BEGIN, BEGIN + 0x0C, BEGIN + 0x34, BEGIN + INCOMPATIBLE + 1, BEGIN + 0x180, 2048, 4095]
        {
            assert!(!ext4_differ_in_use_only(block, changed(offset, 1)), "{offset:x}");
        }
        assert!(!ext4_differ_in_use_only(block, changed(BEGIN + INCOMPATIBLE, 0x8)));
    }
}
