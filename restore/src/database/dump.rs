//! Tables as they were, written as SQL from a copy that waits at its stop.

use std::fs::{self, File};
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};

use strongroom_console::Failed;

use super::RecoveryError;
use super::look::Look;

/// Dumps to standard output, or to a file that appears when it is whole.
pub(super) async fn dump(look: &mut Look, tables: &[String], to: Option<&Path>) -> Result<(), Failed> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |cause| RecoveryError::Folder { path, cause }
    };
    let Some(path) = to else {
        let out = std::io::stdout().as_fd().try_clone_to_owned();
        let out = out.map_err(failed(Path::new("standard output")))?;
        return look.copy().dump(tables, out.into()).await;
    };
    let partial = {
        let mut name = path.as_os_str().to_owned();
        name.push(".partial");
        PathBuf::from(name)
    };
    let out = File::create(&partial).map_err(failed(&partial))?;
    if let Err(error) = look.copy().dump(tables, out).await {
        let _ = fs::remove_file(&partial);
        return Err(error);
    }
    File::open(&partial).and_then(|file| file.sync_all()).map_err(failed(&partial))?;
    Ok(fs::rename(&partial, path).map_err(failed(path))?)
}
