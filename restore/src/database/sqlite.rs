//! SQLite: the log is written over the base, page by page, in the new volume; nothing has to run.

use std::path::{Component, Path, PathBuf};

use strongroom_archive::DatabaseArchive;
use strongroom_console::Failed;
use strongroom_database::{Plan, Position};
use strongroom_sqlite::{Rebuild, SqliteError};
use tokio::task::spawn_blocking;

use super::RecoveryError;

/// The engine, as logs name it.
pub(super) const ENGINE: &str = "sqlite";

/// Puts the database of a mounted base in the planned state. Answers where it is in the volume, and where the log was stopped.
pub(super) async fn rebuild(
    archive: &DatabaseArchive,
    plan: &Plan,
    mounted: &Path,
    told: Option<&Path>,
) -> Result<(String, Option<Position>), Failed> {
    let path = told.map(Path::to_owned).or_else(|| archive.fact("path").map(PathBuf::from));
    // What a repository says never leads out of the volume.
    let parts = path.iter().flat_map(|path| path.components());
    let within: PathBuf = parts.filter(|part| matches!(part, Component::Normal(_))).collect();
    let file = mounted.join(&within);
    if !stays_within(mounted, &file) {
        return Err(SqliteError::Missing { path: file }.into());
    }
    let (start, cut) = (plan.base.start, plan.cut);
    let preparing = spawn_blocking(move || Rebuild::prepare(&file, start, cut));
    let mut rebuild = preparing.await.map_err(|_| RecoveryError::Ending)??;
    let mut from = start;
    for piece in &plan.log {
        let log = archive.log(&piece.range).await?;
        // Ranges may overlap, and the first begins before the base as a rule.
        let skip = usize::try_from(from.since(piece.range.from)).unwrap_or(usize::MAX);
        let Some(bytes) = log.get(skip..).filter(|_| piece.range.from <= from) else {
            return Err(RecoveryError::ShortLog { from, to: piece.range.to }.into());
        };
        let bytes = bytes.to_vec();
        from = piece.range.to;
        let pushing = spawn_blocking(move || rebuild.push(&bytes).map(|()| rebuild));
        rebuild = pushing.await.map_err(|_| RecoveryError::Ending)??;
    }
    let rebuilt = spawn_blocking(move || rebuild.finish()).await.map_err(|_| RecoveryError::Ending)??;
    if let Some(expected) = plan.last_kept.filter(|kept| kept.end > plan.base.end)
        && rebuilt.end != Some(expected.end)
    {
        let what = format!("it ends at {:?}, the plan's last commit at {}", rebuilt.end, expected.end);
        return Err(SqliteError::Differs { path: within, what }.into());
    }
    Ok((format!("/{}", within.display()), rebuilt.end))
}

/// No link in the base leads anywhere else.
fn stays_within(root: &Path, file: &Path) -> bool {
    let real = |path: &Path| std::fs::canonicalize(path).ok();
    real(root).zip(real(file)).is_some_and(|(root, file)| file.starts_with(root))
}
