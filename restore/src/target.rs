//! Targets: each is looked at first ([`Aimed`], nothing changed), then written.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use strongroom_block_io::BlockSource;
use strongroom_console::Failed;
use strongroom_model::{RepositoryId, RunId};

use crate::chunk_set::ChunkSet;
use crate::driver::Labels;
use crate::journal::{Header, Journal, Stage};
use crate::plan::{Base, PointSummary, Target};
use crate::refusal::Refusal;
use crate::work::Scope;

pub(crate) mod device;
pub(crate) mod file;
pub(crate) mod in_place;
pub(crate) mod volume;

/// A target that was looked at.
#[derive(Debug)]
pub(crate) struct Aimed {
    pub(crate) run: RunId,
    pub(crate) target: Target,
    pub(crate) base: Base,
    /// What the restore answers for.
    pub(crate) target_bytes: u64,
    /// It is fresh and reads as zero.
    pub(crate) blank: bool,
    pub(crate) scope: Scope,
    /// What can be compared with the point now, and whether it is the target itself.
    pub(crate) local: Option<(Arc<dyn BlockSource>, bool)>,
    /// Where what is durable is noted, where there is a place for it.
    pub(crate) journal: Option<PathBuf>,
    /// What an earlier run of the same restore has noted there.
    pub(crate) earlier: Option<Earlier>,
    /// What a staged volume of an earlier run was cloned from: it has to be begun again with the same words.
    pub(crate) cloned_from: Option<String>,
    /// There is old content that can be brought back.
    pub(crate) undo: bool,
    pub(crate) notes: Vec<String>,
}

/// What an earlier run has left.
#[derive(Debug)]
pub(crate) struct Earlier {
    pub(crate) header: Header,
    pub(crate) done: ChunkSet,
    pub(crate) stage: Stage,
}

/// What every target needs to know of the restore.
#[derive(Debug, Clone)]
pub(crate) struct Wanted {
    pub(crate) repository: RepositoryId,
    pub(crate) point: PointSummary,
    pub(crate) chunk_bytes: u32,
    pub(crate) start_over: bool,
    /// Drawn for this run; one that goes on keeps its own.
    pub(crate) run: RunId,
    /// The volume of the driver that waits to be filled: no other is made.
    pub(crate) only: Option<String>,
    /// Labels of a new volume, instead of those of its source.
    pub(crate) labels: Option<Labels>,
    pub(crate) state_dir: Option<PathBuf>,
}

impl Wanted {
    pub(crate) fn header(&self, run: RunId, target: &Target, base: &Base, staged: Option<String>) -> Header {
        Header {
            version: Header::VERSION,
            run,
            repository: self.repository,
            point: self.point.id,
            target: target.describe(),
            volume_bytes: self.point.volume_bytes,
            chunk_bytes: self.chunk_bytes,
            base: base.describe(),
            staged,
        }
    }

    /// A journal in the state folder, where there is one.
    pub(crate) fn state_journal(&self, name: &str) -> Option<PathBuf> {
        self.state_dir.as_ref().map(|folder| folder.join(format!("{name}.journal")))
    }

    /// What lies at a journal's path, if it is of this very restore. One of another restore is refused unless it may be
    /// given up.
    pub(crate) fn earlier(&self, path: Option<&Path>, header: &Header) -> Result<Option<Earlier>, Failed> {
        let Some(path) = path else { return Ok(None) };
        let found = Journal::peek(path).map_err(crate::error::HydrateError::from)?;
        let Some((found, done, stage)) = found else { return Ok(None) };
        if self.start_over {
            return Ok(None);
        }
        if found.continues(header) {
            return Ok(Some(Earlier { header: found, done, stage }));
        }
        // The same point on another base: what was noted counts for nothing, and nobody has to decide anything.
        if found.repository == header.repository
            && found.point == header.point
            && found.target == header.target
        {
            return Ok(None);
        }
        Err(Refusal::Unfinished { target: header.target.clone(), point: found.point }.into())
    }
}
