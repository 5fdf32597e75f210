//! Opening what the settings name: the key, the store, and the repository in it.

use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use strongroom_model::{Failure, Remedy, World};
use strongroom_object_store::copies::WithCopies;
use strongroom_object_store::spool::Spool;
use strongroom_object_store::throttle::Throttle;
use strongroom_object_store::{Counts, OpenedStore, PlaceError, StoreUrl, open_counted};
use strongroom_repository::keys::{KeyError, Passphrase, Unlock};
use strongroom_repository::store::{ObjectStore, StoreError};
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
        OpenOptions {
            state_dir: self.kept_in(),
            agent: machine_name(),
            domain: self.domain,
            ..OpenOptions::default()
        }
    }

    /// The folder of caches and of what is on its way, where there is one.
    fn kept_in(&self) -> Option<PathBuf> {
        self.state_dir.clone().or_else(|| hand_state_dir(|name| std::env::var_os(name)))
    }

    /// The store, with the counters of its requests. Nothing is asked of it yet.
    ///
    /// # Errors
    /// When the URL makes no sense.
    pub async fn open_counted(&self, world: &World) -> Result<OpenedStore, PlaceError> {
        let OpenedStore { store, counts } = open_counted(&self.url, self.s3.as_ref(), world).await?;
        let store: Arc<dyn ObjectStore> = match &self.limits {
            None => store,
            Some((limits, zone)) => {
                Arc::new(Throttle::new(store, limits.clone(), zone.clone(), Arc::clone(&world.clock)))
            }
        };
        // Requests are what a bucket costs; a folder has none to save.
        let is_bucket = matches!(self.url.parse(), Ok(StoreUrl::S3 { .. }));
        let store: Arc<dyn ObjectStore> = match self.kept_in().filter(|_| is_bucket) {
            Some(state_dir) => Arc::new(Spool::new(store, state_dir.join("spool"))),
            None => store,
        };
        Ok(OpenedStore { store, counts })
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

/// Opens the repository that the settings name, to read from it: packs that it does not give are read from its copies, and
/// where it does not answer at all a copy is opened in its place, loudly.
///
/// # Errors
/// When neither the repository nor any of its copies can be opened: why the repository cannot.
pub async fn open_repository_to_read(
    settings: &RepositorySettings,
    world: &World,
) -> Result<OpenedRepository, OpenRepositoryError> {
    let unlock = settings.unlock()?;
    let mut copies = Vec::new();
    for copy in &settings.copies {
        copies.push(settings.of_copy(copy).open_counted(world).await?.store);
    }
    let OpenedStore { store, counts } = settings.open_counted(world).await?;
    let options = settings.open_options();
    let first = with_copies(store, &copies);
    let opened = Repository::open(Arc::clone(&first), world.clone(), &unlock, options.clone()).await;
    let error = match opened {
        Ok(repository) => return Ok(OpenedRepository { repository, store: first, counts }),
        Err(error) => error,
    };
    if !is_gone(&error) {
        return Err(error.into());
    }
    for (number, copy) in copies.iter().enumerate() {
        let rest: Vec<_> = copies[number + 1..].to_vec();
        let store = with_copies(Arc::clone(copy), &rest);
        match Repository::open(Arc::clone(&store), world.clone(), &unlock, options.clone()).await {
            Ok(repository) => {
                tracing::warn!(
                    repository = settings.url,
                    error = strongroom_model::chain(&error),
                    copy = copy.location(),
                    until = repository.high_water().0,
                    "the repository cannot be opened; reading its copy instead"
                );
                return Ok(OpenedRepository { repository, store, counts });
            }
            Err(cause) => tracing::warn!(
                copy = copy.location(),
                error = strongroom_model::chain(&cause),
                "the copy cannot be opened either"
            ),
        }
    }
    Err(error.into())
}

fn with_copies(first: Arc<dyn ObjectStore>, copies: &[Arc<dyn ObjectStore>]) -> Arc<dyn ObjectStore> {
    if copies.is_empty() { first } else { Arc::new(WithCopies::new(first, copies.to_vec())) }
}

/// Whether there is nothing to be read at a place, or nobody there to give it. A wrong key, or a journal that is not what it
/// should be, is no reason to read something else.
fn is_gone(error: &OpenError) -> bool {
    match error {
        OpenError::NoRepository { .. } => true,
        OpenError::Store { cause, .. } => matches!(
            cause,
            StoreError::NoSuchPlace { .. } | StoreError::Unavailable { .. } | StoreError::Refused { .. }
        ),
        OpenError::Journal(cause) => matches!(cause.remedy(), Remedy::Retry),
        OpenError::Head { .. } | OpenError::Key { .. } | OpenError::Index(_) => false,
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
