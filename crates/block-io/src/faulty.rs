//! A source or target that fails on purpose, for tests.

use std::io;
use std::sync::Mutex;
use std::sync::PoisonError;

use strongroom_model::ByteRange;

use crate::{BlockIoError, BlockSource, BlockTarget, Ranges};

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Reading anything of this range fails with EIO.
    Read(ByteRange),
    /// Writing or zeroing anything of this range fails with EIO.
    Write(ByteRange),
    /// After this many more bytes were written, the place is full.
    FullAfter(u64),
    /// Making things durable fails with EIO.
    Sync,
}

/// Passes everything on, but for the faults that were put in.
#[derive(Debug)]
pub struct Faulty<T> {
    inner: T,
    faults: Mutex<Vec<Fault>>,
}

impl<T> Faulty<T> {
    /// No faults yet.
    pub const fn new(inner: T) -> Self {
        Self { inner, faults: Mutex::new(Vec::new()) }
    }

    /// Adds a fault.
    pub fn add(&self, fault: Fault) {
        self.faults.lock().unwrap_or_else(PoisonError::into_inner).push(fault);
    }

    /// Takes all faults out again.
    pub fn heal(&self) {
        self.faults.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// What is behind.
    pub const fn inner(&self) -> &T {
        &self.inner
    }

    /// The first error number that the faults have for this access, if any.
    fn struck(&self, mut by: impl FnMut(&mut Fault) -> Option<rustix::io::Errno>) -> Option<io::Error> {
        let mut faults = self.faults.lock().unwrap_or_else(PoisonError::into_inner);
        faults.iter_mut().find_map(&mut by).map(io::Error::from)
    }

    fn struck_by_write(&self, range: ByteRange) -> Option<io::Error> {
        self.struck(|fault| match fault {
            Fault::Write(bad) if bad.intersection(&range).is_some() => Some(rustix::io::Errno::IO),
            Fault::FullAfter(left) if *left < range.len() => Some(rustix::io::Errno::NOSPC),
            Fault::FullAfter(left) => {
                *left -= range.len();
                None
            }
            _ => None,
        })
    }
}

const NAME: &str = "a faulty volume";

impl<T: BlockSource> BlockSource for Faulty<T> {
    fn bytes(&self) -> u64 {
        self.inner.bytes()
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<(), BlockIoError> {
        if let Ok(range) = ByteRange::at(offset, buffer.len() as u64) {
            let struck = self.struck(|fault| match fault {
                Fault::Read(bad) if bad.intersection(&range).is_some() => Some(rustix::io::Errno::IO),
                _ => None,
            });
            if let Some(cause) = struck {
                return Err(BlockIoError::Read { name: NAME.to_owned(), range, cause });
            }
        }
        self.inner.read_at(offset, buffer)
    }

    fn allocated(&self) -> Ranges<'_> {
        self.inner.allocated()
    }
}

impl<T: BlockTarget> BlockTarget for Faulty<T> {
    fn write_at(&self, offset: u64, data: &[u8]) -> Result<(), BlockIoError> {
        if let Ok(range) = ByteRange::at(offset, data.len() as u64)
            && let Some(cause) = self.struck_by_write(range)
        {
            return Err(BlockIoError::Write { name: NAME.to_owned(), range, cause });
        }
        self.inner.write_at(offset, data)
    }

    fn zero(&self, range: ByteRange) -> Result<(), BlockIoError> {
        match self.struck_by_write(range) {
            Some(cause) => Err(BlockIoError::Write { name: NAME.to_owned(), range, cause }),
            None => self.inner.zero(range),
        }
    }

    fn sync(&self) -> Result<(), BlockIoError> {
        match self.struck(|fault| (*fault == Fault::Sync).then_some(rustix::io::Errno::IO)) {
            Some(cause) => Err(BlockIoError::Sync { name: NAME.to_owned(), cause }),
            None => self.inner.sync(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::MemoryVolume;

    #[test]
    fn faults_strike_where_they_were_put_and_nowhere_else() {
        let volume = Faulty::new(MemoryVolume::new(8192));
        volume.add(Fault::Read(ByteRange::new(4096, 4097).unwrap()));
        volume.add(Fault::FullAfter(10));
        assert!(volume.read_at(0, &mut [0; 4096]).is_ok());
        assert!(volume.read_at(1, &mut [0; 4096]).is_err());
        assert!(volume.write_at(0, &[1; 10]).is_ok());
        assert!(volume.write_at(0, &[1; 1]).unwrap_err().is_full());
        volume.heal();
        assert!(volume.write_at(0, &[1; 1]).is_ok());
    }
}
