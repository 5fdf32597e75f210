//! The world as it is handed in: what time it is, and randomness.
//!
//! Nothing below a program asks the machine for either, so that a week of schedules and crashes can run in a
//! second from one seed.

use std::fmt::Debug;
use std::sync::Arc;

use jiff::Timestamp;

/// Tells the time of day.
pub trait Clock: Debug + Send + Sync {
    /// Now.
    fn now(&self) -> Timestamp;
}

/// Gives random bytes, fit for keys.
pub trait Entropy: Debug + Send + Sync {
    /// Fills all of `bytes`.
    fn fill(&self, bytes: &mut [u8]);
}

/// Clock and randomness together.
#[derive(Debug, Clone)]
pub struct World {
    /// What time it is.
    pub clock: Arc<dyn Clock>,
    /// Where random bytes come from.
    pub entropy: Arc<dyn Entropy>,
}
