//! What the driver has promised: volumes, snapshots, mounts, and what is half done.
//!
//! A SQLite database with a write-ahead log and full synchronisation: when a method here returns, what it wrote
//! survives a power cut. A row in the state `creating`, or in the table `discarded`, is an intent: it is
//! written before the pool is touched, and settled or removed after. So at each moment of a crash the registry
//! names everything that may lie in the pool; see `reconcile`.

mod attachments;
mod costs;
mod deliveries;
mod docker;
mod ephemerals;
mod groups;
mod mounts;
mod points;
mod rows;
mod schema;
mod settings;
mod snapshots;
mod volumes;

use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use rusqlite::{Connection, OptionalExtension as _, Transaction, TransactionBehavior};

pub(crate) use deliveries::{Delivery, DeliveryStep};
pub(crate) use docker::ReferenceRow;
pub(crate) use ephemerals::EphemeralRow;
pub(crate) use groups::{CutMember, GroupRow};
pub(crate) use mounts::{ExchangeRow, ExchangeStep, MountRow};
pub(crate) use rows::{SnapshotRow, VolumeRow, VolumeStep};
pub(crate) use settings::Asked;

use crate::core_error::CoreError;
use crate::image::ImageName;
use crate::pool::Pool;

/// The open registry.
#[derive(Debug)]
pub(crate) struct Registry {
    connection: Mutex<Connection>,
    /// The pool, whose reserve is given away when a write finds no space: the registry may lie on it.
    pool: OnceLock<Arc<Pool>>,
}

impl Registry {
    /// Opens the registry at `path`, making it or bringing it up to date.
    pub(crate) fn open(path: &Path) -> Result<Self, CoreError> {
        // Made by us, so that nobody else may read it; SQLite gives its other files the same mode.
        OpenOptions::new()
            .create(true)
            .append(true)
            .mode(0o600)
            .open(path)
            .map_err(CoreError::system("opening the registry", path))?;
        let connection = Connection::open(path).map_err(failed("opening it"))?;
        let prepare = |connection: &Connection| {
            connection.pragma_update(None, "journal_mode", "WAL")?;
            connection.pragma_update(None, "synchronous", "FULL")?;
            connection.pragma_update(None, "foreign_keys", true)?;
            connection.busy_timeout(std::time::Duration::from_secs(5))
        };
        prepare(&connection).map_err(failed("preparing it"))?;
        let registry = Self { connection: Mutex::new(connection), pool: OnceLock::new() };
        registry.change("bringing it up to date", schema::migrate)?;
        Ok(registry)
    }

    fn lock(&self) -> MutexGuard<'_, Connection> {
        // A panic inside a transaction rolled it back.
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One transaction: all of it becomes durable or nothing.
    fn change<T>(
        &self,
        action: &'static str,
        work: impl Fn(&Transaction<'_>) -> rusqlite::Result<T>,
    ) -> Result<T, CoreError> {
        let mut connection = self.lock();
        let mut all = || {
            let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let value = work(&transaction)?;
            transaction.commit()?;
            Ok(value)
        };
        loop {
            match all() {
                Err(cause) if found_no_space(&cause) && self.make_room() => {
                    tracing::warn!(
                        action,
                        "the registry found no space; a part of the pool's reserve was given"
                    );
                }
                result => return result.map_err(failed(action)),
            }
        }
    }

    /// From now on the reserve of this pool is given away when a write finds no space.
    pub(crate) fn rests_on(&self, pool: Arc<Pool>) {
        // Set once, when the driver opens.
        let _ = self.pool.set(pool);
    }

    fn make_room(&self) -> bool {
        self.pool.get().is_some_and(|pool| pool.reserve().give())
    }

    fn ask<T>(
        &self,
        action: &'static str,
        work: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T, CoreError> {
        work(&self.lock()).map_err(failed(action))
    }

    /// The id of the pool that this registry belongs to.
    pub(crate) fn pool(&self) -> Result<Option<String>, CoreError> {
        self.ask("reading its pool", |connection| {
            connection.query_row("SELECT value FROM meta WHERE key = 'pool'", [], |row| row.get(0)).optional()
        })
    }

    /// Ties this registry to a pool.
    pub(crate) fn set_pool(&self, id: &str) -> Result<(), CoreError> {
        self.change("writing its pool", |transaction| {
            transaction
                .execute("INSERT OR REPLACE INTO meta (key, value) VALUES ('pool', ?1)", [id])
                .map(drop)
        })
    }

    /// The run of the kernel in which this registry was last made to agree with the machine.
    pub(crate) fn boot(&self) -> Result<Option<String>, CoreError> {
        self.ask("reading the last boot", |connection| {
            connection.query_row("SELECT value FROM meta WHERE key = 'boot'", [], |row| row.get(0)).optional()
        })
    }

    /// The registry agrees with the machine as it is in this run of the kernel.
    pub(crate) fn set_boot(&self, id: &str) -> Result<(), CoreError> {
        self.change("writing this boot", |transaction| {
            transaction
                .execute("INSERT OR REPLACE INTO meta (key, value) VALUES ('boot', ?1)", [id])
                .map(drop)
        })
    }

    /// What SQLite says of the integrity of the registry: `ok`, or what is damaged.
    pub(crate) fn check(&self) -> Result<Vec<String>, CoreError> {
        self.ask("checking it", |connection| {
            connection.prepare("PRAGMA integrity_check(10)")?.query_map([], |row| row.get(0))?.collect()
        })
    }

    /// Images that nothing refers to any more and that may still lie in the pool.
    pub(crate) fn discarded(&self) -> Result<Vec<ImageName>, CoreError> {
        self.ask("reading discarded images", |connection| {
            let mut statement = connection.prepare_cached("SELECT image FROM discarded ORDER BY image")?;
            statement.query_map([], |row| rows::parsed(row, 0))?.collect()
        })
    }

    /// An image that is about to be made counts as discarded already: whatever happens, it goes.
    pub(crate) fn discard_image(&self, image: &ImageName) -> Result<(), CoreError> {
        self.change("discarding an image", |transaction| discard(transaction, image.as_str()))
    }

    /// A discarded image is gone.
    pub(crate) fn forget_discarded(&self, image: &ImageName) -> Result<(), CoreError> {
        self.change("forgetting a discarded image", |transaction| {
            transaction.execute("DELETE FROM discarded WHERE image = ?1", [image.as_str()]).map(drop)
        })
    }
}

/// SQLite tells of a full disk in two ways, by which step it was that found out.
fn found_no_space(cause: &rusqlite::Error) -> bool {
    use rusqlite::ErrorCode::{DiskFull, SystemIoFailure};
    matches!(cause.sqlite_error_code(), Some(DiskFull | SystemIoFailure))
}

/// Whether opening the registry may have failed for want of space. SQLite then says that it cannot open a file.
pub(crate) fn may_lack_space(error: &CoreError) -> bool {
    match error {
        CoreError::Registry { cause, .. } => {
            found_no_space(cause) || cause.sqlite_error_code() == Some(rusqlite::ErrorCode::CannotOpen)
        }
        other => other.is_full(),
    }
}

fn discard(transaction: &Transaction<'_>, image: &str) -> rusqlite::Result<()> {
    transaction.execute("INSERT OR IGNORE INTO discarded (image) VALUES (?1)", [image]).map(drop)
}

fn failed(action: &'static str) -> impl FnOnce(rusqlite::Error) -> CoreError {
    move |cause| CoreError::Registry { action: action.to_owned(), cause }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_registry_of_a_later_version_is_refused_and_left_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("driver.sqlite");
        drop(Registry::open(&path).unwrap());
        drop(Registry::open(&path).unwrap());
        Connection::open(&path).unwrap().pragma_update(None, "user_version", 99).unwrap();
        let refused = Registry::open(&path).unwrap_err();
        assert!(
            strongroom_model::chain(&refused).contains("version 99"),
            "{}",
            strongroom_model::chain(&refused)
        );
    }

    #[test]
    fn a_file_that_is_no_registry_is_not_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("driver.sqlite");
        std::fs::write(&path, vec![b'x'; 8192]).unwrap();
        assert!(Registry::open(&path).is_err());
        assert_eq!(std::fs::read(&path).unwrap(), vec![b'x'; 8192]);
    }
}
