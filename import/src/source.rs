//! The bytes of a file in a restic repository, as the source of a capture.
//!
//! A read asks for any range, from many threads at once; blobs that were decrypted are kept a while by the
//! library (32 MB), so a capture that goes through the file once fetches each about once.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::sync::{Mutex, PoisonError};

use rustic_core::DataId;
use rustic_core::repofile::Node;
use rustic_core::vfs::OpenFile;
use strongroom_block_io::{BlockIoError, BlockSource, Ranges};
use strongroom_model::ByteRange;

use crate::error::ImportError;
use crate::restic::{Found, Restic, guarded};

/// Blobs that come twice in a row and were looked at whether they are zeros. One is: that of restic's longest blob.
const MOST_LOOKED_AT: usize = 64;

pub(crate) struct ResticFile {
    restic: Restic,
    file: OpenFile,
    name: String,
    bytes: u64,
    /// What is not a hole, in order.
    allocated: Vec<ByteRange>,
    /// Why reading failed first, in our words.
    failed: Mutex<Option<ImportError>>,
}

impl fmt::Debug for ResticFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResticFile")
            .field("name", &self.name)
            .field("bytes", &self.bytes)
            .finish_non_exhaustive()
    }
}

impl ResticFile {
    pub(crate) fn open(restic: &Restic, found: &Found) -> Result<Self, ImportError> {
        let snapshot: String = found.snapshot.id.chars().take(8).collect();
        let name = format!("{} of the restic snapshot {snapshot}", found.path.display());
        guarded(|| {
            let node = restic.node(found)?;
            let file = restic.repository().open_file(&node).map_err(|error| restic.failed(&name, &error))?;
            let mut opened = Self {
                restic: restic.clone(),
                file,
                name,
                bytes: found.bytes,
                allocated: Vec::new(),
                failed: Mutex::default(),
            };
            opened.allocated = opened.without_holes(&node)?;
            Ok(opened)
        })
    }

    /// Why reading failed, where it did: what a capture says of it was made for disks.
    pub(crate) fn failure(&self) -> Option<ImportError> {
        self.failed.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// restic does not say where a file is empty, but a run of zeros is the same longest blob again and again: without it a
    /// nearly empty image of 1 TiB would be made and thrown away byte by byte.
    fn without_holes(&self, node: &Node) -> Result<Vec<ByteRange>, ImportError> {
        let wrong = |why: &str| ImportError::Read { what: self.name.clone(), why: why.to_owned() };
        let content = node.content.as_deref().unwrap_or_default();
        let mut looked_at: BTreeMap<DataId, bool> = BTreeMap::new();
        let (mut ranges, mut data_from, mut at) = (Vec::new(), 0, 0_u64);
        for (number, id) in content.iter().enumerate() {
            let entry = self.restic.repository().get_index_entry(id);
            let length = entry.map_err(|error| self.restic.failed(&self.name, &error))?.data_length();
            let neighbours =
                [number.checked_sub(1).map(|before| content[before]), content.get(number + 1).copied()];
            let zeros = neighbours.contains(&Some(*id))
                && match looked_at.get(id) {
                    Some(known) => *known,
                    None if looked_at.len() < MOST_LOOKED_AT => {
                        let bytes = self.bytes_at(at, length as usize)?;
                        let zeros = bytes.iter().all(|byte| *byte == 0);
                        looked_at.insert(*id, zeros);
                        zeros
                    }
                    None => false,
                };
            if zeros {
                ranges.extend(ByteRange::new(data_from, at).ok());
                data_from = at + u64::from(length);
            }
            at += u64::from(length);
        }
        if at != self.bytes {
            return Err(wrong(&format!("its contents have {at} bytes, its entry says {}", self.bytes)));
        }
        ranges.extend(ByteRange::new(data_from, at).ok());
        Ok(ranges)
    }

    /// All of the bytes asked for.
    fn bytes_at(&self, offset: u64, length: usize) -> Result<bytes::Bytes, ImportError> {
        let wrong = |why: String| ImportError::Read { what: self.name.clone(), why };
        let from =
            usize::try_from(offset).map_err(|_| wrong("it is too large for this machine".to_owned()))?;
        let bytes = self.restic.repository().read_file_at(&self.file, from, length);
        let bytes = bytes.map_err(|error| self.restic.failed(&self.name, &error))?;
        if bytes.len() == length {
            Ok(bytes)
        } else {
            Err(wrong(format!("{} bytes came for {length}", bytes.len())))
        }
    }
}

impl BlockSource for ResticFile {
    fn bytes(&self) -> u64 {
        self.bytes
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<(), BlockIoError> {
        let length = buffer.len() as u64;
        if length == 0 {
            return Ok(());
        }
        let outside = || BlockIoError::Outside { name: self.name.clone(), offset, length, bytes: self.bytes };
        let end = offset.checked_add(length).filter(|end| *end <= self.bytes);
        let range = end.and_then(|end| ByteRange::new(offset, end).ok()).ok_or_else(outside)?;
        let bytes = guarded(|| self.bytes_at(offset, buffer.len())).map_err(|error| {
            let cause = io::Error::other(error.to_string());
            self.failed.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
            BlockIoError::Read { name: self.name.clone(), range, cause }
        })?;
        buffer.copy_from_slice(&bytes);
        Ok(())
    }

    fn allocated(&self) -> Ranges<'_> {
        Box::new(self.allocated.iter().copied().map(Ok))
    }
}
