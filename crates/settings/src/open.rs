//! Opening what the settings name: the key, the store, and the repository in it.

use std::io::IsTerminal as _;
use std::path::Path;
use std::sync::Arc;

use strongroom_model::{Failure, Remedy, World};
use strongroom_object_store::{Counts, OpenedStore, PlaceError, open_counted};
use strongroom_repository::keys::{KeyError, Passphrase, Unlock};
use strongroom_repository::store::ObjectStore;
use strongroom_repository::{OpenError, OpenOptions, Repository};

use crate::repository::hand_state_dir;
use crate::{RepositorySettings, machine_name};

/// Why the repository that was meant cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenRepositoryError {
    /// The place makes no sense.
    #[error(transparent)]
    Place(#[from] PlaceError),
    /// The key cannot be used.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// There is no repository, or it does not open.
    #[error(transparent)]
    Open(#[from] OpenError),
}

impl OpenRepositoryError {
    fn cause(&self) -> &dyn Failure {
        match self {
            Self::Place(cause) => cause,
            Self::Key(cause) => cause,
            Self::Open(cause) => cause,
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
    /// What opens the repository: the passphrase where one was named, else the key; `-` is typed on standard input.
    ///
    /// # Errors
    /// When the file cannot be read, others may read it, or it holds no key.
    pub fn unlock(&self) -> Result<Unlock, KeyError> {
        match (&self.passphrase_file, &self.key_file) {
            (Some(file), _) => Ok(Unlock::Passphrase(Passphrase::read(file)?)),
            (None, file) => {
                let file = file.as_deref().expect("settings are resolved only with a key or a passphrase");
                if file == Path::new("-") {
                    // A person at a terminal is told what is waited for; a pipe is not.
                    if std::io::stdin().is_terminal() {
                        eprintln!(
                            "Type the key (the lines K1 to K4 of the recovery kit, or the text of the key file):"
                        );
                    }
                    return Unlock::read_typed(std::io::stdin().lock());
                }
                Unlock::read_key(file)
            }
        }
    }

    /// Where what is remembered goes, and as whom the repository is opened.
    #[must_use]
    pub fn open_options(&self) -> OpenOptions {
        let state_dir = self.state_dir.clone().or_else(|| hand_state_dir(|name| std::env::var_os(name)));
        OpenOptions { state_dir, agent: machine_name(), ..OpenOptions::default() }
    }

    /// The store, with the counters of its requests. Nothing is asked of it yet.
    ///
    /// # Errors
    /// When the URL makes no sense.
    pub async fn open_counted(&self, world: &World) -> Result<OpenedStore, PlaceError> {
        open_counted(&self.url, self.s3.as_ref(), world).await
    }
}

/// An open repository, and what has been asked of its store so far.
#[derive(Debug, Clone)]
pub struct OpenedRepository {
    /// The repository.
    pub repository: Repository,
    /// The store that it lies in.
    pub store: Arc<dyn ObjectStore>,
    /// Requests and bytes as they went over the line.
    pub counts: Arc<Counts>,
}

/// Opens the repository that the settings name, as this machine: what is remembered of it lies in the state folder of the
/// configuration, or in the user's cache where there is no configuration.
///
/// # Errors
/// When the key cannot be used, or there is no repository that it opens.
pub async fn open_repository(
    settings: &RepositorySettings,
    world: &World,
) -> Result<OpenedRepository, OpenRepositoryError> {
    open_repository_with(settings, world, settings.open_options()).await
}

/// [`open_repository`] with other options than [`RepositorySettings::open_options`].
///
/// # Errors
/// As [`open_repository`].
pub async fn open_repository_with(
    settings: &RepositorySettings,
    world: &World,
    options: OpenOptions,
) -> Result<OpenedRepository, OpenRepositoryError> {
    let unlock = settings.unlock()?;
    let OpenedStore { store, counts } = settings.open_counted(world).await?;
    let repository = Repository::open(Arc::clone(&store), world.clone(), &unlock, options).await?;
    Ok(OpenedRepository { repository, store, counts })
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
