//! What the program tells about itself: shell completion, manual pages, version.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde_json::json;
use strongroom_console::{Console, Exit, Failed};
use strongroom_model::{Failure, Remedy};

use crate::command_line;

#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Print the completion script for a shell
    Completion {
        /// The shell, such as bash, zsh or fish
        shell: clap_complete::Shell,
    },
    /// Print the manual page, or write one for every command into a directory
    Man {
        /// Where to write the pages
        #[arg(long, value_name = "DIR")]
        directory: Option<PathBuf>,
    },
    /// Print the version of the program and of the repository format it writes
    Version,
}

pub(crate) fn run(command: Command, console: &Console) -> Result<Exit, Failed> {
    match command {
        Command::Completion { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut command_line::definition(), "strongroom", &mut script);
            let script = String::from_utf8_lossy(&script).into_owned();
            console.result(&json!({ "shell": shell.to_string(), "script": script }), |page| {
                page.raw(&script);
            });
        }
        Command::Man { directory: Some(directory) } => {
            let pages = write_pages(&directory)
                .map_err(|cause| PagesError { directory: directory.clone(), cause })?;
            console.result(&json!({ "directory": directory, "pages": pages }), |page| {
                page.line(format_args!("{pages} pages written to {}", directory.display()));
            });
        }
        Command::Man { directory: None } => {
            let mut page = Vec::new();
            // Writing to memory cannot fail.
            let _ = clap_mangen::Man::new(command_line::definition()).render(&mut page);
            let text = String::from_utf8_lossy(&page).into_owned();
            console.result(&json!({ "page": text }), |page| {
                page.raw(&text);
            });
        }
        Command::Version => {
            let version = env!("CARGO_PKG_VERSION");
            let format = strongroom_repository::head::FORMAT_VERSION;
            console.result(&json!({ "program": version, "repository_format": format, "machine": std::env::consts::ARCH }), |page| {
                page.line(format_args!("strongroom {version} (repository format {format}, {})", std::env::consts::ARCH));
            });
        }
    }
    Ok(Exit::Done)
}

fn write_pages(directory: &Path) -> io::Result<usize> {
    fs::create_dir_all(directory)?;
    clap_mangen::generate_to(command_line::definition(), directory)?;
    Ok(fs::read_dir(directory)?.count())
}

/// The manual pages could not be written.
#[derive(Debug, thiserror::Error)]
#[error("writing the manual pages to {}", directory.display())]
struct PagesError {
    directory: PathBuf,
    #[source]
    cause: io::Error,
}

impl Failure for PagesError {
    fn code(&self) -> &'static str {
        "man.write"
    }

    fn remedy(&self) -> Remedy {
        Remedy::FixSurroundings
    }

    fn advice(&self) -> String {
        "choose a directory that can be written to".to_owned()
    }
}
