//! The files of a restic repository, in any of our stores, as the library that understands them asks for them.
//!
//! What always holds: they are only read. The library's trait has verbs that write; here each of them is refused, so a
//! restic repository is left as it was found, without a lock and without a key that is newer.

use std::str::FromStr as _;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use rustic_core::repofile::FileType;
use rustic_core::{BytesList, ErrorKind, Id, ReadBackend, RusticError, RusticResult, WriteBackend};
use strongroom_repository::layout::ObjectName;
use strongroom_repository::store::{ObjectStore, StoreError};
use tokio::runtime::Handle;

/// Files of one kind that are listed at most: 16 million packs of 16 MiB are 256 TiB.
const MOST_LISTED: usize = 1 << 24;

/// The store, asked from threads that may block.
#[derive(Debug)]
pub(crate) struct Shelf {
    store: Arc<dyn ObjectStore>,
    runtime: Handle,
    /// Why the store last failed: the library hands its errors on as text alone.
    trouble: Mutex<Option<StoreError>>,
}

impl Shelf {
    pub(crate) fn new(store: Arc<dyn ObjectStore>, runtime: Handle) -> Self {
        Self { store, runtime, trouble: Mutex::default() }
    }

    /// Why the store failed since this was asked last, where it did and the cause is no missing file.
    pub(crate) fn trouble(&self) -> Option<StoreError> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn ask<T>(&self, what: impl Future<Output = Result<T, StoreError>>) -> RusticResult<T> {
        self.runtime.block_on(what).map_err(|error| {
            let told = RusticError::new(ErrorKind::Backend, strongroom_model::chain(&error));
            if !matches!(error, StoreError::NotFound { .. }) {
                *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
            }
            told
        })
    }
}

fn path(kind: FileType, id: &Id) -> String {
    let (folder, hex) = (kind.dirname(), id.to_hex());
    let hex = hex.as_str();
    match kind {
        FileType::Config => folder.to_owned(),
        FileType::Pack => format!("{folder}/{}/{hex}", &hex[..2]),
        FileType::Key | FileType::Snapshot | FileType::Index => format!("{folder}/{hex}"),
    }
}

fn name(kind: FileType, id: &Id) -> ObjectName {
    ObjectName::foreign(&path(kind, id)).expect("folders and hex digits are letters of names")
}

fn only_read<T>() -> RusticResult<T> {
    Err(RusticError::new(ErrorKind::Backend, "an import only reads"))
}

impl ReadBackend for Shelf {
    fn location(&self) -> String {
        self.store.location()
    }

    fn list_with_size(&self, kind: FileType) -> RusticResult<Vec<(Id, u32)>> {
        let size = |bytes: u64| u32::try_from(bytes).unwrap_or(u32::MAX);
        if kind == FileType::Config {
            let config = name(kind, &Id::default());
            return match self.runtime.block_on(self.store.head(&config)) {
                Ok(info) => Ok(vec![(Id::default(), size(info.bytes))]),
                Err(StoreError::NotFound { .. }) => Ok(Vec::new()),
                Err(error) => self.ask(std::future::ready(Err(error))),
            };
        }
        let prefix = format!("{}/", kind.dirname());
        let (mut found, mut after) = (Vec::new(), None::<String>);
        loop {
            let page = self.ask(self.store.list(&prefix, after.as_deref()))?;
            after = page.objects.last().map(|object| object.name.clone());
            found.extend(page.objects.iter().filter_map(|object| {
                let id = object.name.rsplit('/').next().and_then(|step| Id::from_str(step).ok())?;
                Some((id, size(object.bytes)))
            }));
            if found.len() > MOST_LISTED {
                return Err(RusticError::new(
                    ErrorKind::Backend,
                    format!("more than {MOST_LISTED} files in {prefix}"),
                ));
            }
            if !page.more || after.is_none() {
                return Ok(found);
            }
        }
    }

    fn read_full(&self, kind: FileType, id: &Id) -> RusticResult<Bytes> {
        self.ask(self.store.get(&name(kind, id)))
    }

    fn read_partial(
        &self,
        kind: FileType,
        id: &Id,
        _cacheable: bool,
        offset: u32,
        length: u32,
    ) -> RusticResult<Bytes> {
        self.ask(self.store.get_range(&name(kind, id), offset.into(), length.into()))
    }

    fn warmup_path(&self, kind: FileType, id: &Id) -> String {
        path(kind, id)
    }
}

impl WriteBackend for Shelf {
    fn create(&self) -> RusticResult<()> {
        only_read()
    }

    fn write_bytes(&self, _: FileType, _: &Id, _: bool, _: BytesList) -> RusticResult<()> {
        only_read()
    }

    fn remove(&self, _: FileType, _: &Id, _: bool) -> RusticResult<()> {
        only_read()
    }
}
