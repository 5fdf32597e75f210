//! Names of transactions, and sets of them.

use std::collections::BTreeMap;
use std::fmt;

use super::event::{Event, kind};
use crate::TransactionId;
use crate::postgres::Bytes;

/// The name of a transaction: `0-1-270`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Gtid {
    /// A stream of transactions with an order of its own.
    pub domain: u32,
    /// The server that wrote it first.
    pub server: u32,
    /// Its number.
    pub sequence: u64,
}

impl From<Gtid> for TransactionId {
    fn from(gtid: Gtid) -> Self {
        let source = u128::from(gtid.domain) << 32 | u128::from(gtid.server);
        Self::Global { source, sequence: gtid.sequence }
    }
}

impl fmt::Display for Gtid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}-{}", self.domain, self.server, self.sequence)
    }
}

impl std::str::FromStr for Gtid {
    type Err = NotGtids;

    fn from_str(text: &str) -> Result<Self, NotGtids> {
        let wrong = || NotGtids { text: text.chars().take(200).collect() };
        let mut parts = text.trim().splitn(3, '-');
        let mut next = || parts.next().ok_or_else(wrong);
        Ok(Self {
            domain: next()?.parse().map_err(|_| wrong())?,
            server: next()?.parse().map_err(|_| wrong())?,
            sequence: next()?.parse().map_err(|_| wrong())?,
        })
    }
}

/// The text is no list of names of transactions.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not what MariaDB calls transactions, such as 0-1-270")]
pub struct NotGtids {
    /// What was given.
    pub text: String,
}

/// What a binary log has had written to it: of each domain and server the last (`gtid_binlog_state`).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct GtidState(BTreeMap<(u32, u32), u64>);

impl GtidState {
    /// One more transaction was committed.
    pub fn add(&mut self, gtid: Gtid) {
        self.0.insert((gtid.domain, gtid.server), gtid.sequence);
    }

    /// What the list at the beginning of a file says.
    #[must_use]
    pub fn of_list(event: &Event<'_>) -> Option<Self> {
        if event.header.kind != kind::GTID_LIST || !event.is_whole() {
            return None;
        }
        let mut bytes = Bytes(event.body);
        // The upper four bits are flags.
        let count = bytes.u32()? & 0x0FFF_FFFF;
        let mut state = Self::default();
        for _ in 0..count {
            state.add(Gtid { domain: bytes.u32()?, server: bytes.u32()?, sequence: bytes.u64()? });
        }
        Some(state)
    }

    /// Whether a transaction is in it, which its domain and server (`TransactionId::Global`) name and number.
    #[must_use]
    pub fn has(&self, source: u128, sequence: u64) -> bool {
        let last = u32::try_from(source >> 32).ok().and_then(|domain| {
            // Fits: it is the lower half.
            self.0.get(&(domain, (source & 0xFFFF_FFFF) as u32))
        });
        last.is_some_and(|last| *last >= sequence)
    }

    /// No transaction at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// As the server writes it, in the order of domains and servers.
impl fmt::Display for GtidState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, ((domain, server), sequence)) in self.0.iter().enumerate() {
            let comma = if number == 0 { "" } else { "," };
            write!(f, "{comma}{domain}-{server}-{sequence}")?;
        }
        Ok(())
    }
}

impl std::str::FromStr for GtidState {
    type Err = NotGtids;

    fn from_str(text: &str) -> Result<Self, NotGtids> {
        let mut state = Self::default();
        for part in text.split(',').filter(|part| !part.trim().is_empty()) {
            state.add(part.parse()?);
        }
        Ok(state)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_are_the_same_in_whatever_order_the_server_tells_them() {
        let state: GtidState = "0-7-12,0-8-3,1-7-2".parse().unwrap();
        assert_eq!(state, "1-7-2, 0-8-3,0-7-12".parse().unwrap());
        assert_eq!(state.to_string(), "0-7-12,0-8-3,1-7-2");
        assert!("".parse::<GtidState>().unwrap().is_empty());
        assert!(state.has(7, 12) && state.has(1 << 32 | 7, 2) && !state.has(7, 13) && !state.has(9, 1));
        for wrong in ["0-1", "x", "0-1-2-3", "0-1-"] {
            assert!(wrong.parse::<GtidState>().is_err(), "{wrong}");
        }
    }
}
