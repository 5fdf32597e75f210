//! One operation at a time on each volume, snapshot and name.

use std::collections::HashSet;
use std::fmt::Display;
use std::sync::{Arc, Mutex, PoisonError};

use crate::core_error::CoreError;

/// What is being worked on.
#[derive(Debug, Clone, Default)]
pub(crate) struct Guards {
    taken: Arc<Mutex<HashSet<String>>>,
}

/// Held while an operation runs.
#[derive(Debug)]
#[must_use]
pub(crate) struct Guard {
    taken: Arc<Mutex<HashSet<String>>>,
    key: String,
}

impl Guards {
    /// Takes the guard of `key`, or says that another operation has it. Nobody waits: the caller asks again.
    pub(crate) fn take(&self, key: impl Display) -> Result<Guard, CoreError> {
        let key = key.to_string();
        if self.taken.lock().unwrap_or_else(PoisonError::into_inner).insert(key.clone()) {
            Ok(Guard { taken: Arc::clone(&self.taken), key })
        } else {
            Err(CoreError::Busy { subject: key })
        }
    }

    /// Whether an operation has the guard of `key` now: for work that steps aside for others.
    pub(crate) fn is_taken(&self, key: impl Display) -> bool {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner).contains(&key.to_string())
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.key);
    }
}
