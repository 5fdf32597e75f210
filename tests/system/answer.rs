//! What a finished command answered.

use std::time::Duration;

use serde_json::Value;

/// Exit code, both streams, and what it cost.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) words: String,
    /// `None`: ended by a signal.
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    pub(crate) took: Duration,
    /// The most memory it ever held (VmHWM), in bytes, as far as it was seen.
    pub(crate) peak_bytes: u64,
    /// CPU seconds, its own and the kernel's for it, as far as they were seen.
    pub(crate) cpu_s: f64,
}

impl Answer {
    /// The last object on standard output.
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        let last =
            self.stdout.lines().last().unwrap_or_else(|| panic!("no result on standard output: {self}"));
        serde_json::from_str(last).unwrap_or_else(|cause| panic!("not JSON ({cause}): {self}"))
    }

    /// Ends the test unless the command succeeded.
    #[track_caller]
    pub(crate) fn ok(self) -> Self {
        assert_eq!(self.code, Some(0), "{self}");
        self
    }

    /// Ends the test unless the command ended with this code: a result that is no success.
    #[track_caller]
    pub(crate) fn ended(self, exit: i32) -> Self {
        assert_eq!(self.code, Some(exit), "{self}");
        self
    }

    /// Ends the test unless the command ended with this code and, in JSON or text, said this error code.
    #[track_caller]
    pub(crate) fn refused(self, exit: i32, error: &str) -> Self {
        assert_eq!(self.code, Some(exit), "{self}");
        assert!(self.stderr.contains(&format!("code: {error}")), "expected the code {error}: {self}");
        assert!(self.stderr.contains("next: "), "an error names the next step: {self}");
        self
    }
}

impl std::fmt::Display for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "`{}` ended with {:?} after {:?}\n--- stdout\n{}\n--- stderr\n{}",
            self.words, self.code, self.took, self.stdout, self.stderr
        )
    }
}
