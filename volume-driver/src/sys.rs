//! The system calls that have no safe wrapper: loop devices, freeze and thaw.
//!
//! Nothing is decided here: each function is one call with its arguments in types.
#![expect(unsafe_code, reason = "the loop and freeze ioctls have no safe wrapper in rustix")]

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd as _;

use rustix::ioctl::{self, IntegerSetter, IoctlOutput, NoArg, Opcode, Setter};

const LOOP_SET_FD_FAMILY: Opcode = 0x4C00;
const LOOP_CLR_FD: Opcode = LOOP_SET_FD_FAMILY + 0x01;
const LOOP_SET_STATUS64: Opcode = LOOP_SET_FD_FAMILY + 0x04;
const LOOP_GET_STATUS64: Opcode = LOOP_SET_FD_FAMILY + 0x05;
const LOOP_SET_CAPACITY: Opcode = LOOP_SET_FD_FAMILY + 0x07;
const LOOP_CONFIGURE: Opcode = LOOP_SET_FD_FAMILY + 0x0A;
/// `_IO(0x12, 93)`; the kernel reads an `int`.
const BLKROSET: Opcode = ioctl::opcode::none(0x12, 93);
const LOOP_CTL_GET_FREE: Opcode = LOOP_SET_FD_FAMILY + 0x82;
/// `_IOWR('X', 119, int)` and the one after; the kernel reads and writes nothing there.
const FIFREEZE: Opcode = ioctl::opcode::read_write::<i32>(b'X', 119);
const FITHAW: Opcode = ioctl::opcode::read_write::<i32>(b'X', 120);

const FS_IOC_FSGETXATTR: Opcode = ioctl::opcode::read::<FileAttributes>(b'X', 31);
const FS_IOC_FSSETXATTR: Opcode = ioctl::opcode::write::<FileAttributes>(b'X', 32);
const FITRIM: Opcode = ioctl::opcode::read_write::<TrimRange>(b'X', 121);
/// `cow_extent_bytes` counts.
const FS_XFLAG_COWEXTSIZE: u32 = 0x0001_0000;

/// The device frees itself when its last user closes it.
pub(crate) const LO_FLAGS_AUTOCLEAR: u32 = 4;
/// The image is read and written past the page cache.
pub(crate) const LO_FLAGS_DIRECT_IO: u32 = 16;

/// `struct loop_info64`: 232 bytes.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub(crate) struct LoopInfo {
    /// Device number of the filesystem that holds the image.
    pub(crate) device: u64,
    /// Inode of the image.
    pub(crate) inode: u64,
    rdevice: u64,
    offset: u64,
    size_limit: u64,
    number: u32,
    encrypt_type: u32,
    encrypt_key_size: u32,
    pub(crate) flags: u32,
    file_name: [u8; 64],
    crypt_name: [u8; 64],
    encrypt_key: [u8; 32],
    init: [u64; 2],
}

impl LoopInfo {
    const fn zeroed() -> Self {
        Self {
            device: 0,
            inode: 0,
            rdevice: 0,
            offset: 0,
            size_limit: 0,
            number: 0,
            encrypt_type: 0,
            encrypt_key_size: 0,
            flags: 0,
            file_name: [0; 64],
            crypt_name: [0; 64],
            encrypt_key: [0; 32],
            init: [0; 2],
        }
    }
}

/// `struct loop_config`: 304 bytes.
#[repr(C)]
#[derive(Clone, Copy)]
struct LoopConfig {
    fd: u32,
    block_size: u32,
    info: LoopInfo,
    reserved: [u64; 8],
}

const _: () = assert!(size_of::<LoopInfo>() == 232 && size_of::<LoopConfig>() == 304);

/// Asks for the number of a loop device that is free now; another process may take it at once.
pub(crate) fn free_loop(control: &File) -> io::Result<u32> {
    struct GetFree;
    // SAFETY: LOOP_CTL_GET_FREE takes no argument and answers with the number.
    unsafe impl ioctl::Ioctl for GetFree {
        type Output = u32;
        const IS_MUTATING: bool = false;
        fn opcode(&self) -> Opcode {
            LOOP_CTL_GET_FREE
        }
        fn as_ptr(&mut self) -> *mut std::ffi::c_void {
            std::ptr::null_mut()
        }
        unsafe fn output_from_ptr(number: IoctlOutput, _: *mut std::ffi::c_void) -> rustix::io::Result<u32> {
            u32::try_from(number).map_err(|_| rustix::io::Errno::INVAL)
        }
    }
    // SAFETY: `GetFree` describes the call truly, see there.
    unsafe { ioctl::ioctl(control, GetFree) }.map_err(io::Error::from)
}

/// Binds `image` to the free loop device `device`, with `flags` and sectors of `block_size` bytes.
pub(crate) fn configure_loop(device: &File, image: &File, block_size: u32, flags: u32) -> io::Result<()> {
    let fd = u32::try_from(image.as_raw_fd()).expect("an open descriptor is not negative");
    let config =
        LoopConfig { fd, block_size, info: LoopInfo { flags, ..LoopInfo::zeroed() }, reserved: [0; 8] };
    // SAFETY: LOOP_CONFIGURE reads a `struct loop_config`, which `LoopConfig` is.
    unsafe { ioctl::ioctl(device, Setter::<LOOP_CONFIGURE, LoopConfig>::new(config)) }
        .map_err(io::Error::from)
}

/// What a loop device is bound to. ENXIO: to nothing.
pub(crate) fn loop_info(device: &File) -> io::Result<LoopInfo> {
    let mut info = LoopInfo::zeroed();
    // SAFETY: LOOP_GET_STATUS64 writes a `struct loop_info64`, which `LoopInfo` is.
    unsafe { ioctl::ioctl(device, ioctl::Updater::<LOOP_GET_STATUS64, LoopInfo>::new(&mut info)) }?;
    Ok(info)
}

/// Changes what may be changed of a bound device: of its flags, whether it clears itself.
pub(crate) fn set_loop_info(device: &File, info: LoopInfo) -> io::Result<()> {
    // SAFETY: LOOP_SET_STATUS64 reads a `struct loop_info64`, which `LoopInfo` is.
    unsafe { ioctl::ioctl(device, Setter::<LOOP_SET_STATUS64, LoopInfo>::new(info)) }.map_err(io::Error::from)
}

/// Asks a loop device to let go of its image. Success does *not* mean that it did.
pub(crate) fn clear_loop(device: &File) -> io::Result<()> {
    // SAFETY: LOOP_CLR_FD takes no argument.
    unsafe { ioctl::ioctl(device, NoArg::<LOOP_CLR_FD>::new()) }.map_err(io::Error::from)
}

/// Lets a loop device see that its image has grown.
pub(crate) fn refresh_loop_size(device: &File) -> io::Result<()> {
    // SAFETY: LOOP_SET_CAPACITY takes no argument.
    unsafe { ioctl::ioctl(device, NoArg::<LOOP_SET_CAPACITY>::new()) }.map_err(io::Error::from)
}

/// Lets the kernel refuse, or allow, all writing to a block device.
pub(crate) fn set_readonly(device: &File, readonly: bool) -> io::Result<()> {
    // SAFETY: BLKROSET reads an `int`, which an `i32` is.
    unsafe { ioctl::ioctl(device, Setter::<BLKROSET, i32>::new(i32::from(readonly))) }
        .map_err(io::Error::from)
}

/// Flushes the filesystem that `folder` lies on and stops all writes to it, until somebody thaws it. EBUSY: it
/// is frozen already.
pub(crate) fn freeze(folder: &File) -> io::Result<()> {
    // SAFETY: FIFREEZE ignores its argument.
    unsafe { ioctl::ioctl(folder, IntegerSetter::<FIFREEZE>::new_usize(0)) }.map_err(io::Error::from)
}

/// Ends a freeze. EINVAL: it was not frozen.
pub(crate) fn thaw(folder: &File) -> io::Result<()> {
    // SAFETY: FITHAW ignores its argument.
    unsafe { ioctl::ioctl(folder, IntegerSetter::<FITHAW>::new_usize(0)) }.map_err(io::Error::from)
}

/// `struct fsxattr`: 28 bytes.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
struct FileAttributes {
    flags: u32,
    extent_bytes: u32,
    extents: u32,
    project: u32,
    cow_extent_bytes: u32,
    padding: [u8; 8],
}

/// `struct fstrim_range`.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
struct TrimRange {
    start: u64,
    length: u64,
    minimum: u64,
}

const _: () = assert!(size_of::<FileAttributes>() == 28 && size_of::<TrimRange>() == 24);

/// Copies no more than a block where a shared block is written (XFS: the hint `cowextsize`).
pub(crate) fn copy_single_blocks(file: &File, block_bytes: u32) -> io::Result<()> {
    // SAFETY: FS_IOC_FSGETXATTR writes a `struct fsxattr`, which `FileAttributes` is.
    let now: FileAttributes =
        unsafe { ioctl::ioctl(file, ioctl::Getter::<FS_IOC_FSGETXATTR, FileAttributes>::new()) }?;
    let wanted =
        FileAttributes { flags: now.flags | FS_XFLAG_COWEXTSIZE, cow_extent_bytes: block_bytes, ..now };
    // SAFETY: FS_IOC_FSSETXATTR reads a `struct fsxattr`.
    unsafe { ioctl::ioctl(file, Setter::<FS_IOC_FSSETXATTR, FileAttributes>::new(wanted)) }
        .map_err(io::Error::from)
}

/// Discards what is free in a stretch of the filesystem that `folder` lies on; answers how many bytes.
pub(crate) fn trim(folder: &File, start: u64, length: u64) -> io::Result<u64> {
    let mut range = TrimRange { start, length, minimum: 0 };
    // SAFETY: FITRIM reads a `struct fstrim_range` and writes its length, and `TrimRange` is one.
    unsafe { ioctl::ioctl(folder, ioctl::Updater::<FITRIM, TrimRange>::new(&mut range)) }?;
    Ok(range.length)
}
