//! How a failure crosses the wire: a [`Failure`] becomes a gRPC status at the server and a [`CallError`] at the client.
//!
//! CSI wants a message that is not empty and `details` that are. So the message carries the text, the code and the
//! advice for people, and the metadata of the status carries the same for programs. A status from a driver that is
//! not ours has no such metadata; then the gRPC code decides.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use strongroom_model::{Failure, Remedy, chain};
use tonic::metadata::{BinaryMetadataValue, MetadataMap};
use tonic::{Code, Status};

const CODE: &str = "strongroom-code";
const REMEDY: &str = "strongroom-remedy";
const ADVICE: &str = "strongroom-advice-bin";

/// What programs like mkfs say can be long; a status travels in HTTP headers, which cannot.
const LONGEST_TEXT_BYTES: usize = 2048;

/// The status that tells `failure` to a client.
#[must_use]
pub fn status(code: Code, failure: &dyn Failure) -> Status {
    let text = cut(&chain(failure));
    let advice = cut(&failure.advice());
    let mut metadata = MetadataMap::new();
    if let Ok(value) = failure.code().parse() {
        metadata.insert(CODE, value);
    }
    if let Ok(value) = remedy_word(failure.remedy()).parse() {
        metadata.insert(REMEDY, value);
    }
    metadata.insert_bin(ADVICE, BinaryMetadataValue::from_bytes(advice.as_bytes()));
    Status::with_metadata(code, format!("{text}{}", tail(failure.code(), &advice)), metadata)
}

/// The gRPC code for a failure of which nothing is known but its remedy and its code.
#[must_use]
pub fn code_for(failure: &dyn Failure) -> Code {
    match failure.remedy() {
        _ if failure.code().ends_with(".full") || failure.code().ends_with("-full") => {
            Code::ResourceExhausted
        }
        Remedy::Retry | Remedy::Fenced => Code::Unavailable,
        Remedy::Wait => Code::Aborted,
        Remedy::FixRequest => Code::InvalidArgument,
        Remedy::FixSurroundings => Code::FailedPrecondition,
        Remedy::FixData => Code::DataLoss,
        Remedy::Bug => Code::Internal,
    }
}

/// What stands behind the text in a status message.
fn tail(code: &str, advice: &str) -> String {
    format!(" [{code}] {advice}")
}

fn cut(text: &str) -> String {
    if text.len() <= LONGEST_TEXT_BYTES {
        return text.to_owned();
    }
    let end = (0..=LONGEST_TEXT_BYTES).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    format!("{}…", &text[..end])
}

/// A call was answered with an error.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{text}")]
pub struct CallError {
    grpc: Code,
    text: String,
    code: &'static str,
    remedy: Remedy,
    advice: String,
    ours: bool,
}

impl CallError {
    /// Whether one of ours sent it: otherwise nobody could be reached, or whoever is there speaks another language.
    #[must_use]
    pub const fn is_ours(&self) -> bool {
        self.ours
    }

    /// The gRPC code, for those who act on it.
    #[must_use]
    pub const fn grpc(&self) -> Code {
        self.grpc
    }
}

impl From<Status> for CallError {
    fn from(status: Status) -> Self {
        let metadata = status.metadata();
        let said = |key| metadata.get(key).and_then(|value| value.to_str().ok());
        let code = said(CODE).and_then(known_code);
        let advice = metadata
            .get_bin(ADVICE)
            .and_then(|value| value.to_bytes().ok())
            .and_then(|bytes| String::from_utf8(bytes.to_vec()).ok());
        let message = status.message();
        let text = match (code, &advice) {
            (Some(code), Some(advice)) => message.strip_suffix(&tail(code, advice)).unwrap_or(message),
            _ => message,
        };
        let text = if text.is_empty() { status.code().description() } else { text };
        Self {
            ours: code.is_some(),
            grpc: status.code(),
            text: text.to_owned(),
            code: code.unwrap_or_else(|| code_of(status.code())),
            remedy: said(REMEDY).and_then(remedy_of_word).unwrap_or_else(|| remedy_of(status.code())),
            advice: advice.unwrap_or_else(|| advice_of(status.code()).to_owned()),
        }
    }
}

impl Failure for CallError {
    fn code(&self) -> &'static str {
        self.code
    }

    fn remedy(&self) -> Remedy {
        self.remedy
    }

    fn advice(&self) -> String {
        self.advice.clone()
    }
}

/// A code that came over the wire, kept for ever: a failure names its code as a constant. Only what looks like a code
/// is kept, and no more of them than there can be.
fn known_code(text: &str) -> Option<&'static str> {
    static KNOWN: Mutex<BTreeSet<&'static str>> = Mutex::new(BTreeSet::new());
    const MOST: usize = 500;
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(code) = known.get(text) {
        return Some(code);
    }
    let looks_right = text.len() <= 64 && text.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'.' | b'-'));
    if !looks_right || text.is_empty() || known.len() >= MOST {
        return None;
    }
    let code: &'static str = Box::leak(text.to_owned().into_boxed_str());
    known.insert(code);
    Some(code)
}

const REMEDIES: [(Remedy, &str); 7] = [
    (Remedy::Retry, "retry"),
    (Remedy::Wait, "wait"),
    (Remedy::FixRequest, "fix-request"),
    (Remedy::FixSurroundings, "fix-surroundings"),
    (Remedy::FixData, "fix-data"),
    (Remedy::Fenced, "fenced"),
    (Remedy::Bug, "bug"),
];

fn remedy_word(remedy: Remedy) -> &'static str {
    REMEDIES.iter().find(|(one, _)| *one == remedy).map_or("bug", |(_, word)| word)
}

fn remedy_of_word(word: &str) -> Option<Remedy> {
    REMEDIES.iter().find(|(_, one)| *one == word).map(|(remedy, _)| *remedy)
}

const fn code_of(code: Code) -> &'static str {
    match code {
        Code::InvalidArgument | Code::OutOfRange => "driver.refused",
        Code::NotFound => "driver.not-found",
        Code::AlreadyExists => "driver.conflict",
        Code::Aborted => "driver.busy",
        Code::FailedPrecondition => "driver.not-ready",
        Code::ResourceExhausted => "driver.pool-full",
        Code::Unimplemented => "driver.unsupported",
        Code::PermissionDenied | Code::Unauthenticated => "driver.denied",
        Code::Unavailable | Code::Cancelled | Code::DeadlineExceeded | Code::Unknown => "driver.unreachable",
        Code::DataLoss => "driver.filesystem",
        Code::Internal | Code::Ok => "driver.failed",
    }
}

const fn remedy_of(code: Code) -> Remedy {
    match code {
        Code::InvalidArgument
        | Code::OutOfRange
        | Code::NotFound
        | Code::AlreadyExists
        | Code::Unimplemented => Remedy::FixRequest,
        Code::Aborted => Remedy::Wait,
        Code::Unavailable | Code::Cancelled | Code::DeadlineExceeded | Code::Unknown => Remedy::Retry,
        Code::DataLoss => Remedy::FixData,
        _ => Remedy::FixSurroundings,
    }
}

const fn advice_of(code: Code) -> &'static str {
    match remedy_of(code) {
        Remedy::FixRequest => "change the request",
        Remedy::Wait => "wait until the other operation has ended, then ask again",
        Remedy::Retry => "check that the driver is running, then ask again",
        _ => "the driver's log says more",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("\"größe\" is too large")]
    struct TooLarge;

    impl Failure for TooLarge {
        fn code(&self) -> &'static str {
            "volume.too-large"
        }
        fn remedy(&self) -> Remedy {
            Remedy::FixRequest
        }
        fn advice(&self) -> String {
            "ask for less — or for a larger pool".into()
        }
    }

    #[test]
    fn a_failure_arrives_as_it_was_sent() {
        let status = status(Code::OutOfRange, &TooLarge);
        assert!(status.details().is_empty(), "CSI forbids details");
        assert_eq!(
            status.message(),
            "\"größe\" is too large [volume.too-large] ask for less — or for a larger pool"
        );
        let error = CallError::from(status);
        assert_eq!(error.to_string(), TooLarge.to_string());
        assert_eq!(
            (error.code(), error.remedy(), error.grpc()),
            ("volume.too-large", Remedy::FixRequest, Code::OutOfRange)
        );
        assert_eq!(error.advice(), TooLarge.advice());
    }

    #[test]
    fn the_status_of_another_driver_has_a_code_and_advice_too() {
        let error = CallError::from(Status::aborted("pending"));
        assert_eq!(
            (error.to_string().as_str(), error.code(), error.remedy()),
            ("pending", "driver.busy", Remedy::Wait)
        );
        assert!(!CallError::from(Status::unknown("")).to_string().is_empty());
    }

    #[test]
    fn what_does_not_look_like_a_code_is_not_kept() {
        assert_eq!(known_code("volume.busy"), Some("volume.busy"));
        for wrong in ["", "Volume", "a b", &"x".repeat(65)] {
            assert_eq!(known_code(wrong), None, "{wrong}");
        }
    }
}
