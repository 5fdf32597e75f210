//! Opening what the settings name: the key, and the store.

use std::sync::Arc;

use strongroom_model::{Failure, Remedy, World};
use strongroom_object_store::{OpenedStore, PlaceError, open_counted};
use strongroom_repository::keys::{KeyError, KeyFile, Passphrase, Unlock};
use strongroom_repository::store::ObjectStore;

use crate::RepositorySettings;

/// Why the repository that was meant cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenRepositoryError {
    /// The place makes no sense.
    #[error(transparent)]
    Place(#[from] PlaceError),
    /// The key cannot be used.
    #[error(transparent)]
    Key(#[from] KeyError),
}

impl OpenRepositoryError {
    fn cause(&self) -> &dyn Failure {
        match self {
            Self::Place(cause) => cause,
            Self::Key(cause) => cause,
        }
    }
}

impl Failure for OpenRepositoryError {
    fn code(&self) -> &'static str {
        self.cause().code()
    }

    fn remedy(&self) -> Remedy {
        self.cause().remedy()
    }

    fn advice(&self) -> String {
        self.cause().advice()
    }
}

impl RepositorySettings {
    /// What opens the repository: the passphrase where one was named, else the key.
    ///
    /// # Errors
    /// When the file cannot be read, others may read it, or it holds no key.
    pub fn unlock(&self) -> Result<Unlock, KeyError> {
        match (&self.passphrase_file, &self.key_file) {
            (Some(file), _) => Ok(Unlock::Passphrase(Passphrase::read(file)?)),
            (None, file) => {
                let file = file.as_deref().expect("settings are resolved only with a key or a passphrase");
                Ok(Unlock::KeyFile(KeyFile::read(file)?))
            }
        }
    }

    /// The store, with the counters of its requests. Nothing is asked of it yet.
    ///
    /// # Errors
    /// When the URL makes no sense.
    pub async fn open_counted(&self, world: &World) -> Result<OpenedStore, PlaceError> {
        open_counted(&self.url, self.s3.as_ref(), world).await
    }
}

/// The store that the settings name. Nothing is asked of it yet.
///
/// # Errors
/// When the URL makes no sense.
pub async fn open_store(
    settings: &RepositorySettings,
    world: &World,
) -> Result<Arc<dyn ObjectStore>, PlaceError> {
    Ok(settings.open_counted(world).await?.store)
}
