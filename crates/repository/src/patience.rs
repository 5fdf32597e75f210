//! How long a thing is tried, and with what pauses.

use std::time::Duration;

/// Bounded retries with growing pauses. Handed in, so that tests do not wait and a person can be told how long
/// it takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// How many times one request is sent before giving up; at least 1.
    pub attempts: u32,
    /// The pause after the first failure.
    pub first: Duration,
    /// Pauses double up to this.
    pub longest: Duration,
}

impl Default for Patience {
    /// Eight attempts within about half a minute, on top of what the store's adapter retries below.
    fn default() -> Self {
        Self { attempts: 8, first: Duration::from_millis(200), longest: Duration::from_secs(10) }
    }
}

impl Patience {
    /// Tries as often, without a pause.
    pub const NO_PAUSE: Self = Self { attempts: 8, first: Duration::ZERO, longest: Duration::ZERO };

    /// Waits after failure number `failures`, counted from 1; false when it is time to give up.
    pub async fn wait(&self, failures: u32) -> bool {
        if failures >= self.attempts {
            return false;
        }
        let pause = self.first.saturating_mul(1 << (failures - 1).min(16)).min(self.longest);
        if pause.is_zero() {
            tokio::task::yield_now().await;
        } else {
            tokio::time::sleep(pause).await;
        }
        true
    }
}
