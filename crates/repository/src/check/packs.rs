//! Looking at packs: is the object there, is its table sound, does it have every needed entry, and, where it is to be read,
//! are all its bytes right?

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures::StreamExt;
use strongroom_model::PackId;
use tokio::time::Instant;

use super::data::{Budget, PACKS_AT_ONCE, read_whole};
use super::needs::Needs;
use super::notes::Notes;
use super::share::chosen;
use super::{CheckOptions, Findings, Progress, ReadData};
use crate::entry_runs::EntryRuns;
use crate::errors::JournalError;
use crate::fold::PackState;
use crate::keys::domain_of;
use crate::layout::PackKind;
use crate::map::LostEntries;
use crate::pack::{EntryRow, EntryType, Footer, Opened, PackError, PackPlace, read_footer};
use crate::repository::Repository;
use crate::seal::SealError;

/// Footers are small: many at once.
const FOOTERS_AT_ONCE: usize = 16;

/// Deltas that are put on their bases together: at most 64 MiB, 4 MiB with chunks of 64 KiB.
const DELTAS_AT_ONCE: usize = 64;

/// What was seen of the packs.
#[derive(Debug, Default)]
pub(super) struct Examined {
    /// Packs looked at.
    pub(super) packs: u64,
    /// Of these, those that were read whole, and the bytes read.
    pub(super) read_packs: u64,
    pub(super) read_bytes: u64,
    /// Entries that cannot be had.
    pub(super) lost: LostEntries,
    /// The objects to blame.
    pub(super) objects: BTreeMap<PackId, String>,
}

/// What was seen of one pack.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// What is wrong.
    pub(super) what: Option<String>,
    /// Entries that cannot be had.
    pub(super) lost: EntryRuns,
    /// None of its entries can.
    pub(super) is_all_lost: bool,
    /// The store failed, or it is of a newer version: that says nothing of the bytes.
    pub(super) is_unclear: bool,
    /// Bytes of it that were read.
    pub(super) read_bytes: u64,
}

impl Repository {
    /// Looks at every pack, or at `only` these: its footer, or with `options.read` those that are chosen whole.
    pub(super) async fn examine_packs(
        &self,
        needs: &Needs,
        only: Option<&BTreeSet<PackId>>,
        options: &CheckOptions,
        progress: Progress<'_>,
        findings: &mut Findings,
        notes: &mut Notes<'_>,
    ) -> Result<Examined, JournalError> {
        let fold = self.known_fold();
        let belongs = |pack: &PackId| only.is_none_or(|only| only.contains(pack));
        let to_read: Vec<PackId> = chosen(&fold, options.read).into_iter().filter(belongs).collect();
        let mut examined = Examined::default();
        self.read_packs(&to_read, needs, options, progress, findings, notes, &mut examined).await?;
        notes.flush(self).await;
        if options.structure {
            let read: BTreeSet<PackId> = to_read.into_iter().collect();
            let mut rest: Vec<PackId> = fold
                .packs
                .keys()
                .copied()
                .chain(needs.packs.iter().copied())
                .filter(|pack| !read.contains(pack) && belongs(pack))
                .collect();
            rest.sort_unstable();
            rest.dedup();
            self.look_at_footers(rest, needs, options, progress, findings, &mut examined).await?;
        } else {
            examined.packs = fold.packs.len() as u64;
        }
        Ok(examined)
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "what one pass reads from and writes to; it has one caller"
    )]
    async fn read_packs(
        &self,
        packs: &[PackId],
        needs: &Needs,
        options: &CheckOptions,
        progress: Progress<'_>,
        findings: &mut Findings,
        notes: &mut Notes<'_>,
        examined: &mut Examined,
    ) -> Result<(), JournalError> {
        let fold = self.known_fold();
        let size = |pack: &PackId| fold.packs.get(pack).map_or(0, |state| state.place.bytes);
        let total = packs.iter().map(size).sum();
        let budget = &Budget::new();
        let until = match options.read {
            ReadData::For(time) => Instant::now().checked_add(time),
            _ => None,
        };
        let in_time = |_: &PackId| futures::future::ready(until.is_none_or(|until| Instant::now() < until));
        let look = |pack: PackId| async move { (pack, self.examine(pack, needs, Some(budget)).await) };
        let mut answers = futures::stream::iter(packs.iter().copied())
            .take_while(in_time)
            .map(look)
            .buffer_unordered(PACKS_AT_ONCE);
        let mut done = 0;
        while let Some((pack, answer)) = answers.next().await {
            done += size(&pack);
            progress(done, total);
            let Some((place, seen)) = answer? else { continue };
            examined.read_packs += 1;
            examined.read_bytes += seen.read_bytes;
            notes.add(self, place, &seen).await;
            examined.take(findings, pack, place, seen);
        }
        Ok(())
    }

    async fn look_at_footers(
        &self,
        packs: Vec<PackId>,
        needs: &Needs,
        options: &CheckOptions,
        progress: Progress<'_>,
        findings: &mut Findings,
        examined: &mut Examined,
    ) -> Result<(), JournalError> {
        let total = packs.len() as u64;
        let look = |pack: PackId| async move { (pack, self.examine(pack, needs, None).await) };
        let mut answers = futures::stream::iter(packs).map(look).buffer_unordered(FOOTERS_AT_ONCE);
        let mut done = 0;
        while let Some((pack, answer)) = answers.next().await {
            done += 1;
            if options.read == ReadData::Nothing {
                progress(done, total);
            }
            if let Some((place, seen)) = answer? {
                examined.take(findings, pack, place, seen);
            }
        }
        Ok(())
    }

    /// Looks at one pack, wherever it lies now. `None`: it does not exist any more.
    async fn examine(
        &self,
        pack: PackId,
        needs: &Needs,
        read: Option<&Budget>,
    ) -> Result<Option<(Option<PackPlace>, Seen)>, JournalError> {
        let mut last: Option<PackPlace> = None;
        loop {
            let fold = self.known_fold();
            let Some(state) = fold.packs.get(&pack) else {
                let what = Some("the journal names no such pack".to_owned());
                let lost = needs.entries.entries(&pack).collect();
                return Ok(Some((None, Seen { what, lost, ..Seen::default() })));
            };
            let place = state.place;
            let (footer, mut seen) = match read {
                Some(budget) => self.read_pack(place, needs, budget).await,
                None => match read_footer(&self.inner.context, place).await {
                    Ok(footer) => (Some(Arc::new(footer)), Seen::default()),
                    // Its own domain, or the operator, looks into it; that the object is there is seen in the listing.
                    Err(error) if self.is_of_other_domain(&error) && !needs.packs.contains(&pack) => {
                        (None, Seen::default())
                    }
                    Err(error) => (None, Seen::all_lost(&error)),
                },
            };
            if seen.is_all_lost {
                seen.lost.extend(&EntryRuns::run(0, state.entries).without(&state.holes));
            }
            if let Some(footer) = &footer {
                if read.is_some() {
                    self.put_together(footer, needs, &mut seen).await;
                }
                seen.compare(footer, state, needs, self.chunk_bytes());
            }
            if read.is_none()
                && let Some(known) = fold.verified.damaged().get(&pack)
            {
                seen.lost.extend(known);
                seen.what.get_or_insert_with(|| {
                    format!("a check that read it found {} of its entries damaged", known.len())
                });
            }
            if seen.what.is_none() || last == Some(place) {
                return Ok(Some((Some(place), seen)));
            }
            // It may have been rewritten, or its points forgotten, while it was looked at.
            last = Some(place);
            let fold = self.fold().await?;
            match fold.packs.get(&pack) {
                Some(state) if state.place == place => return Ok(Some((Some(place), seen))),
                Some(_) => {}
                None => return Ok(None),
            }
        }
    }

    /// Reads all of a pack. What other domains alone can open is compared with its own hash instead.
    async fn read_pack(
        &self,
        place: PackPlace,
        needs: &Needs,
        budget: &Budget,
    ) -> (Option<Arc<Footer>>, Seen) {
        let context = &self.inner.context;
        if self.is_shared() {
            let footer = match read_footer(context, place).await {
                Ok(footer) if footer.opens() => None,
                Ok(footer) => Some(Some(Arc::new(footer))),
                Err(error) => {
                    let is_foreign = self.is_of_other_domain(&error);
                    (is_foreign && !needs.packs.contains(&place.object.pack)).then_some(None)
                }
            };
            if let Some(footer) = footer {
                return (footer, Seen::hashed(context, place).await);
            }
        }
        read_whole(context, place, budget).await
    }

    /// Whether it cannot be opened because it is another domain's.
    pub(super) fn is_of_other_domain(&self, error: &PackError) -> bool {
        let PackError::Sealed { cause: SealError::UnknownEpoch { epoch }, .. } = error else { return false };
        self.is_shared() && domain_of(*epoch) != self.domain()
    }

    /// Puts needed deltas on their bases, to see that their chunks come out. What a base has to say for itself is asked of its
    /// own pack: one that cannot be read is not a delta's fault.
    async fn put_together(&self, footer: &Footer, needs: &Needs, seen: &mut Seen) {
        let pack = footer.place().object.pack;
        let is_sound_delta = |entry: &u32| {
            !seen.lost.contains(*entry)
                && footer.row(*entry).is_some_and(|row| row.entry_type == EntryType::Delta)
        };
        let deltas: Vec<u32> = needs.entries.entries(&pack).filter(is_sound_delta).collect();
        for some in deltas.chunks(DELTAS_AT_ONCE) {
            let Ok(opened) = self.inner.fetcher.opened(footer.place(), some).await else { continue };
            let bases = self.reader().bases(opened.iter().filter_map(Opened::base)).await.unwrap_or_default();
            for delta in opened {
                let entry = delta.row().number;
                if let Some(base) = delta.base().and_then(|at| bases.get(&at))
                    && let Err(error) = delta.onto(base)
                {
                    seen.lost.insert_run(entry, 1);
                    seen.note(&error);
                }
            }
        }
    }
}

impl Seen {
    /// What a footer lacks of what points need, and what cannot be in it.
    fn compare(&mut self, footer: &Footer, state: &PackState, needs: &Needs, chunk_bytes: u32) {
        let pack = state.place.object.pack;
        let mut lacking = EntryRuns::default();
        for entry in needs.entries.entries(&pack) {
            if !footer.row(entry).is_some_and(|row| is_plausible(row, state.place.kind, chunk_bytes)) {
                lacking.insert_run(entry, 1);
            }
        }
        let swept: EntryRuns = lacking.iter().filter(|entry| state.holes.contains(*entry)).collect();
        if !swept.is_empty() {
            self.what.get_or_insert_with(|| "entries that a point needs were swept".to_owned());
        } else if !lacking.is_empty() {
            self.what.get_or_insert_with(|| format!("its table lacks {} needed entries", lacking.len()));
        }
        self.lost.extend(&lacking);
        let strange =
            footer.rows().iter().any(|row| row.number >= state.entries || state.holes.contains(row.number));
        if strange {
            self.what
                .get_or_insert_with(|| "its table has entries that the journal does not know".to_owned());
        }
    }
}

/// Whether an entry can be what a map takes it for.
const fn is_plausible(row: &EntryRow, kind: PackKind, chunk_bytes: u32) -> bool {
    match kind {
        PackKind::Data => row.plain_bytes > 0 && row.plain_bytes <= chunk_bytes,
        PackKind::Map => true,
        PackKind::Log => false,
    }
}

impl Examined {
    fn take(&mut self, findings: &mut Findings, pack: PackId, place: Option<PackPlace>, seen: Seen) {
        self.packs += 1;
        let Some(what) = seen.what else { return };
        let object = place.map_or_else(|| pack.to_string(), |place| place.name().to_string());
        findings.add(&object, what);
        if !seen.lost.is_empty() {
            self.lost.0.entry(pack).or_default().extend(&seen.lost);
            self.objects.insert(pack, object);
        }
    }
}
