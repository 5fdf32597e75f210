//! One read-only file, served to the kernel over `/dev/fuse`: as much of the FUSE protocol as a loop device needs.
//!
//! The directory that is mounted holds one file, `image`, whose bytes are those of a [`Disk`]. A part that cannot be read is
//! EIO for who asked and a line for the person who watches. Whatever ends this process closes `/dev/fuse`, and then the
//! kernel answers every waiting and every later read with an error: nothing hangs.
//!
//! The protocol is spoken here rather than by a library, since it comes to ten messages with fields at fixed places.
//! `linux/fuse.h` describes them; numbers are of this machine's byte order.

use std::ffi::CString;
use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::AsRawFd as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::{self, JoinHandle};

use rustix::io::Errno;
use rustix::mount::{MountFlags, mount};
use strongroom_console::Console;
use strongroom_model::chain;

use crate::disk::Disk;

/// The name of the file.
pub(crate) const NAME: &str = "image";

/// Threads that answer. Each waits for the store at times; more would only wait as well.
const THREADS: usize = 8;
/// Requests are small, as nothing is written; the kernel wants room for a page of data beside the header all the same.
const REQUEST_BYTES: usize = 64 << 10;
/// The most that one read asks for: 256 pages.
const MOST_PAGES: u16 = 256;
/// The kernel asks for no more than what it was told; larger is nonsense.
const MOST_READ: u32 = 4 << 20;

const HEADER: usize = 40;
const ROOT: u64 = 1;
const IMAGE: u64 = 2;
/// Nothing ever changes, so the kernel may remember for a day.
const VALID_SECONDS: u64 = 86_400;

const ASYNC_READ: u32 = 1;
const MAX_PAGES: u32 = 1 << 22;
const KEEP_CACHE: u32 = 2;

/// A connection to the kernel that is being answered.
#[derive(Debug)]
pub(crate) struct Served {
    threads: Vec<JoinHandle<()>>,
    failed: Arc<AtomicU64>,
}

struct Server {
    device: File,
    disk: Arc<dyn Disk>,
    console: Console,
    failed: Arc<AtomicU64>,
}

/// Mounts a directory with the one file on `folder` and begins to answer. Needs the rights to mount.
pub(crate) fn serve(disk: Arc<dyn Disk>, folder: &Path, console: &Console) -> io::Result<Served> {
    // Not inherited: the connection must end with this process, not with a child of it.
    let device = File::options().read(true).write(true).open("/dev/fuse")?;
    let options = format!("fd={},rootmode=40000,user_id=0,group_id=0,subtype=strongroom", device.as_raw_fd());
    let options = CString::new(options).expect("it holds no NUL");
    let flags = MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    mount("strongroom", folder, "fuse", flags, &*options)?;
    let failed = Arc::new(AtomicU64::new(0));
    let server = Arc::new(Server { device, disk, console: console.clone(), failed: Arc::clone(&failed) });
    let threads = (0..THREADS).map(|_| {
        let server = Arc::clone(&server);
        thread::Builder::new().name("fuse".into()).spawn(move || server.answer_all())
    });
    Ok(Served { threads: threads.collect::<Result<_, _>>()?, failed })
}

impl Served {
    /// The kernel has let go: nothing uses the file any more.
    pub(crate) fn has_ended(&self) -> bool {
        self.threads.iter().all(JoinHandle::is_finished)
    }

    /// How many reads failed.
    pub(crate) fn failed(&self) -> u64 {
        self.failed.load(Ordering::Relaxed)
    }
}

/// A request: its header taken apart.
struct Asked<'a> {
    opcode: u32,
    unique: u64,
    node: u64,
    body: &'a [u8],
}

impl<'a> Asked<'a> {
    fn parse(bytes: &'a [u8]) -> Option<Self> {
        (bytes.len() >= HEADER).then(|| Self {
            opcode: u32_at(bytes, 4),
            unique: u64_at(bytes, 8),
            node: u64_at(bytes, 16),
            body: &bytes[HEADER..],
        })
    }
}

impl Server {
    fn answer_all(&self) {
        let mut request = vec![0; REQUEST_BYTES];
        loop {
            let length = match (&self.device).read(&mut request) {
                Ok(length) => length,
                Err(cause) => match Errno::from_io_error(&cause) {
                    // The request was taken back, or a signal came.
                    Some(Errno::NOENT | Errno::INTR | Errno::AGAIN) => continue,
                    // Unmounted, and nobody has it open.
                    _ => return,
                },
            };
            let Some(asked) = Asked::parse(&request[..length]) else { continue };
            let Some(answer) = self.answer(&asked) else { continue };
            let (error, body) = match answer {
                Ok(body) => (0, body),
                Err(errno) => (-errno.raw_os_error(), Vec::new()),
            };
            let mut reply = Vec::with_capacity(16 + body.len());
            reply.extend_from_slice(&u32::try_from(16 + body.len()).unwrap_or(16).to_ne_bytes());
            reply.extend_from_slice(&error.to_ne_bytes());
            reply.extend_from_slice(&asked.unique.to_ne_bytes());
            reply.extend_from_slice(&body);
            // A request that was taken back meanwhile has no use for the answer.
            let _ = (&self.device).write(&reply);
        }
    }

    /// `None`: this message wants no answer.
    fn answer(&self, asked: &Asked<'_>) -> Option<Result<Vec<u8>, Errno>> {
        Some(match asked.opcode {
            1 => self.lookup(asked),
            2 | 36 | 42 => return None,
            3 => Ok([&VALID_SECONDS.to_ne_bytes()[..], &[0; 8], &self.attributes(asked.node)].concat()),
            14 => Ok([&0_u64.to_ne_bytes()[..], &KEEP_CACHE.to_ne_bytes(), &[0; 4]].concat()),
            15 => self.read(asked),
            // statfs: all of it is in use.
            17 => Ok(vec![0; 80]),
            // release, flush, releasedir, access, destroy.
            18 | 25 | 29 | 34 | 38 => Ok(Vec::new()),
            26 => Ok(Self::hello(asked)),
            // opendir, readdir: a directory that lists nothing; the file is opened by name.
            27 => Ok(vec![0; 16]),
            28 => Ok(Vec::new()),
            _ => Err(Errno::NOSYS),
        })
    }

    fn hello(asked: &Asked<'_>) -> Vec<u8> {
        let offered = u32_at(asked.body, 12);
        let mut answer = Vec::with_capacity(64);
        for number in [7_u32, 31, u32_at(asked.body, 8), offered & (ASYNC_READ | MAX_PAGES)] {
            answer.extend_from_slice(&number.to_ne_bytes());
        }
        answer.extend_from_slice(&16_u16.to_ne_bytes());
        answer.extend_from_slice(&12_u16.to_ne_bytes());
        answer.extend_from_slice(&4096_u32.to_ne_bytes());
        answer.extend_from_slice(&1_u32.to_ne_bytes());
        answer.extend_from_slice(&MOST_PAGES.to_ne_bytes());
        answer.resize(64, 0);
        answer
    }

    fn lookup(&self, asked: &Asked<'_>) -> Result<Vec<u8>, Errno> {
        let name = asked.body.split(|byte| *byte == 0).next().unwrap_or_default();
        if asked.node != ROOT || name != NAME.as_bytes() {
            return Err(Errno::NOENT);
        }
        let numbers = [IMAGE, 0, VALID_SECONDS, VALID_SECONDS, 0];
        let head: Vec<u8> = numbers.iter().flat_map(|number| number.to_ne_bytes()).collect();
        Ok([head, self.attributes(IMAGE)].concat())
    }

    fn attributes(&self, node: u64) -> Vec<u8> {
        let (bytes, mode, links) =
            if node == IMAGE { (self.disk.bytes(), 0o100_400, 1) } else { (0, 0o40_500, 2) };
        let mut out = Vec::with_capacity(88);
        for number in [node, bytes, bytes.div_ceil(512), 0, 0, 0] {
            out.extend_from_slice(&number.to_ne_bytes());
        }
        for number in [0_u32, 0, 0, mode, links, 0, 0, 0, 4096, 0] {
            out.extend_from_slice(&number.to_ne_bytes());
        }
        out
    }

    fn read(&self, asked: &Asked<'_>) -> Result<Vec<u8>, Errno> {
        let (offset, size) = (u64_at(asked.body, 8), u32_at(asked.body, 16));
        if asked.node != IMAGE || size > MOST_READ {
            return Err(Errno::INVAL);
        }
        let length = self.disk.bytes().saturating_sub(offset).min(size.into());
        let mut bytes = vec![0; usize::try_from(length).unwrap_or_default()];
        self.disk.read_at(offset, &mut bytes).map(|()| bytes).map_err(|cause| {
            // Programs try again and again; the reason is told as long as somebody may still read it.
            if self.failed.fetch_add(1, Ordering::Relaxed) < 100 {
                let end = offset + length;
                self.console.warn(format_args!(
                    "bytes {offset}..{end} of the image cannot be read: {}",
                    chain(&cause)
                ));
            }
            Errno::IO
        })
    }
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..at + 4).map_or(0, |found| u32::from_ne_bytes(found.try_into().expect("four bytes")))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..at + 8).map_or(0, |found| u64::from_ne_bytes(found.try_into().expect("eight bytes")))
}
