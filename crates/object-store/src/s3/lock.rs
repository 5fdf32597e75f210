//! Retention locks (S3 Object Lock): set when a pack is written, prolonged while it is needed, respected when it is not.
//!
//! A bucket with locks keeps versions. There a plain DELETE only hides an object, and what is hidden costs space for ever and
//! is not refused by a lock. So with locks an object is deleted version by version, which a lock does refuse.

use aws_sdk_s3::operation::head_object::HeadObjectOutput;
use aws_sdk_s3::primitives::DateTime;
use aws_sdk_s3::types::{
    ObjectLockLegalHoldStatus, ObjectLockMode, ObjectLockRetention, ObjectLockRetentionMode,
};
use jiff::{SignedDuration, Timestamp};
use strongroom_repository::layout::{ObjectKind, ObjectName};
use strongroom_repository::store::{Deleted, StoreError};

use super::{S3Store, timestamp};
use crate::settings::LockMode;

/// The most versions of one object that one delete removes. Every name is written once, or a few times with the same bytes.
const MOST_VERSIONS: usize = 16;

/// What is locked, and for how long.
#[derive(Debug, Clone)]
pub(super) struct Lock {
    pub(super) mode: LockMode,
    pub(super) span: SignedDuration,
}

impl Lock {
    pub(super) const fn mode(&self) -> ObjectLockMode {
        match self.mode {
            LockMode::Compliance => ObjectLockMode::Compliance,
            LockMode::Governance => ObjectLockMode::Governance,
        }
    }
}

/// Until when a lock holds that begins now.
fn until(span: SignedDuration, now: Timestamp) -> (Timestamp, DateTime) {
    // Whole seconds: there are stores that refuse others.
    let until = Timestamp::from_second(now.saturating_add(span).map_or(0, Timestamp::as_second));
    let until = until.unwrap_or(Timestamp::MAX);
    (until, DateTime::from_secs(until.as_second()))
}

impl S3Store {
    /// The lock of a new object: packs have one, where the settings ask for it.
    pub(super) fn lock_of(&self, name: &ObjectName) -> Option<(ObjectLockMode, DateTime)> {
        let (lock, clock) = (self.lock.as_ref()?, self.clock.as_ref()?);
        matches!(ObjectName::parse(name.as_str()), Some((_, ObjectKind::Pack(..))))
            .then(|| (lock.mode(), until(lock.span, clock.now()).1))
    }

    /// Prolongs a lock to the span of the settings, from now.
    pub(super) async fn prolong_lock(&self, name: &ObjectName) -> Result<Option<Timestamp>, StoreError> {
        let (Some(lock), Some(clock)) = (&self.lock, &self.clock) else { return Ok(None) };
        let (until, date) = until(lock.span, clock.now());
        let mode = match lock.mode {
            LockMode::Compliance => ObjectLockRetentionMode::Compliance,
            LockMode::Governance => ObjectLockRetentionMode::Governance,
        };
        let retention = ObjectLockRetention::builder().mode(mode).retain_until_date(date).build();
        let request =
            self.client.put_object_retention().bucket(&self.bucket).key(self.key(name)).retention(retention);
        request.send().await.map_err(|error| self.error(name.as_str(), error))?;
        Ok(Some(until))
    }

    /// Deletes an object so that it is gone, or says that a lock keeps it.
    pub(super) async fn delete_versions(&self, name: &ObjectName) -> Result<Deleted, StoreError> {
        for _ in 0..MOST_VERSIONS {
            let (head, now) = match self.ask_head(name).await {
                Ok(answer) => answer,
                Err(StoreError::NotFound { .. }) => return Ok(Deleted::Gone),
                Err(error) => return Err(error),
            };
            if is_locked(&head, now) {
                return Ok(Deleted::Retained);
            }
            let version = head.version_id().filter(|version| *version != "null").map(str::to_owned);
            let is_versioned = version.is_some();
            let request =
                self.client.delete_object().bucket(&self.bucket).key(self.key(name)).set_version_id(version);
            match request.send().await.map_err(|error| self.error(name.as_str(), error)) {
                Ok(_) if !is_versioned => return Ok(Deleted::Gone),
                Ok(_) => {}
                Err(StoreError::NotFound { .. }) => return Ok(Deleted::Gone),
                // Locked in that moment: somebody prolongs what somebody else sweeps.
                Err(error @ StoreError::Refused { .. }) => {
                    return if self.is_locked(name).await { Ok(Deleted::Retained) } else { Err(error) };
                }
                Err(error) => return Err(error),
            }
        }
        // The rest is found by the next sweep.
        Ok(Deleted::Gone)
    }

    /// Whether a lock is what kept an object from being deleted.
    pub(super) async fn is_locked(&self, name: &ObjectName) -> bool {
        self.ask_head(name).await.is_ok_and(|(head, now)| is_locked(&head, now))
    }
}

fn is_locked(head: &HeadObjectOutput, now: Option<Timestamp>) -> bool {
    let held = head.object_lock_legal_hold_status() == Some(&ObjectLockLegalHoldStatus::On);
    let retained = head
        .object_lock_retain_until_date()
        .and_then(timestamp)
        .is_some_and(|until| now.is_none_or(|now| until > now));
    held || retained
}
