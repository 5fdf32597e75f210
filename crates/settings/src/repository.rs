//! Which repository a command means, and with which key: flag before environment before configuration file.

use std::path::{Path, PathBuf};

use jiff::tz::TimeZone;
use strongroom_model::{Failure, Remedy};
use strongroom_object_store::S3Settings;
use strongroom_object_store::throttle::RateLimit;

use crate::{AgentConfig, Config, ConfigError, CopyConfig, LimitConfig, TimeZoneName};

/// The flags that every command about a repository takes.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct RepositoryArgs {
    /// Where the repository is: s3://bucket/prefix, file:///path or a path
    #[arg(long, value_name = "URL", env = "STRONGROOM_REPOSITORY")]
    pub repository: Option<String>,
    /// The file that holds its key, or a recovery kit; `-` to type it
    #[arg(long, value_name = "KEY", env = "STRONGROOM_KEY_FILE")]
    pub key_file: Option<PathBuf>,
    /// A file that holds the passphrase of a key slot, instead of the key
    #[arg(long, value_name = "FILE")]
    pub passphrase_file: Option<PathBuf>,
    /// The number of the key domain that is meant, where the repository is shared; 0 is the operator's
    #[arg(long, value_name = "NUMBER", env = "STRONGROOM_DOMAIN")]
    pub domain: Option<u32>,
    /// The configuration file; flags and environment come before it
    #[arg(long, value_name = "FILE", env = "STRONGROOM_CONFIG")]
    pub config: Option<PathBuf>,
}

/// Which repository is meant and what opens it.
#[derive(Debug, Clone, PartialEq)]
pub struct RepositorySettings {
    /// Where it is.
    pub url: String,
    /// How to talk to S3.
    pub s3: Option<S3Settings>,
    /// The file with the key.
    pub key_file: Option<PathBuf>,
    /// The file with the passphrase. It comes before the key file where a repository is opened: a key file may be there
    /// by habit, in the environment or the configuration; a passphrase is asked for.
    pub passphrase_file: Option<PathBuf>,
    /// Which key domain is meant, where the repository is shared; `None`: the one that the key opens.
    pub domain: Option<u32>,
    /// Where caches and the high-water mark go, when the configuration says so.
    pub state_dir: Option<PathBuf>,
    /// Its second copies, where the configuration names them for this very repository.
    pub copies: Vec<CopyConfig>,
    /// How fast the line may be used, and where the days of that begin. Only who says [`Self::limited`] is held to it: a
    /// restore by hand is in a hurry.
    pub limits: Option<(Vec<RateLimit>, TimeZone)>,
}

impl RepositorySettings {
    /// How a copy is reached.
    #[must_use]
    pub fn of_copy(&self, copy: &CopyConfig) -> Self {
        let s3 = copy.s3.clone().or_else(|| self.s3.clone());
        Self { url: copy.url.clone(), s3, copies: Vec::new(), ..self.clone() }
    }

    /// The same, held to the rate limits of the configuration. `here` is the machine's own time zone.
    #[must_use]
    pub fn limited(self, agent: &AgentConfig, here: &TimeZone) -> Self {
        if agent.limits.is_empty() {
            return self;
        }
        let zone = agent.time_zone.as_ref().map_or(here, TimeZoneName::get).clone();
        Self { limits: Some((agent.limits.iter().map(LimitConfig::limit).collect(), zone)), ..self }
    }

    /// The same, with another storage class for new data packs, where one is given.
    #[must_use]
    pub fn in_class(self, class: Option<String>) -> Self {
        let Some(class) = class else { return self };
        let s3 = S3Settings { storage_class: Some(class), ..self.s3.clone().unwrap_or_default() };
        Self { s3: Some(s3), ..self }
    }

    /// How a place is reached that is named by a person: the name of a copy, or a URL.
    #[must_use]
    pub fn of_place(&self, place: &str) -> Self {
        match self.copies.iter().find(|copy| copy.name == place || copy.url == place) {
            Some(copy) => self.of_copy(copy),
            None => Self { url: place.to_owned(), copies: Vec::new(), ..self.clone() },
        }
    }
}

/// Nobody said which repository, or with which key.
#[derive(Debug, thiserror::Error)]
pub enum ResolveError {
    /// No URL anywhere.
    #[error("no repository was named")]
    NoRepository,
    /// No key anywhere.
    #[error("no key was named for the repository {url}")]
    NoKey {
        /// Which repository.
        url: String,
    },
    /// The configuration file cannot be used.
    #[error(transparent)]
    Config(#[from] ConfigError),
}

impl Failure for ResolveError {
    fn code(&self) -> &'static str {
        match self {
            Self::NoRepository => "config.no-repository",
            Self::NoKey { .. } => "config.no-key",
            Self::Config(cause) => cause.code(),
        }
    }

    fn remedy(&self) -> Remedy {
        match self {
            Self::NoRepository | Self::NoKey { .. } => Remedy::FixRequest,
            Self::Config(cause) => cause.remedy(),
        }
    }

    fn advice(&self) -> String {
        match self {
            Self::NoRepository => {
                "Name it with --repository, STRONGROOM_REPOSITORY, or `url` in [repository] of the file given with --config."
                    .into()
            }
            Self::NoKey { .. } => {
                "Name the key with --key-file, STRONGROOM_KEY_FILE, or `key_file` in [repository]; or give --passphrase-file."
                    .into()
            }
            Self::Config(cause) => cause.advice(),
        }
    }
}

impl RepositoryArgs {
    /// Reads the configuration file, where one was named, and puts everything together.
    ///
    /// # Errors
    /// When the file cannot be used, or repository or key are named nowhere.
    pub fn resolve(&self) -> Result<RepositorySettings, ResolveError> {
        Ok(self.resolve_with_config()?.0)
    }

    /// The same, with the configuration for those who need more of it.
    ///
    /// # Errors
    /// When the file cannot be used, or repository or key are named nowhere.
    pub fn resolve_with_config(&self) -> Result<(RepositorySettings, Option<Config>), ResolveError> {
        let config = self.config.as_deref().map(Config::read).transpose()?;
        Ok((self.over(config.as_ref())?, config))
    }

    /// The same, for those who need no key: they cannot open the repository, only look at its store.
    ///
    /// # Errors
    /// When the file cannot be used, or no repository is named.
    pub fn resolve_without_key(&self) -> Result<RepositorySettings, ResolveError> {
        let config = self.config.as_deref().map(Config::read).transpose()?;
        self.put_together(config.as_ref())
    }

    fn over(&self, config: Option<&Config>) -> Result<RepositorySettings, ResolveError> {
        let settings = self.put_together(config)?;
        if settings.key_file.is_none() && settings.passphrase_file.is_none() {
            return Err(ResolveError::NoKey { url: settings.url });
        }
        Ok(settings)
    }

    fn put_together(&self, config: Option<&Config>) -> Result<RepositorySettings, ResolveError> {
        let file = config.map(|config| &config.repository);
        // An empty variable of the environment is the usual way to say "not set".
        let said = |text: &&String| !text.is_empty();
        let path = |path: &&PathBuf| !path.as_os_str().is_empty();
        let url = self.repository.as_ref().filter(said).or(file.and_then(|file| file.url.as_ref()));
        let url = url.ok_or(ResolveError::NoRepository)?.clone();
        let key_file = self.key_file.as_ref().filter(path).or(file.and_then(|file| file.key_file.as_ref()));
        // The passphrase of the file counts only where no key was named before it.
        let passphrase_file = self.passphrase_file.as_ref().filter(path).or(match key_file {
            Some(_) => None,
            None => file.and_then(|file| file.passphrase_file.as_ref()),
        });
        // A repository that was named otherwise has other copies, or none.
        let own = file.filter(|file| file.url.as_ref() == Some(&url));
        let named = file.and_then(|file| file.copies.iter().find(|copy| copy.url == url));
        let s3 = named.and_then(|copy| copy.s3.clone()).or_else(|| file.and_then(|file| file.s3.clone()));
        Ok(RepositorySettings {
            copies: own.map_or_else(Vec::new, |file| file.copies.clone()),
            limits: None,
            url,
            s3,
            key_file: key_file.cloned(),
            passphrase_file: passphrase_file.cloned(),
            domain: self.domain.or(file.and_then(|file| file.domain)),
            state_dir: config.map(|config| config.agent.state_dir.clone()),
        })
    }
}

/// Where a command run by hand keeps its caches: `$XDG_CACHE_HOME/strongroom`, or `~/.cache/strongroom`.
///
/// `variable` reads the environment; programs hand in `std::env::var_os`. `None` where the machine has no home: then
/// nothing is kept, which costs time, never data.
#[must_use]
pub fn hand_state_dir(variable: impl Fn(&str) -> Option<std::ffi::OsString>) -> Option<PathBuf> {
    let absolute = |name: &str| variable(name).map(PathBuf::from).filter(|path| path.is_absolute());
    absolute("XDG_CACHE_HOME")
        .or_else(|| Some(absolute("HOME")?.join(".cache")))
        .map(|cache| cache.join(Path::new("strongroom")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(text: &str) -> Config {
        Config::parse(text, Path::new("x.toml")).unwrap()
    }

    #[test]
    fn a_flag_comes_before_the_configuration_file() {
        let config = config(
            "[repository]\nurl = \"/file\"\nkey_file = \"/file-key\"\n[repository.s3]\nregion = \"eu\"\n",
        );
        let none = RepositoryArgs::default();
        let from_file = none.over(Some(&config)).unwrap();
        assert_eq!((from_file.url.as_str(), from_file.key_file), ("/file", Some("/file-key".into())));
        assert_eq!(from_file.s3.unwrap().region.as_deref(), Some("eu"));
        let flags = RepositoryArgs { repository: Some("s3://flag".into()), ..none };
        let mixed = flags.over(Some(&config)).unwrap();
        assert_eq!((mixed.url.as_str(), mixed.key_file), ("s3://flag", Some("/file-key".into())));
    }

    #[test]
    fn nothing_named_is_an_error_that_says_where_to_name_it() {
        let none = RepositoryArgs::default();
        assert_eq!(none.resolve().unwrap_err().code(), "config.no-repository");
        let no_key = RepositoryArgs { repository: Some("/x".into()), key_file: Some("".into()), ..none };
        assert_eq!(no_key.resolve().unwrap_err().code(), "config.no-key");
        let passphrase = RepositoryArgs { passphrase_file: Some("/p".into()), ..no_key };
        assert_eq!(passphrase.resolve().unwrap().passphrase_file, Some("/p".into()));
    }

    #[test]
    fn the_cache_of_a_run_by_hand_follows_the_custom_of_the_desktop() {
        let set = |pairs: &'static [(&str, &str)]| {
            hand_state_dir(move |name| pairs.iter().find(|pair| pair.0 == name).map(|pair| pair.1.into()))
        };
        assert_eq!(set(&[("XDG_CACHE_HOME", "/c"), ("HOME", "/h")]), Some("/c/strongroom".into()));
        assert_eq!(set(&[("XDG_CACHE_HOME", ""), ("HOME", "/h")]), Some("/h/.cache/strongroom".into()));
        assert_eq!(set(&[]), None);
    }
}
