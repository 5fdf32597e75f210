//! Gathers what is uploaded in a file of this machine first, so that a pack of 64 MiB is one request and not ten.
//!
//! Stores want to know how long a body is before it begins, and how long a pack will be shows only at its end. In memory that
//! would cost a pack for each that is on its way; in the page cache it costs nothing that the kernel could not take back. The
//! files have no name, so a kill leaves none, and what is in them is sealed.
//!
//! How many may be on their way at once follows the line (`window`). A file that does not arrive whole goes in parts after
//! all, each of which is sent again by itself; the same where the line is held to a rate. Where there is no room for
//! files, uploads go through as they come.

mod window;

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _};
use jiff::Timestamp;
use rustix::fs::{Mode, OFlags};
use strongroom_repository::abilities::Claims;
use strongroom_repository::layout::ObjectName;
use strongroom_repository::store::{
    Deleted, ListPage, ObjectInfo, ObjectStore, PART_BYTES, StoreError, Upload,
};

use self::window::Window;
use crate::parts::bytes_of_parts;

/// What stays free on the disk beside the files: it may be that of databases.
const LEFT_FREE_BYTES: u64 = 1 << 30;

/// Parts of a file under way at once, where it goes in parts.
const PARTS_AT_ONCE: usize = 3;

/// A store whose uploads are gathered in files.
#[derive(Debug)]
pub struct Spool {
    inner: Arc<dyn ObjectStore>,
    folder: PathBuf,
    window: Arc<Window>,
}

impl Spool {
    /// Gathers in `folder`, which is made when it is needed, what is uploaded to `inner`.
    #[must_use]
    pub fn new(inner: Arc<dyn ObjectStore>, folder: PathBuf) -> Self {
        Self { inner, folder, window: Arc::default() }
    }

    /// A file without a name, where there is room for it.
    fn file(&self) -> Option<File> {
        let opened = spool_file(&self.folder);
        if let Err(cause) = &opened {
            tracing::debug!(folder = %self.folder.display(), %cause, "packs are not gathered in files");
        }
        opened.ok()
    }
}

fn spool_file(folder: &Path) -> std::io::Result<File> {
    std::fs::create_dir_all(folder)?;
    let room = rustix::fs::statvfs(folder)?;
    if room.f_bavail.saturating_mul(room.f_frsize) < LEFT_FREE_BYTES {
        return Err(rustix::io::Errno::NOSPC.into());
    }
    nameless_file(folder)
}

/// A file that is gone when nobody has it open any more.
pub(crate) fn nameless_file(folder: &Path) -> std::io::Result<File> {
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    Ok(rustix::fs::open(folder, flags, Mode::RUSR | Mode::WUSR)?.into())
}

#[async_trait]
impl ObjectStore for Spool {
    fn location(&self) -> String {
        self.inner.location()
    }

    async fn create(&self, name: &ObjectName, body: Bytes) -> Result<(), StoreError> {
        self.inner.create(name, body).await
    }

    async fn put(&self, name: &ObjectName, body: Bytes) -> Result<(), StoreError> {
        self.inner.put(name, body).await
    }

    async fn upload(&self, name: &ObjectName) -> Result<Box<dyn Upload>, StoreError> {
        let file = if self.inner.takes_files() { self.file() } else { None };
        let Some(file) = file else { return self.inner.upload(name).await };
        // Whoever fills a file holds nothing that others wait for; whoever sends one ends.
        self.window.wait_for_room().await;
        Ok(Box::new(SpooledUpload {
            inner: Arc::clone(&self.inner),
            window: Arc::clone(&self.window),
            name: name.clone(),
            file: Arc::new(file),
            written: Mutex::default(),
            parts: tokio::sync::Mutex::default(),
            arrived_whole: AtomicBool::default(),
        }))
    }

    async fn get(&self, name: &ObjectName) -> Result<Bytes, StoreError> {
        self.inner.get(name).await
    }

    async fn get_range(&self, name: &ObjectName, start: u64, length: u64) -> Result<Bytes, StoreError> {
        self.inner.get_range(name, start, length).await
    }

    async fn head(&self, name: &ObjectName) -> Result<ObjectInfo, StoreError> {
        self.inner.head(name).await
    }

    async fn list(&self, prefix: &str, after: Option<&str>) -> Result<ListPage, StoreError> {
        self.inner.list(prefix, after).await
    }

    async fn delete(&self, name: &ObjectName) -> Result<Deleted, StoreError> {
        self.inner.delete(name).await
    }

    fn distrust(&self, name: &ObjectName) -> bool {
        self.inner.distrust(name)
    }

    fn lock_span(&self) -> Option<Duration> {
        self.inner.lock_span()
    }

    async fn prolong(&self, name: &ObjectName) -> Result<Option<Timestamp>, StoreError> {
        self.inner.prolong(name).await
    }

    async fn claims(&self, scratch: &ObjectName) -> Result<Claims, StoreError> {
        self.inner.claims(scratch).await
    }
}

/// An upload whose parts are in a file.
#[derive(Debug)]
struct SpooledUpload {
    inner: Arc<dyn ObjectStore>,
    window: Arc<Window>,
    name: ObjectName,
    file: Arc<File>,
    written: Mutex<Vec<Written>>,
    /// What the file goes by where it does not go whole.
    parts: tokio::sync::Mutex<Option<Box<dyn Upload>>>,
    /// It arrived whole, with its checksum.
    arrived_whole: AtomicBool,
}

/// A part, by its number.
#[derive(Debug, Clone, Copy, Default)]
struct Written {
    /// 0: it is not there.
    bytes: usize,
    /// There was no room for it in the file: the store has it already.
    is_sent: bool,
}

impl SpooledUpload {
    fn rejected(&self, reason: String) -> StoreError {
        StoreError::Rejected { location: self.inner.location(), name: self.name.as_str().to_owned(), reason }
    }

    fn broken(&self, cause: &std::io::Error) -> StoreError {
        StoreError::Unavailable {
            location: self.inner.location(),
            name: self.name.as_str().to_owned(),
            reason: format!("the file that gathers it cannot be read: {cause}"),
        }
    }

    fn note(&self, number: u32, bytes: usize, is_sent: bool) {
        let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        let number = number as usize;
        if written.len() <= number {
            written.resize(number + 1, Written::default());
        }
        written[number] = Written { bytes, is_sent };
    }

    /// The parts `0..parts`, which are all there, and how many bytes they have.
    fn complete_parts(&self, parts: u32) -> Result<(Vec<Written>, u64), StoreError> {
        let written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        let there = |number: u32| written.get(number as usize).filter(|part| part.bytes > 0);
        let bytes = bytes_of_parts(parts, |number| there(number).map(|part| part.bytes as u64))
            .map_err(|reason| self.rejected(reason))?;
        Ok((written[..parts as usize].to_vec(), bytes))
    }

    async fn read(&self, number: u32, bytes: usize) -> Result<Bytes, StoreError> {
        let file = Arc::clone(&self.file);
        let read = tokio::task::spawn_blocking(move || {
            let mut body = vec![0; bytes];
            file.read_exact_at(&mut body, start_of(number)).map(|()| body)
        });
        let body = read.await.expect("reading does not panic");
        Ok(body.map_err(|cause| self.broken(&cause))?.into())
    }

    /// The upload by which it goes in parts, begun where it is not yet.
    async fn begun<'a>(&self, parts: &'a mut Option<Box<dyn Upload>>) -> Result<&'a dyn Upload, StoreError> {
        Ok(match parts {
            Some(upload) => &**upload,
            none => &**none.insert(self.inner.upload(&self.name).await?),
        })
    }

    async fn send_in_parts(&self, written: &[Written]) -> Result<(), StoreError> {
        let mut begun = self.parts.lock().await;
        let upload = self.begun(&mut begun).await?;
        let unsent: Vec<(u32, Written)> =
            (0..).zip(written.iter().copied()).filter(|(_, part)| !part.is_sent).collect();
        futures::stream::iter(unsent)
            .map(|(number, part)| async move {
                let body = self.read(number, part.bytes).await?;
                upload.part(number, body).await
            })
            .buffer_unordered(PARTS_AT_ONCE)
            .try_collect::<()>()
            .await?;
        upload.complete(u32::try_from(written.len()).unwrap_or(u32::MAX)).await
    }
}

const fn start_of(number: u32) -> u64 {
    number as u64 * PART_BYTES as u64
}

#[async_trait]
impl Upload for SpooledUpload {
    async fn part(&self, number: u32, body: Bytes) -> Result<(), StoreError> {
        if body.is_empty() || body.len() > PART_BYTES {
            return Err(self.rejected(format!("part {number} has {} bytes", body.len())));
        }
        if number >= 10_000 {
            return Err(self.rejected("an upload has at most 10000 parts".to_owned()));
        }
        let (file, part) = (Arc::clone(&self.file), body.clone());
        let write = tokio::task::spawn_blocking(move || file.write_all_at(&part, start_of(number)));
        let written = write.await.expect("writing does not panic");
        if let Err(cause) = &written {
            tracing::warn!(name = %self.name, %cause, "there is no more room to gather it in a file; it goes in parts");
            let mut begun = self.parts.lock().await;
            self.begun(&mut begun).await?.part(number, body.clone()).await?;
        }
        self.note(number, body.len(), written.is_err());
        Ok(())
    }

    async fn complete(&self, parts: u32) -> Result<(), StoreError> {
        let (written, bytes) = self.complete_parts(parts)?;
        let sending = self.window.begin(bytes);
        let whole = self.inner.takes_files() && self.parts.lock().await.is_none();
        let sent = if whole {
            match self.inner.put_file(&self.name, &self.file, bytes).await {
                Err(error) if error.is_transient() => {
                    tracing::debug!(name = %self.name, %error, "it did not arrive whole, and goes in parts");
                    self.window.shrink();
                    self.send_in_parts(&written).await
                }
                sent => {
                    self.arrived_whole.store(sent.is_ok(), Ordering::Relaxed);
                    sent
                }
            }
        } else {
            self.send_in_parts(&written).await
        };
        sending.end(sent.is_ok());
        sent
    }

    fn is_proved(&self) -> bool {
        self.arrived_whole.load(Ordering::Relaxed)
    }

    async fn abort(&self) -> Result<(), StoreError> {
        match &*self.parts.lock().await {
            Some(upload) => upload.abort().await,
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conformance::{self, Scope};
    use crate::faulty::{Failing, Fault, Faulty, Rule};
    use crate::memory::MemoryStore;
    use crate::record::{Record, Verb};

    /// Takes files, as a bucket does.
    #[derive(Debug)]
    struct Bucket(Arc<dyn ObjectStore>);

    macro_rules! forwarded {
        ($($name:ident($($arg:ident: $type:ty),*) -> $answer:ty;)*) => {
            #[async_trait]
            impl ObjectStore for Bucket {
                fn location(&self) -> String {
                    self.0.location()
                }
                fn takes_files(&self) -> bool {
                    true
                }
                $(async fn $name(&self, $($arg: $type),*) -> Result<$answer, StoreError> {
                    self.0.$name($($arg),*).await
                })*
            }
        };
    }
    forwarded! {
        create(name: &ObjectName, body: Bytes) -> ();
        put(name: &ObjectName, body: Bytes) -> ();
        upload(name: &ObjectName) -> Box<dyn Upload>;
        put_file(name: &ObjectName, file: &File, bytes: u64) -> ();
        get(name: &ObjectName) -> Bytes;
        get_range(name: &ObjectName, start: u64, length: u64) -> Bytes;
        head(name: &ObjectName) -> ObjectInfo;
        list(prefix: &str, after: Option<&str>) -> ListPage;
        delete(name: &ObjectName) -> Deleted;
    }

    /// Three parts, the last one short.
    async fn send(store: &dyn ObjectStore, name: &ObjectName) -> Result<(), StoreError> {
        let upload = store.upload(name).await?;
        for (number, bytes) in [(2, 99), (0, PART_BYTES), (1, PART_BYTES)] {
            upload.part(number, vec![u8::try_from(number).unwrap(); bytes].into()).await?;
        }
        upload.complete(3).await
    }

    async fn stands(store: &dyn ObjectStore, name: &ObjectName) {
        let body = store.get(name).await.unwrap();
        assert_eq!(body.len(), 2 * PART_BYTES + 99);
        assert!(
            body.chunks(PART_BYTES).zip(0..).all(|(part, number)| part.iter().all(|byte| *byte == number))
        );
    }

    #[tokio::test]
    async fn what_goes_through_files_keeps_every_promise() {
        let folder = tempfile::tempdir().unwrap();
        let store = Spool::new(Arc::new(Bucket(Arc::new(MemoryStore::default()))), folder.path().join("a/b"));
        conformance::all(&store, Scope([1; 16])).await;
        assert!(std::fs::read_dir(folder.path().join("a/b")).unwrap().next().is_none(), "a file was left");
    }

    #[tokio::test]
    async fn a_pack_is_one_request_and_goes_in_parts_where_that_fails() {
        let folder = tempfile::tempdir().unwrap();
        let faulty = Arc::new(Faulty::new(Arc::new(MemoryStore::default())));
        let record = Record::new(Arc::<Faulty>::clone(&faulty));
        let counts = record.counts();
        let store = Spool::new(Arc::new(Bucket(Arc::new(record))), folder.path().to_owned());
        let name = ObjectName::journal(1);
        send(&store, &name).await.unwrap();
        stands(&store, &name).await;
        assert_eq!((counts.requests(Verb::Put), counts.requests(Verb::Part)), (1, 0));

        faulty.plan(Rule::nth(1, Verb::Put, Fault::FailBefore(Failing::Unavailable)));
        let name = ObjectName::journal(2);
        send(&store, &name).await.unwrap();
        stands(&store, &name).await;
        assert_eq!((counts.requests(Verb::Put), counts.requests(Verb::Part)), (2, 3));
    }

    #[tokio::test]
    async fn where_no_file_can_be_made_uploads_go_through() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("taken"), b"").unwrap();
        let record = Record::new(Arc::new(MemoryStore::default()));
        let counts = record.counts();
        let store = Spool::new(Arc::new(Bucket(Arc::new(record))), folder.path().join("taken"));
        let name = ObjectName::journal(1);
        send(&store, &name).await.unwrap();
        stands(&store, &name).await;
        assert_eq!((counts.requests(Verb::Put), counts.requests(Verb::Part)), (0, 3));
    }
}
