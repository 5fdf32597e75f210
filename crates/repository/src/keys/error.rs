//! Why a key, a key file or a slot could not be used.

use std::io;
use std::path::PathBuf;

use strongroom_model::{Failure, Remedy};

/// Why a key, a key file or a slot could not be used. Never holds a secret.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The text is no key.
    #[error("{} is not a Strongroom key: {why}", origin(path.as_ref()))]
    NotAKey {
        /// The file it came from.
        path: Option<PathBuf>,
        /// What is wrong with it.
        why: &'static str,
    },
    /// The file cannot be read or written.
    #[error("the key file {}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        cause: io::Error,
    },
    /// There is a file already, and it may be the only copy of a key.
    #[error("{} exists already and is not overwritten", path.display())]
    Exists {
        /// Which.
        path: PathBuf,
    },
    /// Others on this machine may read or write the file.
    #[error("{} is open to others (mode {mode:04o})", path.display())]
    Exposed {
        /// Which.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// A passphrase of no characters.
    #[error("the passphrase is empty")]
    EmptyPassphrase,
    /// A label that cannot be written down.
    #[error("a key's label has at most 128 bytes and no control characters")]
    BadLabel,
    /// argon2id settings outside of what this version accepts.
    #[error(
        "argon2id with {memory_kib} KiB, {passes} passes and {lanes} lanes is outside of what this version accepts"
    )]
    Cost {
        /// Memory in KiB.
        memory_kib: u32,
        /// Passes.
        passes: u32,
        /// Lanes.
        lanes: u32,
    },
    /// The key or passphrase does not open this slot.
    #[error("this is not the key of slot {slot}")]
    Wrong {
        /// Which slot.
        slot: String,
    },
    /// No slot is opened by it.
    #[error("the {kind} opens none of the repository's {slots} key slots")]
    NoneFits {
        /// `key file` or `passphrase`.
        kind: &'static str,
        /// How many slots there are.
        slots: usize,
    },
    /// The slot is not what this version writes.
    #[error("key slot {slot} cannot be read: {why}")]
    Slot {
        /// Which slot.
        slot: String,
        /// What was seen.
        why: String,
    },
    /// The slot is this key's, but the keys in it were not put there by an owner of the repository.
    #[error("the keys in slot {slot} were not put there by an owner of the repository, or are damaged")]
    Forged {
        /// Which slot.
        slot: String,
    },
    /// The text is no recipient.
    #[error("this is not the public key of a recipient: {why}")]
    NotARecipient {
        /// What is wrong with it.
        why: &'static str,
    },
    /// The key in use does not grant everything.
    #[error("only a key that grants everything can do this, and the one in use is write-only")]
    NotOwner,
    /// The repository's keys are of version 1.
    #[error(
        "the repository's keys are of the first version, which knows neither recipients nor write-only keys"
    )]
    RotateFirst,
    /// Data is sealed under the master key, which a write-only slot would have to hold.
    #[error("write-only keys are off in this repository")]
    WriteOnlyOff,
    /// The key is another domain's.
    #[error("this is a key of {}, not of {}", domain(*opens), domain(*asked))]
    OtherDomain {
        /// Which one was meant; 0 is the operator.
        asked: u32,
        /// Whose it is.
        opens: u32,
    },
    /// The key opens more than one domain.
    #[error("this key opens several domains of the repository, and none was named")]
    SeveralDomains,
    /// The operator has not given the domain the journal's keys, or has taken them away.
    #[error("domain {domain} has no access to the journal of this repository")]
    NoJournal {
        /// Which domain.
        domain: u32,
    },
    /// The slot opened, but what it holds is unknown or malformed.
    #[error("key slot {slot} holds a keyring that this version does not know: {why}")]
    Keyring {
        /// Which slot.
        slot: String,
        /// What was seen.
        why: &'static str,
    },
}

fn domain(number: u32) -> String {
    if number == 0 { "the operator".to_owned() } else { format!("domain {number}") }
}

fn origin(path: Option<&PathBuf>) -> String {
    path.map_or_else(|| "the text".to_owned(), |path| path.display().to_string())
}

impl Failure for KeyError {
    fn code(&self) -> &'static str {
        match self {
            Self::NotAKey { .. } => "key.not-a-key",
            Self::File { .. } => "key.file",
            Self::Exists { .. } => "key.exists",
            Self::Exposed { .. } => "key.exposed",
            Self::EmptyPassphrase => "key.empty-passphrase",
            Self::BadLabel => "key.label",
            Self::Cost { .. } => "key.cost",
            Self::Wrong { .. } | Self::NoneFits { .. } => "key.wrong",
            Self::Slot { .. } => "key.slot-damaged",
            Self::Forged { .. } => "key.forged",
            Self::NotARecipient { .. } => "key.not-a-recipient",
            Self::NotOwner => "key.not-owner",
            Self::RotateFirst => "key.rotate-first",
            Self::WriteOnlyOff => "key.write-only-off",
            Self::OtherDomain { .. } => "domain.wrong-key",
            Self::SeveralDomains => "domain.several",
            Self::NoJournal { .. } => "domain.no-journal",
            Self::Keyring { .. } => "key.keyring-unknown",
        }
    }

    fn remedy(&self) -> Remedy {
        match self {
            Self::NotAKey { .. }
            | Self::Exists { .. }
            | Self::EmptyPassphrase
            | Self::BadLabel
            | Self::Cost { .. }
            | Self::Wrong { .. }
            | Self::NoneFits { .. }
            | Self::NotARecipient { .. }
            | Self::NotOwner
            | Self::OtherDomain { .. }
            | Self::SeveralDomains
            | Self::RotateFirst
            | Self::WriteOnlyOff => Remedy::FixRequest,
            Self::File { .. } | Self::Exposed { .. } | Self::NoJournal { .. } | Self::Keyring { .. } => {
                Remedy::FixSurroundings
            }
            Self::Slot { .. } | Self::Forged { .. } => Remedy::FixData,
        }
    }

    fn advice(&self) -> String {
        match self {
            Self::NotAKey { .. } => {
                "Give the file that `strongroom init` or `strongroom repository key generate` wrote, unchanged: one line."
            }
            Self::File { .. } => "Check the path, the free space and the rights of the folder.",
            Self::Exists { .. } => "Choose another path, or move the old key to a safe place first.",
            Self::Exposed { .. } => "Run `chmod 600` on it; if others may have read it, add a new key and remove this one.",
            Self::EmptyPassphrase => "Put the passphrase on the first line of the file.",
            Self::BadLabel => "Choose a shorter label without control characters.",
            Self::Cost { .. } => "Use the defaults, or at most 1 GiB, 64 passes and 16 lanes.",
            Self::Wrong { .. } | Self::NoneFits { .. } => {
                "Give the key file or passphrase of this very repository; `strongroom init` prints the repository's id."
            }
            Self::Slot { .. } => "Open the repository with another key, then remove this slot and add it again.",
            Self::Forged { .. } => {
                "Do not go on with this bucket: somebody who can write to it exchanged the keys, or the slot is damaged. Compare \
                 with another copy of the bucket, or open with another key and look at `strongroom repository key list`."
            }
            Self::NotARecipient { .. } => {
                "Give the line that `strongroom repository key generate` printed: it begins with strongroom-recipient-1-."
            }
            Self::NotOwner => "Use a key that grants everything: `strongroom repository key list` shows which do.",
            Self::RotateFirst => "Run `strongroom repository key rotate` once.",
            Self::WriteOnlyOff => {
                "Run `strongroom repository key write-only on` first: from then on, data is sealed so that write-only keys \
                 cannot read it."
            }
            Self::OtherDomain { .. } => {
                "Give the key of the domain that the repository is set up with (`domain`), or correct that setting."
            }
            Self::SeveralDomains => "Say which with `domain` in the settings of the repository, or `--domain`.",
            Self::NoJournal { .. } => {
                "Ask the operator of the repository: their rotation left this domain behind, or they closed it."
            }
            Self::Keyring { .. } => "Use a newer version of strongroom.",
        }
        .to_owned()
    }
}
