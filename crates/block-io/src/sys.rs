//! The one system call here that has no safe wrapper: FS_IOC_FIEMAP, the list of a file's extents.
#![expect(unsafe_code, reason = "FS_IOC_FIEMAP has no safe wrapper in rustix")]

use std::ffi::c_void;
use std::fs::File;
use std::io;

use rustix::ioctl::{self, Ioctl, IoctlOutput, Opcode};

/// How many extents one call brings at most: 28 KiB of memory, and few enough calls.
pub(crate) const BATCH: usize = 512;

/// `_IOWR('f', 11, struct fiemap)` with the 32 bytes of the header.
const FS_IOC_FIEMAP: Opcode = ioctl::opcode::read_write::<Header>(b'f', 11);

#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
struct Header {
    start: u64,
    length: u64,
    flags: u32,
    mapped_extents: u32,
    extent_count: u32,
    reserved: u32,
}

/// One extent as the kernel tells it (`struct fiemap_extent`).
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct RawExtent {
    pub(crate) logical: u64,
    pub(crate) physical: u64,
    pub(crate) length: u64,
    reserved64: [u64; 2],
    pub(crate) flags: u32,
    reserved: [u32; 3],
}

#[repr(C)]
struct Request {
    header: Header,
    extents: [RawExtent; BATCH],
}

struct Fiemap<'a>(&'a mut Request);

// SAFETY: the opcode is FS_IOC_FIEMAP, which reads the header and writes the header and at most `extent_count`
// extents behind it. `Request` is laid out as `struct fiemap` is, and `extent_count` is never above BATCH, the
// length of its array (both are set in `fiemap` and `count` below and nowhere else).
unsafe impl Ioctl for Fiemap<'_> {
    type Output = ();
    const IS_MUTATING: bool = true;

    fn opcode(&self) -> Opcode {
        FS_IOC_FIEMAP
    }

    fn as_ptr(&mut self) -> *mut c_void {
        std::ptr::from_mut::<Request>(self.0).cast()
    }

    unsafe fn output_from_ptr(_: IoctlOutput, _: *mut c_void) -> rustix::io::Result<()> {
        Ok(())
    }
}

fn call(file: &File, request: &mut Request) -> io::Result<()> {
    // SAFETY: `Fiemap` describes FS_IOC_FIEMAP truly, see there; the request lives during the call.
    unsafe { ioctl::ioctl(file, Fiemap(request)) }.map_err(io::Error::from)
}

/// Replaces `extents` by the next ones that touch `start..`, at most [`BATCH`].
///
/// FIEMAP_FLAG_SYNC is not set: this is asked of snapshots only, which are never written.
pub(crate) fn fiemap(file: &File, start: u64, extents: &mut Vec<RawExtent>) -> io::Result<()> {
    let mut request = Box::new(Request {
        header: Header {
            start,
            length: u64::MAX - start,
            extent_count: u32::try_from(BATCH).expect("the batch is a small constant"),
            ..Header::default()
        },
        extents: [RawExtent::default(); BATCH],
    });
    call(file, &mut request)?;
    let found = (request.header.mapped_extents as usize).min(BATCH);
    extents.clear();
    extents.extend_from_slice(&request.extents[..found]);
    Ok(())
}

/// How many extents the file has.
pub(crate) fn count(file: &File) -> io::Result<u64> {
    let mut request = Box::new(Request {
        header: Header { length: u64::MAX, ..Header::default() },
        extents: [RawExtent::default(); BATCH],
    });
    call(file, &mut request)?;
    Ok(u64::from(request.header.mapped_extents))
}
