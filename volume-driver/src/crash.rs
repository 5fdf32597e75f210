//! Places where a test can let the driver die as by `kill -9`.
//!
//! Each lies between two steps of an operation whose order matters. Outside tests there is nothing here.

/// Dies here if a test armed this point.
#[cfg(not(test))]
#[inline]
pub(crate) const fn point(_name: &str) {}

#[cfg(test)]
pub(crate) static ARMED: std::sync::OnceLock<String> = std::sync::OnceLock::new();

#[cfg(test)]
pub(crate) fn point(name: &str) {
    if ARMED.get().is_some_and(|armed| armed == name) {
        let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
    }
}
