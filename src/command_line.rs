//! The top of the command line. The commands themselves belong to the roles.

use std::ffi::OsString;

use clap::{ArgMatches, CommandFactory as _, Parser, Subcommand};
use strongroom_console::OutputArgs;
use strongroom_model::{Failure, Remedy};

use crate::databases;
use crate::logging::LogFormat;
use crate::papers;

/// Volumes with instant snapshots, and backups of them that need nothing but the bucket and the key
#[derive(Debug, Parser)]
#[command(
    name = "strongroom",
    version,
    propagate_version = true,
    arg_required_else_help = true,
    max_term_width = 100,
    after_help = "Exit codes: 0 done or healthy, 1 failed or at risk, 2 a volume is not protected, 3 stored data is \
                  damaged, 4 not confirmed, 5 try again later, 64 wrong command line, 70 a mistake of ours."
)]
pub(crate) struct CommandLine {
    #[command(flatten)]
    pub(crate) output: OutputArgs,

    /// Write log lines (to standard error) as text or as JSON; what is logged is chosen by RUST_LOG
    #[arg(long, global = true, value_enum, default_value_t, value_name = "FORM")]
    pub(crate) log_format: LogFormat,

    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    #[command(flatten)]
    Driver(strongroom_driver::cli::Command),
    #[command(flatten)]
    Agent(strongroom_agent::cli::Command),
    #[command(flatten)]
    Databases(databases::Command),
    #[command(flatten)]
    Restore(strongroom_restore::cli::Command),
    #[command(flatten)]
    Files(strongroom_files::cli::Command),
    #[command(flatten)]
    Import(strongroom_import::cli::Command),
    #[command(flatten)]
    Papers(papers::Command),
}

impl Command {
    /// The command, or the one of another role that really does it: a volume that begins with a recovery point is made by a
    /// restore.
    pub(crate) fn settled(self) -> Result<Self, clap::Error> {
        let Self::Driver(command) = &self else { return Ok(self) };
        match command.elsewhere() {
            Some(words) => {
                Ok(CommandLine::try_parse_from(std::iter::once("strongroom".to_owned()).chain(words))?
                    .command)
            }
            None => Ok(self),
        }
    }
}

pub(crate) fn definition() -> clap::Command {
    CommandLine::command()
}

/// The words of the command that was given, such as `volume create`: how results name it.
pub(crate) fn words(matches: &ArgMatches) -> String {
    let mut words = Vec::new();
    let mut level = matches;
    while let Some((word, below)) = level.subcommand() {
        words.push(word);
        level = below;
    }
    words.join(" ")
}

/// Whether JSON was asked for on a command line that could not be understood.
pub(crate) fn asks_for_json(args: impl Iterator<Item = OsString>) -> bool {
    let args: Vec<_> = args.collect();
    args.iter().any(|arg| arg == "--output=json")
        || args.windows(2).any(|pair| pair[0] == "--output" && pair[1] == "json")
}

/// The command line was not understood.
#[derive(Debug, thiserror::Error)]
#[error("the command line was not understood: {0}")]
pub(crate) struct UsageError(String);

impl From<&clap::Error> for UsageError {
    fn from(error: &clap::Error) -> Self {
        let text = error.to_string();
        let first = text.lines().next().unwrap_or_default();
        Self(first.trim_start_matches("error: ").to_owned())
    }
}

impl Failure for UsageError {
    fn code(&self) -> &'static str {
        "usage.wrong"
    }

    fn remedy(&self) -> Remedy {
        Remedy::FixRequest
    }

    fn advice(&self) -> String {
        "see `strongroom --help`, or --help behind the command".to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        definition().debug_assert();
    }

    #[test]
    fn a_volume_that_begins_with_a_point_of_a_named_repository_is_made_by_a_restore() {
        let line =
            ["strongroom", "volume", "create", "new", "--from-point", "rp-1", "--endpoint", "/run/x.sock"];
        let settled = |line: &[&str]| CommandLine::try_parse_from(line).map(|line| line.command.settled());
        let command = settled(&line);
        assert!(matches!(command, Ok(Ok(Command::Driver(_)))), "the driver's agent restores: {command:?}");
        let command = settled(&[&line[..], &["--repository", "/r"]].concat());
        assert!(matches!(command, Ok(Ok(Command::Restore(_)))), "{command:?}");
    }

    #[test]
    fn a_result_names_the_command_by_its_words() {
        let matches = definition().try_get_matches_from(["strongroom", "volume", "list"]).unwrap();
        assert_eq!(words(&matches), "volume list");
    }
}
