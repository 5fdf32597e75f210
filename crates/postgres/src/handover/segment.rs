//! A segment in a file: opened without following a link, and held against its name.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use strongroom_database::postgres::{FileName, SegmentHead};
use strongroom_database::{LineageId, Position};

use super::HandoverError;

/// What is read at once.
pub(super) const STEP_BYTES: usize = 1 << 20;

/// Opens a file that is one: no link, no pipe.
pub(super) fn open_plain(path: &Path) -> io::Result<File> {
    let flags = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK;
    let flags = i32::try_from(flags.bits()).expect("the flags of open(2) fit");
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    if file.metadata()?.is_file() {
        Ok(file)
    } else {
        Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a plain file"))
    }
}

/// That a file is the segment which its name says, of this cluster. Answers its timeline and where it begins; reading goes on at
/// its first byte.
pub(super) fn check(
    file: &mut File,
    path: &Path,
    name: &str,
    (system, segment_bytes): (u64, u64),
) -> Result<(LineageId, Position), HandoverError> {
    let failed = |cause| HandoverError::File { path: path.to_owned(), cause };
    let misnamed = |what: String| HandoverError::Misnamed { name: name.to_owned(), what };
    let parsed = FileName::parse(name);
    let (Some(FileName::Segment { timeline, .. }), Some(at)) =
        (parsed, parsed.and_then(|parsed| parsed.position(segment_bytes)))
    else {
        return Err(HandoverError::NoName { name: name.to_owned() });
    };
    let length = file.metadata().map_err(failed)?.len();
    if length != segment_bytes {
        return Err(misnamed(format!("it has {length} bytes, and a segment has {segment_bytes}")));
    }
    let mut header = [0; SegmentHead::BYTES];
    file.read_exact(&mut header).map_err(failed)?;
    file.seek(SeekFrom::Start(0)).map_err(failed)?;
    let head = SegmentHead::read(&header)
        .map_err(|cause| HandoverError::NoSegment { name: name.to_owned(), cause })?;
    if head.system != system {
        return Err(HandoverError::OtherCluster {
            name: name.to_owned(),
            expected: system,
            found: head.system,
        });
    }
    if head.at != at || head.segment_bytes != segment_bytes || head.timeline > timeline {
        return Err(misnamed(format!(
            "it begins at {} of timeline {}, in segments of {} bytes",
            head.at, head.timeline, head.segment_bytes
        )));
    }
    Ok((timeline, at))
}

/// Reads to the end, in steps.
pub(super) fn each_step(
    file: &mut impl io::Read,
    mut step: impl FnMut(&[u8]) -> Result<(), HandoverError>,
    path: &Path,
) -> Result<(), HandoverError> {
    let mut buffer = vec![0; STEP_BYTES];
    loop {
        let read = match file.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(cause) => return Err(HandoverError::File { path: path.to_owned(), cause }),
        };
        step(&buffer[..read])?;
    }
}

/// The hash of what is left of a file.
pub(super) fn hash(file: &mut File, path: &Path) -> Result<String, HandoverError> {
    let mut hasher = blake3::Hasher::new();
    each_step(
        file,
        |bytes| {
            hasher.update(bytes);
            Ok(())
        },
        path,
    )?;
    Ok(hasher.finalize().to_hex().to_string())
}
