//! `strongroom init`: a new repository and, where there is none yet, its key.

use std::path::PathBuf;

use serde::Serialize;
use strongroom_console::{Console, Exit, Failed, Size};
use strongroom_model::{Failure, RepositoryId, World};
use strongroom_object_store::{make_place, probe};
use strongroom_repository::abilities::Abilities;
use strongroom_repository::keys::{DataSeal, KeyFile, Passphrase, Unlock};
use strongroom_repository::layout::ObjectName;
use strongroom_repository::store::StoreError;
use strongroom_repository::{InitError, InitOptions, Repository};
use strongroom_settings::{RepositoryArgs, RepositorySettings};

/// `strongroom init`
#[derive(Debug, clap::Args)]
pub struct InitArgs {
    #[command(flatten)]
    repository: RepositoryArgs,
    /// The size of a chunk: a power of two from 16KiB to 1MiB
    #[arg(long, value_name = "SIZE", default_value = "64KiB")]
    chunk_size: Size,
    /// Seal data so that keys can be given out which write it and cannot read it
    #[arg(long)]
    write_only_agents: bool,
    /// Let key domains share it: tenants who see neither data nor names nor equality of each other
    #[arg(long)]
    shared: bool,
}

/// What was made.
#[derive(Debug, Serialize)]
struct Made {
    repository: RepositoryId,
    location: String,
    chunk_bytes: u32,
    key_file: Option<PathBuf>,
    made_key_file: bool,
    passphrase_slot: bool,
    several_writers: bool,
    shared: bool,
    abilities: Abilities,
    warnings: Vec<String>,
}

/// The store was asked and did not do what a repository needs.
#[derive(Debug, thiserror::Error)]
#[error("trying what the store at {location} can do")]
struct ProbeError {
    location: String,
    #[source]
    cause: StoreError,
}

impl Failure for ProbeError {
    fn code(&self) -> &'static str {
        self.cause.code()
    }

    fn remedy(&self) -> strongroom_model::Remedy {
        self.cause.remedy()
    }

    fn advice(&self) -> String {
        self.cause.advice()
    }
}

pub(super) async fn run(args: InitArgs, console: &Console, world: &World) -> Result<Exit, Failed> {
    let settings = args.repository.resolve()?;
    make_place(&settings.url)?;
    let store = settings.open_counted(world).await?.store;
    let location = store.location();
    // Asked before a key is made, so that a second `init` leaves no key behind that opens nothing.
    match store.head(&ObjectName::head()).await {
        Ok(_) => return Err(InitError::Exists { location }.into()),
        Err(StoreError::NotFound { .. }) => {}
        Err(cause) => return Err(ProbeError { location, cause }.into()),
    }
    let abilities = probe::probe(&*store, world)
        .await
        .map_err(|cause| ProbeError { location: location.clone(), cause })?;
    // The key is durable before the first object that needs it.
    let (unlock, made_key_file) = keys(&settings, world)?;
    let warnings = abilities.warnings();
    let chunk_bytes = u32::try_from(args.chunk_size.0).unwrap_or(u32::MAX);
    let data_seal = if args.write_only_agents || args.shared { DataSeal::Split } else { DataSeal::Open };
    let options = InitOptions {
        chunk_bytes,
        data_seal,
        shared: args.shared,
        ..InitOptions::new(abilities.clone(), settings.open_options())
    };
    let repository = Repository::init(store, world.clone(), options, &unlock).await?;
    let made = Made {
        repository: repository.id(),
        location,
        chunk_bytes: repository.chunk_bytes(),
        passphrase_slot: settings.passphrase_file.is_some(),
        key_file: settings.key_file,
        made_key_file,
        several_writers: abilities.several_writers(),
        shared: repository.is_shared(),
        abilities,
        warnings,
    };
    for warning in &made.warnings {
        console.warn(warning);
    }
    console.result(&made, |text| {
        text.facts([
            ("repository", made.repository.to_string()),
            ("location", made.location.clone()),
            ("chunks", Size(made.chunk_bytes.into()).to_string()),
            ("writers", if made.several_writers { "several".into() } else { "ONE agent only".to_owned() }),
            ("key", key_line(&made)),
        ]);
        if made.made_key_file {
            text.gap().line("Keep a copy of the key file somewhere else: without a key nobody can read the repository, we neither.");
        }
    });
    Ok(Exit::Done)
}

fn key_line(made: &Made) -> String {
    let file = made
        .key_file
        .as_ref()
        .map(|path| format!("{}{}", path.display(), if made.made_key_file { " (made now)" } else { "" }));
    match (file, made.passphrase_slot) {
        (Some(file), true) => format!("{file}, and a passphrase"),
        (Some(file), false) => file,
        (None, _) => "a passphrase".into(),
    }
}

/// The keys that will open the repository; whether the key file was made.
fn keys(settings: &RepositorySettings, world: &World) -> Result<(Vec<Unlock>, bool), Failed> {
    let (mut unlock, mut made) = (Vec::new(), false);
    if let Some(path) = &settings.key_file {
        if path.as_os_str() == "-" {
            // Typed: there must be one already.
            return Ok((vec![settings.unlock()?], false));
        }
        let key = if path.exists() {
            KeyFile::read(path)?
        } else {
            let key = KeyFile::generate(&*world.entropy);
            key.write_new(path)?;
            made = true;
            key
        };
        unlock.push(Unlock::KeyFile(key));
    }
    if let Some(path) = &settings.passphrase_file {
        unlock.push(Unlock::Passphrase(Passphrase::read(path)?));
    }
    Ok((unlock, made))
}
