//! The journal from its first record; and the other small objects: checkpoints, key slots.

use std::collections::BTreeSet;

use futures::StreamExt;
use strongroom_model::chain;

use super::{AuditReport, Findings, Progress};
use crate::errors::JournalError;
use crate::fold::Fold;
use crate::keys::KeySlot;
use crate::layout::ObjectName;
use crate::repository::Repository;

/// How many records are fetched side by side.
const AT_ONCE: usize = 16;

impl Repository {
    /// Folds the journal from its first record and compares each checkpoint. `progress` counts records.
    ///
    /// # Errors
    /// When a record is missing, damaged, or breaks a rule.
    pub async fn audit(&self, progress: Progress<'_>) -> Result<AuditReport, JournalError> {
        Ok(self.audit_fold(progress).await?.0)
    }

    /// [`Self::audit`], and what the journal says when it is read from its first record.
    pub(super) async fn audit_fold(
        &self,
        progress: Progress<'_>,
    ) -> Result<(AuditReport, Fold), JournalError> {
        let last = self.fold().await?.number;
        self.journal().confirm_end().await?;
        let mut checkpoints: BTreeSet<u64> = self.journal().listed_checkpoints().await.into_iter().collect();
        let mut report = AuditReport::default();
        let mut fold = Fold::default();
        let fetch = |number| async move { (number, self.journal().fetch(number).await) };
        let mut records = futures::stream::iter(1..=last).map(fetch).buffered(AT_ONCE);
        while let Some((number, fetched)) = records.next().await {
            let (record, hash) = fetched?.ok_or(JournalError::Hole { missing: number, later: last })?;
            let kind = record.event.kind();
            fold.apply(&record, hash).map_err(|cause| JournalError::Invalid { number, kind, cause })?;
            if checkpoints.remove(&number) {
                report.checkpoints += 1;
                let mut stored = self.journal().load_checkpoint(number).await?;
                if let Some(stored) = &mut stored {
                    // The first checkpoints did not have them, and nothing rests on them.
                    stored.forgotten.clone_from(&fold.forgotten);
                }
                if stored.as_ref() != Some(&fold) {
                    report.wrong_checkpoints.push(number);
                } else {
                    report.newest_checkpoint = number;
                }
            }
            report.records = number;
            progress(number, last);
        }
        // One that ends with a record that is not there says nothing true; one that is newer than this audit may.
        report.wrong_checkpoints.extend(checkpoints.into_iter().filter(|number| *number <= last));
        report.hash = hex::encode(fold.hash);
        Ok((report, fold))
    }

    /// Old records and checkpoints: nobody reads them any more, but they are the history, and the way back.
    pub(super) async fn check_journal(
        &self,
        fold: &Fold,
        findings: &mut Findings,
    ) -> Result<(), JournalError> {
        match self.audit(&|_, _| ()).await {
            Ok(report) => {
                for number in report.wrong_checkpoints {
                    let object = ObjectName::checkpoint(number).to_string();
                    findings.add(
                        &object,
                        "it does not say what the journal says; opening takes an older one".to_owned(),
                    );
                }
                Ok(())
            }
            Err(
                error @ (JournalError::Sealed { number, .. }
                | JournalError::Unreadable { number, .. }
                | JournalError::Invalid { number, .. }
                | JournalError::Hole { missing: number, .. }),
            ) if number <= fold.number => {
                findings.add(ObjectName::journal(number).as_str(), chain(&error));
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    /// Every slot that the journal names is there and what was written.
    pub(super) async fn check_keys(&self, fold: &Fold, findings: &mut Findings) {
        for (id, state) in &fold.keys {
            let name = ObjectName::key_slot(*id);
            let what = match self.journal().get(&name).await {
                Err(cause) => Some(chain(&cause)),
                Ok(bytes) if *blake3::hash(&bytes).as_bytes() != state.hash => {
                    match KeySlot::parse(*id, &bytes) {
                        Err(error) => Some(chain(&error)),
                        Ok(_) => Some("it is not the slot that was written".to_owned()),
                    }
                }
                Ok(_) => None,
            };
            if let Some(what) = what {
                findings.add(name.as_str(), what);
            }
        }
    }
}
