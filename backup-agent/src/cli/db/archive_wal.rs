//! `strongroom db archive-wal`: the `archive_command` of a PostgreSQL server whose log is handed over.
//!
//! It runs as the server's user, knows no repository and no key, and answers 0 only when the file is durable in the folder and an
//! agent lives that takes it from there.

use std::path::PathBuf;

use serde::Serialize;
use strongroom_console::{Console, Exit, Failed};
use strongroom_postgres::handover::{Given, HandoverError, give};

/// `strongroom db archive-wal`
#[derive(Debug, clap::Args)]
pub struct ArchiveWalArgs {
    /// The file, as PostgreSQL names it: %p
    #[arg(value_name = "PATH")]
    path: PathBuf,
    /// The folder that is the `handover` of the database in the agent's configuration
    #[arg(long, value_name = "FOLDER")]
    to: PathBuf,
}

#[derive(Debug, Serialize)]
struct Handed {
    file: String,
    outcome: &'static str,
}

/// Carries the command out.
///
/// # Errors
/// Why the server has to keep the file.
pub(super) async fn run(args: ArchiveWalArgs, console: &Console) -> Result<Exit, Failed> {
    let file = args.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let folder = args.to.clone();
    let giving = tokio::task::spawn_blocking(move || give(&args.path, &args.to)).await;
    let given = giving
        .map_err(|error| HandoverError::File { path: folder, cause: std::io::Error::other(error) })??;
    let (outcome, words) = match given {
        Given::Kept => ("kept", None),
        Given::Known => ("known", Some("was handed over before, and is the same")),
        Given::NotNeeded => ("not-needed", Some("is not needed for any restore, and was not kept")),
        Given::LetGo => (
            "let-go",
            Some("was let go of, as the server kept as much as it may: the archived log has a gap"),
        ),
    };
    console.result(&Handed { file: file.clone(), outcome }, |page| {
        // The server's log gets what is printed: nothing on an ordinary day.
        if let Some(words) = words {
            page.line(format_args!("{file} {words}"));
        }
    });
    Ok(Exit::Done)
}
