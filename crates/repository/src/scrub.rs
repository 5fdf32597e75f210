//! Scrubbing a bucket without any key: every pack's bytes against the hash in its own trailer.
//!
//! What is proved: each pack object that the store lists is, byte for byte, what was once written under its name. What is
//! not: that no object is missing, that a whole object was not put back to an older state, and anything of the journal,
//! the checkpoints, the index and the key slots: their chain is sealed. Only `check`, with the key, can say that.
//!
//! Pack ids are random, so a part of the id space is as large a part of the packs: a share is a stretch of it, from a
//! position on, and round its end.

use std::sync::Arc;

use futures::StreamExt;
use serde::Serialize;
use strongroom_model::chain;

use crate::layout::{ObjectKind, ObjectName, PackKind};
use crate::pack::{self, PackError};
use crate::store::{ObjectStore, StoreError};

/// Packs side by side; each holds at most 4 MiB.
const AT_ONCE: usize = 16;

/// The id space in steps: the first four hexadecimal digits of a pack id.
pub const POSITIONS: u32 = 1 << 16;

/// Which packs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ScrubRange {
    /// The first position, below [`POSITIONS`].
    pub from: u32,
    /// How many positions, at most [`POSITIONS`].
    pub count: u32,
}

impl ScrubRange {
    /// All of them.
    pub const ALL: Self = Self { from: 0, count: POSITIONS };

    /// Where the next stretch begins.
    #[must_use]
    pub const fn next(self) -> u32 {
        (self.from + self.count) % POSITIONS
    }

    /// Its parts that do not go round the end, ascending.
    fn parts(self) -> impl Iterator<Item = (u32, u32)> {
        let end = self.from + self.count.min(POSITIONS);
        let parts = [(self.from, end.min(POSITIONS)), (0, end.saturating_sub(POSITIONS))];
        parts.into_iter().filter(|(from, to)| from < to)
    }
}

/// What a scrub saw.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Default)]
pub struct ScrubReport {
    /// Packs read.
    pub packs: u64,
    /// Their bytes.
    pub read_bytes: u64,
    /// Those that are not what was written.
    pub damages: Vec<Scrubbed>,
}

/// One object that is not what was written, or could not be read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Scrubbed {
    /// Which.
    pub object: String,
    /// What was seen.
    pub what: String,
}

/// Reads every listed pack of a range whole and compares it with its trailer. `progress` counts positions.
///
/// # Errors
/// When the store cannot list its objects.
pub async fn scrub(
    store: &Arc<dyn ObjectStore>,
    range: ScrubRange,
    progress: &(dyn Fn(u64, u64) + Send + Sync),
) -> Result<ScrubReport, StoreError> {
    let mut report = ScrubReport::default();
    let total = u64::from(range.count) * 3;
    let mut done = 0;
    for kind in [PackKind::Data, PackKind::Map, PackKind::Log] {
        for (from, to) in range.parts() {
            let mut after = Some(before(kind, from));
            while let Some(last) = after.take() {
                let page = store.list(&format!("{}/", kind.folder()), Some(&last)).await?;
                let within: Vec<_> = page
                    .objects
                    .iter()
                    .filter_map(|listed| match ObjectName::parse(&listed.name)?.1 {
                        ObjectKind::Pack(_, object) => Some((object, listed.bytes)),
                        _ => None,
                    })
                    .take_while(|(object, _)| position(object.pack.bytes()) < to)
                    .collect();
                let is_last = !page.more || within.len() < page.objects.len();
                after = page.objects.last().map(|listed| listed.name.clone()).filter(|_| !is_last);
                let look = |(object, bytes)| {
                    let store = Arc::clone(store);
                    // A task for each, so that hashing uses all cores.
                    tokio::spawn(async move {
                        let looked = pack::scrub(store.as_ref(), kind, object, bytes).await;
                        (ObjectName::pack(kind, object), position(object.pack.bytes()), bytes, looked)
                    })
                };
                let mut answers = futures::stream::iter(within).map(look).buffered(AT_ONCE);
                while let Some(answer) = answers.next().await {
                    // A task ends early only when the program does.
                    let Ok((name, at, bytes, looked)) = answer else { continue };
                    progress(done + u64::from(at - from), total);
                    report.take(&name, bytes, looked);
                }
            }
            done += u64::from(to - from);
            progress(done, total);
        }
    }
    Ok(report)
}

impl ScrubReport {
    fn take(&mut self, name: &ObjectName, bytes: u64, looked: Result<pack::Scrubbed, PackError>) {
        match looked {
            // Swept since it was listed.
            Err(PackError::Missing { .. }) => return,
            Err(error) => {
                self.damages.push(Scrubbed { object: name.to_string(), what: chain(&error) });
            }
            Ok(_) => {}
        }
        self.packs += 1;
        self.read_bytes += bytes;
    }
}

fn position(pack: &[u8; 16]) -> u32 {
    u32::from(u16::from_be_bytes([pack[0], pack[1]]))
}

/// A name that comes right before the first one of a position.
fn before(kind: PackKind, position: u32) -> String {
    let digits = format!("{position:04x}");
    format!("{}/{}/{digits}", kind.folder(), &digits[..2])
}
