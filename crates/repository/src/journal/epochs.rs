//! Under which epoch each stretch of the journal is sealed.
//!
//! Epochs never go back: from the record that rotates the keys on, every record is sealed under the new epoch. Whoever
//! holds only older keys (a key that was removed before the rotation) can therefore append nothing that is believed. The
//! epoch of the newest record is the one that seals.

use std::collections::BTreeMap;

use super::Journal;
use crate::errors::JournalError;
use crate::names;
use crate::record::{Event, Record};
use crate::repository::Rings;
use crate::seal::{self, SealError};

/// Of each epoch, the first and the last record that were seen under it.
#[derive(Debug, Default)]
pub(super) struct Epochs(BTreeMap<u32, (u64, u64)>);

impl Epochs {
    /// Notes that record `number` is sealed under `epoch`. Records may come in any order. `Err` is the other epoch that
    /// makes it impossible.
    fn note(&mut self, number: u64, epoch: u32) -> Result<(), u32> {
        let below = self.0.range(..epoch).next_back();
        let above = self.0.range(epoch + 1..).next();
        match (below, above) {
            (Some((other, (_, last))), _) if *last >= number => return Err(*other),
            (_, Some((other, (first, _)))) if *first <= number => return Err(*other),
            _ => {}
        }
        let (first, last) = self.0.entry(epoch).or_insert((number, number));
        (*first, *last) = ((*first).min(number), (*last).max(number));
        Ok(())
    }

    /// The epoch of a record that was noted, or lies between two of one epoch.
    fn of(&self, number: u64) -> Option<u32> {
        let holds = |(first, last): &(u64, u64)| (*first..=*last).contains(&number);
        self.0.iter().find(|(_, stretch)| holds(stretch)).map(|(epoch, _)| *epoch)
    }

    fn newest(&self) -> Option<u32> {
        self.0.last_key_value().map(|(epoch, _)| *epoch)
    }
}

impl Journal {
    /// Notes the epoch of a record whose bytes are known to be the journal's; the newest one seals from now on.
    pub(super) fn note_epoch(&self, number: u64, sealed: &[u8]) -> Result<u32, JournalError> {
        let epoch = seal::epoch_of(sealed).map_err(|cause| JournalError::Sealed { number, cause })?;
        let mut epochs = self.epochs.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        epochs.note(number, epoch).map_err(|other| JournalError::OldKey { number, epoch, other })?;
        if let Some(newest) = epochs.newest() {
            self.keyring.settle(newest);
            self.own.settle(newest);
        }
        Ok(epoch)
    }

    /// The epoch of the newest record seen.
    pub(crate) fn newest_epoch(&self) -> Option<u32> {
        self.epochs.lock().unwrap_or_else(std::sync::PoisonError::into_inner).newest()
    }

    /// The epoch of a record that was seen.
    pub(super) fn epoch_at(&self, number: u64) -> Option<u32> {
        self.epochs.lock().unwrap_or_else(std::sync::PoisonError::into_inner).of(number)
    }

    /// Takes in the keys of an epoch that `error` says is not held, from this key's slot. `false`: it is not there, or
    /// this was not the matter.
    pub(super) async fn renew_keys(&self, error: &JournalError) -> bool {
        let JournalError::Sealed { cause: SealError::UnknownEpoch { epoch }, .. } = error else {
            return false;
        };
        let Some(renewal) = &self.renewal else { return false };
        match renewal.renew().await {
            Ok(rings) => {
                self.adopt(&rings);
                let held = self.keyring.master(*epoch).is_some();
                if held {
                    tracing::info!(
                        epoch,
                        "the repository's keys were rotated; this process has the new ones"
                    );
                }
                held
            }
            Err(error) => {
                let cause = strongroom_model::chain(&error);
                tracing::warn!(
                    epoch,
                    cause,
                    "the repository's keys were rotated, and this key's slot cannot be read"
                );
                false
            }
        }
    }

    fn adopt(&self, rings: &Rings) {
        self.keyring.adopt(&rings.journal);
        self.own.adopt(&rings.own);
    }

    /// Takes in the keys of an epoch of this key's own domain that a record is the first to speak of.
    pub(super) async fn renew_own(&self, record: &Record) {
        let (domain, epoch) = match &record.event {
            Event::DomainRotated(rotated) => (rotated.domain, Some(rotated.epoch)),
            Event::PublishedInDomain(published) => (published.domain, names::epoch_of(&published.names)),
            _ => return,
        };
        let is_missing = |epoch| domain == self.own.domain() && self.own.master(epoch).is_none();
        if !self.own.is_shared() || !epoch.is_some_and(is_missing) {
            return;
        }
        let Some(renewal) = &self.renewal else { return };
        match renewal.renew().await {
            Ok(rings) => self.adopt(&rings),
            Err(error) => {
                let cause = strongroom_model::chain(&error);
                tracing::warn!(
                    domain,
                    cause,
                    "the domain's keys were rotated, and this key's slot cannot be read"
                );
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn epochs_never_go_back_in_whatever_order_records_are_read() {
        let mut epochs = Epochs::default();
        for (number, epoch) in [(5, 7), (9, 20), (6, 7), (4, 1), (8, 20)] {
            epochs.note(number, epoch).unwrap();
        }
        assert_eq!((epochs.newest(), epochs.of(8), epochs.of(7)), (Some(20), Some(20), None));
        for (number, epoch, other) in [(10, 7, 20), (10, 19, 20), (5, 1, 7), (3, 20, 7), (7, 1, 7), (4, 7, 1)]
        {
            assert_eq!(epochs.note(number, epoch), Err(other), "record {number} under {epoch}");
        }
        epochs.note(7, 7).unwrap();
        epochs.note(10, 30).unwrap();
    }
}
