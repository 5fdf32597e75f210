//! Index runs against footers. They are a cache: damage costs only space. But a row that names another chunk than the
//! footer does would make a backup refer to wrong bytes, so that is looked for.

use std::collections::BTreeMap;

use futures::StreamExt;
use strongroom_model::{PackId, chain};

use super::Findings;
use crate::index::IndexRun;
use crate::keys::domain_of;
use crate::layout::ObjectName;
use crate::pack::{EntryRef, read_footer};
use crate::repository::Repository;
use crate::seal::SealError;

/// Footers side by side.
const AT_ONCE: usize = 16;

/// The beginnings of chunk ids, and the entries where they should lie.
type Rows = Vec<([u8; 16], u32)>;

impl Repository {
    /// Opens each run and compares its rows with the footers; one run in memory at a time.
    pub(super) async fn check_index_runs(&self, findings: &mut Findings) {
        let Ok(keys) = self.list_runs().await else { return };
        for key in keys {
            let name = ObjectName::index_run(key);
            let Ok(sealed) = self.journal().get(&name).await else { continue };
            let what = match IndexRun::open(&self.inner.context.keyring, self.id(), key, &sealed) {
                Err(SealError::UnknownEpoch { epoch })
                    if self.is_shared() && domain_of(epoch) != self.domain() =>
                {
                    None
                }
                Err(error) => Some(chain(&error)),
                Ok(run) => self.wrong_rows(&run).await,
            };
            if let Some(what) = what {
                findings.add(
                    name.as_str(),
                    format!("{what}; `strongroom repository rebuild-index` makes it again"),
                );
            }
        }
    }

    async fn wrong_rows(&self, run: &IndexRun) -> Option<String> {
        let fold = self.known_fold();
        let mut by_pack: BTreeMap<PackId, Rows> = BTreeMap::new();
        for (prefix, EntryRef { pack, entry }) in run.entries() {
            by_pack.entry(pack).or_default().push((prefix, entry));
        }
        // What is not in the table is ignored by everybody.
        let packs = by_pack.into_iter().filter_map(|(pack, rows)| Some((fold.packs.get(&pack)?.place, rows)));
        let look = |(place, rows): (_, Rows)| async move {
            // A footer that cannot be read is told with its pack.
            let Ok(footer) = read_footer(&self.inner.context, place).await else { return 0 };
            let is_wrong = |(prefix, entry): &&([u8; 16], u32)| {
                footer.row(*entry).is_some_and(|row| !row.id.bytes().starts_with(prefix))
            };
            rows.iter().filter(is_wrong).count()
        };
        let wrong: usize = futures::stream::iter(packs)
            .map(look)
            .buffer_unordered(AT_ONCE)
            .fold(0, |sum, wrong| async move { sum + wrong })
            .await;
        (wrong > 0).then(|| format!("{wrong} of its rows name other chunks than the packs' own tables"))
    }
}
