//! The name by which an engine knows a transaction.

use std::fmt;
use std::str::FromStr;

/// The name of a transaction.
///
/// A number may come again: PostgreSQL's are 32 bits that wrap around. Who looks for one has to expect several.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TransactionId {
    /// PostgreSQL's transaction id, or another engine's plain count.
    Number(u64),
    /// A global transaction id: who wrote it, and its number there. MariaDB's `domain-server-sequence` has domain and
    /// server in the source's lower 64 bits; MySQL's source is the server's UUID.
    Global {
        /// Who wrote it.
        source: u128,
        /// Which of its transactions.
        sequence: u64,
    },
}

/// The text is not the name of a transaction.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a transaction, such as 9411")]
pub struct NotATransaction {
    /// What was given, cut to 40 characters.
    pub text: String,
}

impl FromStr for TransactionId {
    type Err = NotATransaction;

    fn from_str(text: &str) -> Result<Self, NotATransaction> {
        let refused = || NotATransaction { text: text.chars().take(40).collect() };
        let plain = |digits: &str| !digits.is_empty() && digits.bytes().all(|digit| digit.is_ascii_digit());
        let mut parts = text.split('-');
        match (parts.next(), parts.next(), parts.next(), parts.next()) {
            (Some(number), None, ..) if plain(number) => {
                number.parse().map(Self::Number).map_err(|_| refused())
            }
            (Some(domain), Some(server), Some(sequence), None)
                if [domain, server, sequence].into_iter().all(plain) =>
            {
                let domain: u32 = domain.parse().map_err(|_| refused())?;
                let server: u32 = server.parse().map_err(|_| refused())?;
                let sequence = sequence.parse().map_err(|_| refused())?;
                Ok(Self::Global { source: u128::from(domain) << 32 | u128::from(server), sequence })
            }
            _ => Err(refused()),
        }
    }
}

impl fmt::Display for TransactionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Number(number) => write!(f, "{number}"),
            Self::Global { source, sequence } if source >> 64 == 0 => {
                write!(f, "{}-{}-{sequence}", source >> 32, source & 0xFFFF_FFFF)
            }
            Self::Global { source, sequence } => {
                let hex = format!("{source:032x}");
                let (a, b, c, d, e) = (&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]);
                write!(f, "{a}-{b}-{c}-{d}-{e}:{sequence}")
            }
        }
    }
}

impl fmt::Debug for TransactionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl serde::Serialize for TransactionId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_global_ids_are_read_as_their_engines_write_them() {
        for text in ["9411", "0-1-270"] {
            assert_eq!(text.parse::<TransactionId>().unwrap().to_string(), text);
        }
        for text in ["", "-", "x", "1-2", "1-2-3-4", "+1", "1-99999999999-3"] {
            assert!(text.parse::<TransactionId>().is_err(), "{text:?}");
        }
    }
}
