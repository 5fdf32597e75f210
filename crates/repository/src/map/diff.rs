//! What differs between two maps, without reading what they share.

use std::collections::BTreeSet;
use std::ops::Range;

use super::leaf::{Leaf, LeafRun};
use super::{FAN_OUT, MapError, MapReader, NODE_CHUNKS, slot};

impl MapReader {
    /// The ranges of chunks, in order, that may differ from `other`: those whose references differ. Shared nodes and leaves are
    /// skipped unread. Beyond the end of the shorter volume a range differs where the longer one is not zero.
    ///
    /// All in memory, 16 bytes a range: for a large volume ask for a window at a time ([`Self::diff_within`]).
    ///
    /// # Errors
    /// When a node cannot be read, or the grids differ.
    pub async fn diff(&self, other: &Self) -> Result<Vec<Range<u64>>, MapError> {
        self.diff_within(other, 0..self.head().chunks().max(other.head().chunks())).await
    }

    /// [`Self::diff`] within a window of chunks.
    ///
    /// # Errors
    /// As [`Self::diff`].
    pub async fn diff_within(&self, other: &Self, chunks: Range<u64>) -> Result<Vec<Range<u64>>, MapError> {
        let (ours, theirs) = (self.head().chunk_bytes, other.head().chunk_bytes);
        if ours != theirs {
            return Err(MapError::Grid { ours, theirs });
        }
        let mut found = Ranges { within: chunks.clone(), list: Vec::new() };
        let nodes: BTreeSet<u32> = self.nodes().keys().chain(other.nodes().keys()).copied().collect();
        for number in nodes {
            let (a, b) = (self.nodes().get(&number), other.nodes().get(&number));
            let first_chunk = u64::from(number) * NODE_CHUNKS;
            if a == b || first_chunk >= chunks.end || first_chunk + NODE_CHUNKS <= chunks.start {
                continue;
            }
            let (a, b) = (self.node_or_zero(a).await?, other.node_or_zero(b).await?);
            let leaves: BTreeSet<u16> = a.leaves.keys().chain(b.leaves.keys()).copied().collect();
            for number in leaves {
                let (a, b) = (a.leaves.get(&number), b.leaves.get(&number));
                let first_chunk = first_chunk + u64::from(number) * FAN_OUT;
                if a == b || first_chunk >= chunks.end || first_chunk + FAN_OUT <= chunks.start {
                    continue;
                }
                let (a, b) = (self.leaf_or_zero(a).await?, other.leaf_or_zero(b).await?);
                compare(&a, &b, |from, to| {
                    found.add(first_chunk + u64::from(from)..first_chunk + u64::from(to))
                });
            }
        }
        Ok(found.list)
    }
}

/// Ranges in ascending order; neighbours are joined, and what lies outside is cut off.
struct Ranges {
    within: Range<u64>,
    list: Vec<Range<u64>>,
}

impl Ranges {
    fn add(&mut self, range: Range<u64>) {
        let (start, end) = (range.start.max(self.within.start), range.end.min(self.within.end));
        match self.list.last_mut() {
            _ if start >= end => {}
            Some(last) if last.end == start => last.end = end,
            _ => self.list.push(start..end),
        }
    }
}

/// Calls `differs` with each range of slots in which the leaves refer to different entries.
fn compare(a: &Leaf, b: &Leaf, mut differs: impl FnMut(u16, u16)) {
    let end = slot(FAN_OUT - 1) + 1;
    let (mut a, mut b) = (a.runs(), b.runs());
    let mut from = 0;
    while from < end {
        a = skip(a, from);
        b = skip(b, from);
        // Up to here neither changes: a run's end, or the beginning of the next.
        let until = [a, b].into_iter().filter_map(|runs| edge(runs, from)).min().unwrap_or(end);
        let at = |runs: &[LeafRun]| runs.first().filter(|run| run.start <= from).map(|run| run.at(from));
        if at(a) != at(b) {
            differs(from, until);
        }
        from = until;
    }
}

/// The runs that do not end before `from`.
fn skip(runs: &[LeafRun], from: u16) -> &[LeafRun] {
    &runs[runs.partition_point(|run| run.end() <= from)..]
}

/// Where the next change after `from` lies.
fn edge(runs: &[LeafRun], from: u16) -> Option<u16> {
    runs.first().map(|run| if run.start > from { run.start } else { run.end() })
}
