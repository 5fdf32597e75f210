//! Ctrl-C and termination: a command that has a server, a mount and a volume clears them away before it ends.
//!
//! While a session of `psql` has the terminal, Ctrl-C is meant for the question that runs in it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// What is asked of a command from outside.
#[derive(Debug, Clone)]
pub(super) struct Interrupts {
    /// Cancelled by the first signal.
    pub(super) given_up: CancellationToken,
    elsewhere: Arc<AtomicBool>,
}

impl Interrupts {
    /// Nothing is listened to yet: a signal ends the command, which has nothing to clear away.
    pub(super) fn new() -> Self {
        Self { given_up: CancellationToken::new(), elsewhere: Arc::new(AtomicBool::new(false)) }
    }

    /// From here on signals end nothing by themselves.
    pub(super) fn listen(&self) {
        let told = self.clone();
        tokio::spawn(async move {
            let (Ok(mut interrupt), Ok(mut terminate)) =
                (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
            else {
                return;
            };
            loop {
                tokio::select! {
                    _ = interrupt.recv() => if told.elsewhere.load(Ordering::SeqCst) { continue },
                    _ = terminate.recv() => {}
                }
                return told.given_up.cancel();
            }
        });
    }

    /// Whether Ctrl-C is meant for another program in the terminal.
    pub(super) fn are_elsewhere(&self, elsewhere: bool) {
        self.elsewhere.store(elsewhere, Ordering::SeqCst);
    }
}
