//! Which objects there are, as LIST shows them: those that are nobody's, and those that seem to be missing.
//!
//! LIST may lie by omission, so what it does not show, or shows with another size, is asked for by HEAD before it is called
//! lost. Names come in the order of pack ids, as the pack table does, so nothing is held in memory but a page.

use std::collections::BTreeSet;
use std::ops::Bound;

use futures::StreamExt;
use serde::Serialize;
use strongroom_model::{PackId, chain};

use super::packs::Examined;
use super::{CheckOptions, Findings};
use crate::entry_runs::EntryRuns;
use crate::fold::{Fold, PackState};
use crate::layout::{ObjectKind, ObjectName, PackKind};
use crate::repository::Repository;
use crate::store::{Listed, StoreError};

/// Questions side by side.
const AT_ONCE: usize = 16;

/// Objects that no pack's current place is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Default)]
pub struct Orphans {
    /// How many.
    pub objects: u64,
    /// How many bytes.
    pub total_bytes: u64,
}

/// A place in the pack table, which is gone through beside the listing.
struct Table<'a> {
    fold: &'a Fold,
    kind: PackKind,
    from: Bound<PackId>,
}

impl Table<'_> {
    /// Goes on to `until`; what lies before it and was not just found in the listing is absent from that.
    fn pass(&mut self, until: Bound<PackId>, found: Option<PackId>, absent: &mut Vec<PackId>) {
        if let (Bound::Included(from), Bound::Excluded(until)) = (self.from, until)
            && from >= until
        {
            return;
        }
        let passed = self.fold.packs.range((self.from, until));
        let missed = passed.filter(|(pack, state)| state.place.kind == self.kind && found != Some(**pack));
        absent.extend(missed.map(|(pack, _)| *pack));
        if let Bound::Excluded(until) = until {
            self.from = Bound::Included(until);
        }
    }
}

impl Repository {
    /// Counts what is nobody's, and looks that every pack's object is there with its size.
    pub(super) async fn survey_objects(
        &self,
        options: &CheckOptions,
        only: Option<&BTreeSet<PackId>>,
        findings: &mut Findings,
        examined: &mut Examined,
    ) -> Orphans {
        let mut orphans = Orphans::default();
        // What is published from here on is no orphan of this listing's.
        let Ok(fold) = self.fold().await else { return orphans };
        for kind in [PackKind::Data, PackKind::Map] {
            let mut absent: Vec<PackId> = Vec::new();
            if let Err(cause) = self.compare_listing(&fold, kind, &mut orphans, &mut absent).await {
                tracing::warn!(
                    error = chain(&cause),
                    "the objects cannot be listed; orphans are not counted"
                );
            }
            absent.retain(|pack| only.is_none_or(|only| only.contains(pack)));
            let ask = |pack: PackId| {
                let state = fold.packs.get(&pack).cloned();
                async move { (pack, self.is_absent(state.as_ref()).await, state) }
            };
            let mut answers = futures::stream::iter(absent).map(ask).buffer_unordered(AT_ONCE);
            while let Some((pack, answer, state)) = answers.next().await {
                let (Some(what), Some(state)) = (answer, state) else { continue };
                let object = state.place.name().to_string();
                findings.add(&object, what);
                // Where its footer was looked at, it is known what of it is lost: of an object that only grew, nothing.
                if options.structure {
                    continue;
                }
                let all = EntryRuns::run(0, state.entries).without(&state.holes);
                examined.lost.0.entry(pack).or_default().extend(&all);
                examined.objects.insert(pack, object);
            }
        }
        orphans
    }

    /// Goes through the listing and the pack table side by side.
    async fn compare_listing(
        &self,
        fold: &Fold,
        kind: PackKind,
        orphans: &mut Orphans,
        absent: &mut Vec<PackId>,
    ) -> Result<(), StoreError> {
        let prefix = format!("{}/", kind.folder());
        let mut table = Table { fold, kind, from: Bound::Unbounded };
        let mut after: Option<String> = None;
        let mut found: Option<PackId> = None;
        loop {
            let page = self.store().list(&prefix, after.as_deref()).await?;
            for Listed { name, bytes, .. } in &page.objects {
                let Some((_, ObjectKind::Pack(_, object))) = ObjectName::parse(name) else { continue };
                table.pass(Bound::Excluded(object.pack), found, absent);
                let current = fold.packs.get(&object.pack).filter(|state| state.place.object == object);
                match current {
                    Some(state) if state.place.bytes == *bytes => found = Some(object.pack),
                    Some(_) => {}
                    None => {
                        orphans.objects += 1;
                        orphans.total_bytes += bytes;
                    }
                }
            }
            after = page.objects.last().map(|object| object.name.clone());
            if !page.more || after.is_none() {
                break;
            }
        }
        table.pass(Bound::Unbounded, found, absent);
        Ok(())
    }

    /// What is wrong with the object of a pack; `None`: nothing.
    async fn is_absent(&self, state: Option<&PackState>) -> Option<String> {
        let place = state?.place;
        let name = place.name();
        match self.store().head(&name).await {
            Ok(info) if info.bytes == place.bytes => None,
            Ok(info) => Some(format!("{name} has {} bytes, {} were written", info.bytes, place.bytes)),
            Err(cause) => {
                // Swept or rewritten meanwhile?
                let fold = self.fold().await.ok()?;
                let is_current = fold.packs.get(&place.object.pack).is_some_and(|state| state.place == place);
                is_current.then(|| match cause {
                    StoreError::NotFound { .. } => format!("{name} is missing"),
                    cause => chain(&cause),
                })
            }
        }
    }
}
