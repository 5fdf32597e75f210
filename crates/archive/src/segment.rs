//! A segment of PostgreSQL's log, put together from what is archived.

use strongroom_database::{LineageId, Position};

use crate::{ArchiveError, DatabaseArchive};

impl DatabaseArchive {
    /// All bytes of the segment that begins at `at` in this history; `None`: they are not all here.
    ///
    /// The segment in which a history begins has the bytes of its parent before the fork, as the server's own has.
    ///
    /// # Errors
    /// When the store fails, or a bundle is not what was written.
    pub async fn segment(&self, lineage: LineageId, at: Position) -> Result<Option<Vec<u8>>, ArchiveError> {
        let end = at.plus(self.segment_bytes());
        let mut ranges: Vec<_> =
            self.catalogue().log.iter().filter(|range| range.lineage == lineage && range.to > at).collect();
        ranges.sort_by_key(|range| (range.from, range.to));
        let mut bytes = Vec::new();
        let mut reached = at;
        for range in ranges {
            if reached >= end || range.from > reached {
                break;
            }
            if range.to <= reached {
                continue;
            }
            let log = self.log(range).await?;
            let offset =
                |position: Position| usize::try_from(position.since(range.from)).unwrap_or(log.len());
            let to = range.to.min(end);
            let (first, last) = (offset(reached).min(log.len()), offset(to).min(log.len()));
            bytes.extend_from_slice(&log[first..last]);
            reached = to;
        }
        Ok((reached >= end && bytes.len() as u64 == self.segment_bytes()).then_some(bytes))
    }
}
