//! Reading the configuration file, and saying where in it something is wrong.

use std::path::{Path, PathBuf};

use strongroom_model::{Failure, Remedy};

use crate::{Config, RetainConfig};

/// A configuration of more than this is none of ours: 10,000 policies fit.
const LARGEST_BYTES: u64 = 4 << 20;

/// Why a configuration file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("reading the configuration {}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        cause: std::io::Error,
    },
    /// The file is too large to be a configuration.
    #[error("{} has {bytes} bytes: a configuration has at most {LARGEST_BYTES}", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Its size.
        bytes: u64,
    },
    /// A key that does not exist.
    #[error("{}:{line}:{column}: there is no key {key:?} here", path.display())]
    UnknownKey {
        /// The file.
        path: PathBuf,
        /// Which line, from 1.
        line: usize,
        /// Which character of it, from 1.
        column: usize,
        /// The key.
        key: String,
        /// The key that was probably meant.
        nearest: Option<String>,
        /// All keys that exist at this place.
        known: Vec<String>,
    },
    /// Anything else that is wrong at a place of the file.
    #[error("{}:{line}:{column}: {reason}", path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// Which line, from 1.
        line: usize,
        /// Which character of it, from 1.
        column: usize,
        /// What is wrong.
        reason: String,
    },
}

impl Failure for ConfigError {
    fn code(&self) -> &'static str {
        match self {
            Self::Unreadable { .. } => "config.unreadable",
            Self::TooLarge { .. } => "config.too-large",
            Self::UnknownKey { .. } => "config.unknown-key",
            Self::Invalid { .. } => "config.invalid",
        }
    }

    fn remedy(&self) -> Remedy {
        match self {
            Self::Unreadable { .. } => Remedy::FixSurroundings,
            _ => Remedy::FixRequest,
        }
    }

    fn advice(&self) -> String {
        match self {
            Self::Unreadable { path, .. } => {
                format!(
                    "Check that {} is there and that you may read it, or name another file with --config.",
                    path.display()
                )
            }
            Self::TooLarge { .. } => "Name the right file with --config.".into(),
            Self::UnknownKey { nearest: Some(nearest), .. } => format!("Did you mean {nearest:?}?"),
            Self::UnknownKey { known, .. } => format!("The keys here are {}.", known.join(", ")),
            Self::Invalid { .. } => {
                "Correct this place of the file; docs/config.md lists every key with its form.".into()
            }
        }
    }
}

impl Config {
    /// Reads a configuration file.
    ///
    /// # Errors
    /// When it cannot be read, or anything in it is not understood: then with the line and the column.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let unreadable = |cause| ConfigError::Unreadable { path: path.to_owned(), cause };
        let bytes = std::fs::metadata(path).map_err(unreadable)?.len();
        if bytes > LARGEST_BYTES {
            return Err(ConfigError::TooLarge { path: path.to_owned(), bytes });
        }
        Self::parse(&std::fs::read_to_string(path).map_err(unreadable)?, path)
    }

    /// Understands the text of a configuration file; `path` is only for messages.
    ///
    /// # Errors
    /// When anything in it is not understood, with the line and the column.
    pub fn parse(text: &str, path: &Path) -> Result<Self, ConfigError> {
        let mut config: Self = toml::from_str(text).map_err(|error| at(&error, text, path))?;
        for policy in &mut config.policies {
            policy.name.locate(text);
            policy.schedule.locate(text);
            if policy.retain.is_empty() {
                policy.retain = RetainConfig { min_good: policy.retain.min_good, ..RetainConfig::usual() };
            }
        }
        check_copies(&config, path)?;
        for database in &mut config.databases {
            database.name.locate(text);
        }
        check_databases(&config, path)?;
        for (number, policy) in config.policies.iter().enumerate() {
            let name = &policy.name;
            let wrong = |reason| {
                let (path, line, column) = (path.to_owned(), name.line, name.column);
                Err(ConfigError::Invalid { path, line, column, reason })
            };
            if name.value.trim().is_empty() {
                return wrong("a policy needs a name".to_owned());
            }
            if let Some(first) = config.policies[..number].iter().find(|other| other.name.value == name.value)
            {
                return wrong(format!(
                    "there is a policy {:?} already, in line {}",
                    name.value, first.name.line
                ));
            }
            let copies = &config.repository.copies;
            let unknown = |wanted: &&String| !copies.iter().any(|copy| copy.name == **wanted);
            if let Some(unknown) = policy.copies.iter().flatten().find(unknown) {
                return wrong(format!(
                    "policy {:?} names a copy {unknown:?} that no [[repository.copies]] has",
                    name.value
                ));
            }
            if policy.volumes.is_empty() {
                return wrong(format!(
                    "policy {:?} selects no volumes: write volumes = [\"*\"] for all",
                    name.value
                ));
            }
        }
        Ok(config)
    }
}

fn check_copies(config: &Config, path: &Path) -> Result<(), ConfigError> {
    let copies = &config.repository.copies;
    let wrong = |reason| Err(ConfigError::Invalid { path: path.to_owned(), line: 1, column: 1, reason });
    for (number, copy) in copies.iter().enumerate() {
        if copy.name.trim().is_empty() {
            return wrong("a copy needs a name".to_owned());
        }
        if copies[..number].iter().any(|other| other.name == copy.name || other.url == copy.url) {
            return wrong(format!("there are two copies named {:?}, or at {:?}", copy.name, copy.url));
        }
        if config.repository.url.as_ref() == Some(&copy.url) {
            return wrong(format!("the copy {:?} lies where the repository lies", copy.name));
        }
    }
    Ok(())
}

fn check_databases(config: &Config, path: &Path) -> Result<(), ConfigError> {
    for (number, database) in config.databases.iter().enumerate() {
        let name = &database.name;
        let twice = config.databases[..number].iter().any(|other| other.name.value == name.value);
        let twice = twice.then(|| format!("there are two databases named {:?}", name.value));
        // A backup of a volume is the base of one database.
        let beside = config.databases[..number].iter().find(|other| other.volume == database.volume);
        let twice = twice.or_else(|| {
            beside.map(|other| {
                format!(
                    "{:?} lies on volume {} as well; one database of a volume can be archived",
                    other.name.value, database.volume
                )
            })
        });
        if let Some(reason) = twice.or_else(|| database.fault()) {
            let (path, line, column) = (path.to_owned(), name.line, name.column);
            return Err(ConfigError::Invalid { path, line, column, reason });
        }
    }
    Ok(())
}

/// Line and character of a byte of `text`, both from 1.
pub(crate) fn position(text: &str, offset: usize) -> (usize, usize) {
    let before = text.get(..offset).unwrap_or(text);
    let line_start = before.rfind('\n').map_or(0, |at| at + 1);
    (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
}

fn at(error: &toml::de::Error, text: &str, path: &Path) -> ConfigError {
    let (line, column) = position(text, error.span().map_or(0, |span| span.start));
    let path = path.to_owned();
    let message = error.message();
    // The keys are known to serde alone, so that a list of our own cannot fall behind. It names them in its message:
    // unknown field `a`, expected one of `b`, `c`
    if message.starts_with("unknown field") {
        let mut names = message.split('`').skip(1).step_by(2).map(str::to_owned);
        let key = names.next().unwrap_or_default();
        let known: Vec<String> = names.collect();
        return ConfigError::UnknownKey { path, line, column, nearest: nearest(&key, &known), key, known };
    }
    ConfigError::Invalid { path, line, column, reason: message.trim_end().replace('\n', "; ") }
}

/// The known key that is at most a third of its letters away.
fn nearest(key: &str, known: &[String]) -> Option<String> {
    let plain = |text: &str| text.to_lowercase().replace('-', "_");
    known
        .iter()
        .map(|other| (distance(&plain(key), other), other))
        .filter(|(distance, other)| *distance <= (other.chars().count() / 3).max(1))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, other)| other.clone())
}

/// How many letters must be put in, taken out, replaced or exchanged with their neighbour.
fn distance(from: &str, to: &str) -> usize {
    let (from, to): (Vec<char>, Vec<char>) = (from.chars().take(64).collect(), to.chars().collect());
    let mut rows: Vec<Vec<usize>> = vec![(0..=to.len()).collect()];
    for i in 1..=from.len() {
        let mut row = vec![i];
        for j in 1..=to.len() {
            let replaced = rows[i - 1][j - 1] + usize::from(from[i - 1] != to[j - 1]);
            let mut best = replaced.min(rows[i - 1][j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && from[i - 1] == to[j - 2] && from[i - 2] == to[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            row.push(best);
        }
        rows.push(row);
    }
    rows[from.len()][to.len()]
}

#[cfg(test)]
mod tests;
