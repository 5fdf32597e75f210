//! Reads the target back and compares it with the point, chunk by chunk: the data by its ids, the rest with zero.
//!
//! It asks the map and the packs' tables what each chunk should be, not what was written: whatever went wrong on the
//! way shows here.

use std::ops::Range;
use std::sync::Arc;

use futures::{StreamExt as _, TryStreamExt as _};
use strongroom_block_io::{BlockIoError, BlockSource};
use strongroom_model::{ByteRange, PackId};
use strongroom_repository::chunk::is_zero;

use crate::compare;
use crate::error::HydrateError;
use crate::plan::Lost;
use crate::survey::{Local, Survey, first_range};
use crate::work::{Piece, Work};

/// The map is read in steps of this many chunks: 4 GiB of a grid of 64 KiB.
const STEP: u64 = 1 << 16;
/// Zeros are read in pieces of this size.
const ZERO_BYTES: u64 = 1 << 20;

/// What was seen.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct Verified {
    /// Bytes that were read and are right.
    pub right_bytes: u64,
    /// Bytes that are holes and should be zero: right without reading.
    pub hole_bytes: u64,
    /// Chunks that are not what they should be, as ranges, in order.
    #[serde(skip)]
    pub wrong: Vec<Range<u64>>,
}

/// Compares all of the target that `work` answers for, except what is `lost`.
///
/// # Errors
/// When the map or a footer cannot be read, or the target cannot.
pub async fn verify(
    survey: &Survey<'_>,
    work: &Work,
    target: &Local,
    lost: &[Lost],
    workers: usize,
    progress: &(dyn Fn(u64) + Sync),
) -> Result<Verified, HydrateError> {
    let source = Arc::clone(&target.source);
    let collect =
        tokio::task::spawn_blocking(move || source.allocated().collect::<Result<Vec<_>, BlockIoError>>());
    let allocated = Arc::new(collect.await.expect("listing extents does not panic")?);
    let mut verified = Verified::default();
    let mut at = 0;
    while at < work.chunks() {
        let step = at..(at + STEP).min(work.chunks());
        at = step.end;
        let runs = survey.runs_of_window(work, step.clone(), &mut Vec::new()).await?;
        let pieces = work.pieces(step, &runs);
        let checked: Vec<Checked> = futures::stream::iter(pieces.packs)
            .map(|(pack, pieces)| data(survey, work, target, lost, pack, pieces))
            .buffered(workers.max(1))
            .try_collect()
            .await?;
        for checked in checked {
            progress(checked.right_bytes);
            verified.right_bytes += checked.right_bytes;
            verified.wrong.extend(checked.wrong.into_iter().map(|chunk| chunk..chunk + 1));
        }
        for chunks in pieces.zeros {
            let Some(bytes) = work.bytes_of(&chunks) else { continue };
            let (source, allocated, lost) =
                (Arc::clone(&target.source), Arc::clone(&allocated), lost.to_vec());
            let read = tokio::task::spawn_blocking(move || zeros(&*source, &allocated, bytes, &lost));
            let (read, wrong) = read.await.expect("reading does not panic")?;
            progress(read);
            verified.right_bytes += read;
            verified.hole_bytes += bytes.len() - read;
            verified.wrong.extend(wrong.into_iter().map(|at| {
                let chunk = at / work.chunk_bytes;
                chunk..chunk + 1
            }));
        }
    }
    verified.wrong.sort_unstable_by_key(|chunks| chunks.start);
    verified.wrong.dedup();
    Ok(verified)
}

#[derive(Debug, Default)]
struct Checked {
    right_bytes: u64,
    wrong: Vec<u64>,
}

async fn data(
    survey: &Survey<'_>,
    work: &Work,
    target: &Local,
    lost: &[Lost],
    pack: PackId,
    pieces: Vec<Piece>,
) -> Result<Checked, HydrateError> {
    let readable = |chunk: u64| {
        let start = chunk * work.chunk_bytes;
        !lost.iter().any(|lost| lost.start <= start && start < lost.end)
    };
    if !pieces.iter().any(|piece| piece.chunks().any(readable)) {
        return Ok(Checked::default());
    }
    let footer = survey.footer(pack, &pieces).await;
    let footer = footer.map_err(|cause| HydrateError::Pack {
        pack,
        range: first_range(work, &pieces),
        cause: Box::new(cause),
    })?;
    let right = compare::equal(target.clone(), work, footer, &pieces).await?;
    let mut checked = Checked::default();
    let mut right = right.into_iter().peekable();
    let mut all: Vec<u64> = pieces.iter().flat_map(Piece::chunks).collect();
    all.sort_unstable();
    for chunk in all {
        if right.next_if_eq(&chunk).is_some() {
            checked.right_bytes += work.content_bytes(chunk);
        } else if readable(chunk) {
            checked.wrong.push(chunk);
        }
    }
    Ok(checked)
}

/// Reads what is allocated of a range that should be zero. Answers how much was read, and where it is not zero.
fn zeros(
    source: &dyn BlockSource,
    allocated: &[ByteRange],
    range: ByteRange,
    lost: &[Lost],
) -> Result<(u64, Vec<u64>), BlockIoError> {
    let (mut read, mut wrong) = (0, Vec::new());
    let mut buffer = Vec::new();
    let first = allocated.partition_point(|extent| extent.end() <= range.start());
    for part in allocated[first..].iter().map_while(|extent| extent.intersection(&range)) {
        let mut at = part.start();
        while at < part.end() {
            let length = (part.end() - at).min(ZERO_BYTES);
            buffer.resize(usize::try_from(length).unwrap_or(0), 0);
            source.read_at(at, &mut buffer)?;
            if is_zero(&buffer) {
                read += length;
            } else if let Some(bad) = (at..).zip(&buffer).find(|(_, byte)| **byte != 0).map(|(at, _)| at)
                && !lost.iter().any(|lost| lost.start <= bad && bad < lost.end)
            {
                wrong.push(bad);
            }
            at += length;
        }
    }
    Ok((read, wrong))
}
