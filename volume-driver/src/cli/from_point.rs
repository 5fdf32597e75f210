//! `volume create --from-point` with a repository of its own: a restore, asked for from the volume's side.
//!
//! Usually the driver lets its agent restore, as it does for everybody. Where there is no agent, or the point is in another repository,
//! these flags name it; then the command is turned into the words of the restore that does it here, and the program hands those to the
//! role they belong to.

use clap::Args;
use strongroom_console::Size;

use super::CreateArgs;

/// Which repository a point is in. Only read together with `--from-point`; without any of them the driver's agent restores.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Restoring here instead of by the driver's agent")]
pub struct RepositoryFlags {
    /// The repository: s3://bucket/prefix, file:///path or a path
    #[arg(long, value_name = "URL", requires = "from_point", conflicts_with_all = ["fs", "labels"])]
    pub repository: Option<String>,
    /// The file that holds its key [env, once one of these flags is given: STRONGROOM_KEY_FILE]
    #[arg(long, value_name = "KEY", requires = "from_point", conflicts_with_all = ["fs", "labels"])]
    pub key_file: Option<String>,
    /// A file that holds the passphrase of a key slot
    #[arg(long, value_name = "FILE", requires = "from_point", conflicts_with_all = ["fs", "labels"])]
    pub passphrase_file: Option<String>,
    /// The configuration file that names the repository
    #[arg(long, value_name = "FILE", requires = "from_point", conflicts_with_all = ["fs", "labels"])]
    pub config: Option<String>,
}

impl CreateArgs {
    /// The words of the restore that makes this volume, if this command is to restore it.
    pub(super) fn as_restore(&self) -> Option<Vec<String>> {
        let point = self.from.from_point.as_ref()?;
        let flags = &self.repository;
        let named = [
            ("repository", &flags.repository),
            ("key-file", &flags.key_file),
            ("passphrase-file", &flags.passphrase_file),
            ("config", &flags.config),
        ];
        if named.iter().all(|(_, value)| value.is_none()) {
            return None;
        }
        let mut words: Vec<String> =
            ["restore", "run", "--yes", "--point"].map(str::to_owned).into_iter().collect();
        words.push(point.clone());
        // One word with `=`, so that a name may begin with a dash.
        words.push(format!("--to-volume={}", self.name));
        words.push(format!("--endpoint={}", self.at.endpoint));
        if let Some(Size(bytes)) = self.size {
            words.push(format!("--size={bytes}B"));
        }
        words.extend(named.iter().filter_map(|(flag, value)| Some(format!("--{flag}={}", value.as_ref()?))));
        Some(words)
    }
}
