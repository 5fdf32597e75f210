//! Looking at the bundles of databases' logs: is each there, and, where data is read, is it what was written?
//!
//! What is seen goes into the journal, so whoever plans a restore goes round it, and the agent takes a new base behind it. Bundles
//! that no record names yet are not looked at: they are found by asking, one after another.

use std::collections::BTreeSet;

use futures::StreamExt;
use strongroom_model::{Failure as _, LogId, Remedy, chain};
use tokio::time::Instant;

use super::notes::Notes;
use super::{CheckOptions, Damage, Findings, ReadData};
use crate::errors::JournalError;
use crate::fold::{Fold, LogState};
use crate::layout::PackKind;
use crate::pack::PackPlace;
use crate::repository::Repository;
use crate::store::StoreError;

/// Questions side by side.
const AT_ONCE: usize = 16;

/// Bundles in memory side by side: 8 MiB each, mostly.
const READ_AT_ONCE: usize = 4;

/// Of the time that a check has for reading, this part is for logs.
const PART_OF_TIME: u32 = 4;

impl Repository {
    /// Looks that every bundle of every log is there with its size, and notes in the journal which are not. Costs a request for
    /// a thousand of them, and one for each that was found damaged before. Answers what is wrong.
    ///
    /// # Errors
    /// Only when the journal cannot be read.
    pub async fn survey_logs(&self) -> Result<Vec<Damage>, JournalError> {
        let fold = self.fold().await?;
        let options = CheckOptions { record: true, ..CheckOptions::default() };
        let (mut findings, mut notes) = (Findings::default(), Notes::new(&options));
        self.examine_bundles(&fold, false, &options, &mut findings, &mut notes).await;
        Ok(findings.damages.into_values().collect())
    }

    /// Looks at every bundle, and reads those that `options` chooses; in a copy by a rule (`is_chosen`) at those of databases
    /// that have a base there.
    pub(super) async fn examine_bundles(
        &self,
        fold: &Fold,
        is_chosen: bool,
        options: &CheckOptions,
        findings: &mut Findings,
        notes: &mut Notes<'_>,
    ) {
        let based: BTreeSet<LogId> =
            fold.points.values().filter_map(|point| Some(point.info.database.as_ref()?.log)).collect();
        let based: BTreeSet<&str> =
            based.iter().filter_map(|log| Some(&*fold.logs.get(log)?.opened.identity)).collect();
        let belongs = |log: &&LogState| !is_chosen || based.contains(&*log.opened.identity);
        let logs: Vec<&LogState> = fold.logs.values().filter(belongs).collect();
        if logs.is_empty() {
            return;
        }
        let missing = self.missing_bundles(&logs, findings, notes).await;
        let until = match options.read {
            ReadData::For(time) => Instant::now().checked_add(time / PART_OF_TIME),
            _ => None,
        };
        let in_time = |_: &(LogId, u32, PackPlace)| {
            futures::future::ready(until.is_none_or(|until| Instant::now() < until))
        };
        let read = |(log, number, place): (LogId, u32, PackPlace)| async move {
            (place, self.read_bundle(log, number, place.bytes).await.map(drop))
        };
        let mut there = to_read(&logs, options.read);
        there.retain(|(.., place)| !missing.contains(&place.name().to_string()));
        let mut answers =
            futures::stream::iter(there).take_while(in_time).map(read).buffer_unordered(READ_AT_ONCE);
        while let Some((place, answer)) = answers.next().await {
            match answer {
                Ok(()) => notes.add_bundle(self, place.object, true).await,
                // The store, or the key, and not the bundle.
                Err(error) if error.remedy() != Remedy::FixData => {
                    tracing::warn!(object = %place.name(), error = chain(&error), "a bundle could not be read");
                }
                Err(error) => {
                    if self.is_stored(&place).await {
                        findings.add(&place.name().to_string(), chain(&error));
                        notes.add_bundle(self, place.object, false).await;
                    }
                }
            }
        }
        drop(answers);
        notes.flush(self).await;
    }

    /// The bundles that are not there with their size. LIST may lie by omission, so what it does not show is asked for.
    async fn missing_bundles(
        &self,
        logs: &[&LogState],
        findings: &mut Findings,
        notes: &mut Notes<'_>,
    ) -> BTreeSet<String> {
        let mut there = BTreeSet::new();
        let prefix = format!("{}/", PackKind::Log.folder());
        let mut after: Option<String> = None;
        loop {
            let Ok(page) = self.store().list(&prefix, after.as_deref()).await else { break };
            there.extend(page.objects.iter().map(|object| (object.name.clone(), object.bytes)));
            after = page.objects.last().map(|object| object.name.clone());
            if !page.more || after.is_none() {
                break;
            }
        }
        let mut absent: Vec<PackPlace> = Vec::new();
        for log in logs {
            let places = log.kept().filter_map(|(number, _)| log.place(number));
            absent.extend(places.filter(|place| !there.contains(&(place.name().to_string(), place.bytes))));
        }
        let ask = |place: PackPlace| async move { (place, self.store().head(&place.name()).await) };
        let mut answers = futures::stream::iter(absent).map(ask).buffer_unordered(AT_ONCE);
        let mut missing = BTreeSet::new();
        while let Some((place, answer)) = answers.next().await {
            let name = place.name().to_string();
            let what = match answer {
                Ok(info) if info.bytes == place.bytes => continue,
                Ok(info) => format!("{name} has {} bytes, {} were written", info.bytes, place.bytes),
                Err(StoreError::NotFound { .. }) => format!("{name} is missing"),
                Err(cause) => {
                    findings.add(&name, chain(&cause));
                    continue;
                }
            };
            if self.is_stored(&place).await {
                findings.add(&name, what);
                notes.add_bundle(self, place.object, false).await;
                missing.insert(name);
            }
        }
        missing
    }

    /// Not trimmed and swept meanwhile.
    async fn is_stored(&self, place: &PackPlace) -> bool {
        self.fold().await.is_ok_and(|fold| fold.bundle(&(*place).into()) == Some(*place))
    }
}

/// The bundles to read: in any case those that were found damaged and may have been put back; then those that were not read in
/// this round, oldest first.
fn to_read(logs: &[&LogState], read: ReadData) -> Vec<(LogId, u32, PackPlace)> {
    let all = || {
        logs.iter().flat_map(|log| {
            log.kept().filter_map(move |(number, _)| Some((*log, number, log.place(number)?)))
        })
    };
    let total: u64 = all().map(|(.., place)| place.bytes).sum();
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a share of all bytes needs no exactness, and `as` saturates"
    )]
    let quota = match read {
        ReadData::Nothing | ReadData::Packs(0) => 0,
        ReadData::All | ReadData::For(_) => u64::MAX,
        ReadData::Share(share) => (total as f64 * share.clamp(0.0, 1.0)).ceil() as u64,
        ReadData::Bytes(bytes) => bytes,
        ReadData::Packs(count) => count.saturating_mul(8 << 20),
    };
    let is_all = read == ReadData::All;
    let (known, others): (Vec<_>, Vec<_>) = all().partition(|(log, number, _)| log.is_damaged(*number));
    let mut taken = 0_u64;
    let others = others.into_iter().filter(|(log, number, _)| is_all || !log.was_read(*number));
    let others = others.take_while(|(.., place)| {
        let is_within = taken < quota;
        taken = taken.saturating_add(place.bytes);
        is_within
    });
    known.into_iter().chain(others).map(|(log, number, place)| (log.opened.log, number, place)).collect()
}
