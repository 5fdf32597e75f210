//! `volume create --from-point`: a restore, asked for from the volume's side.
//!
//! The driver knows nothing of repositories, and the roles do not know each other. So this command is only turned into the words
//! of the restore that does it, and the program hands those to the role they belong to.

use clap::Args;
use strongroom_console::Size;

use super::CreateArgs;

/// Which repository a point is in. Only read together with `--from-point`; without them the restore looks into the
/// environment by itself.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Where the point of --from-point is")]
pub struct RepositoryFlags {
    /// The repository: s3://bucket/prefix, file:///path or a path [env: STRONGROOM_REPOSITORY]
    #[arg(long, value_name = "URL", requires = "from_point")]
    pub repository: Option<String>,
    /// The file that holds its key [env: STRONGROOM_KEY_FILE]
    #[arg(long, value_name = "KEY", requires = "from_point")]
    pub key_file: Option<String>,
    /// A file that holds the passphrase of a key slot
    #[arg(long, value_name = "FILE", requires = "from_point")]
    pub passphrase_file: Option<String>,
    /// The configuration file that names the repository
    #[arg(long, value_name = "FILE", requires = "from_point")]
    pub config: Option<String>,
}

impl CreateArgs {
    /// The words of the restore that makes this volume, if it is made from a recovery point.
    pub(super) fn as_restore(&self) -> Option<Vec<String>> {
        let point = self.from.from_point.as_ref()?;
        let mut words: Vec<String> =
            ["restore", "run", "--yes", "--point"].map(str::to_owned).into_iter().collect();
        words.push(point.clone());
        // One word with `=`, so that a name may begin with a dash.
        words.push(format!("--to-volume={}", self.name));
        words.push(format!("--endpoint={}", self.at.endpoint));
        if let Some(Size(bytes)) = self.size {
            words.push(format!("--size={bytes}B"));
        }
        let flags = &self.repository;
        let named = [
            ("repository", &flags.repository),
            ("key-file", &flags.key_file),
            ("passphrase-file", &flags.passphrase_file),
            ("config", &flags.config),
        ];
        words.extend(named.iter().filter_map(|(flag, value)| Some(format!("--{flag}={}", value.as_ref()?))));
        Some(words)
    }
}
