//! What the log says of one commit, and of one named point.

use jiff::Timestamp;
use serde::Serialize;

use crate::{Position, TransactionId};

/// One commit in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Commit {
    /// Where its record begins: who stops here has everything before it, and not this.
    pub start: Position,
    /// Where its record ends. The next record begins here or a few bytes on.
    pub end: Position,
    /// What the database's clock said. Not monotonic in the order of the log: sessions take the time a moment before
    /// they write, and clocks are set.
    pub at: Timestamp,
    /// Who committed.
    pub transaction: TransactionId,
    /// What it did, as far as the log says.
    pub changes: Changes,
}

/// What a transaction did.
///
/// It serves the search for the right second, and nothing else: counts stop at 2^32 - 1, and are a lower bound where
/// [`Changes::whole`] is false.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Changes {
    /// Rows put in, of user tables.
    pub inserted: u32,
    /// Rows changed.
    pub updated: u32,
    /// Rows taken away.
    pub deleted: u32,
    /// Files of tables and indexes that ended with this commit.
    pub files_dropped: u32,
    /// Statements about the schema.
    pub statements: Statements,
    /// Something was not counted: the transaction began before what was read, or too many were open at once.
    pub partial: bool,
}

impl Changes {
    /// The log said all of it.
    #[must_use]
    pub const fn whole(&self) -> bool {
        !self.partial
    }
}

/// A set of kinds of statements about the schema.
#[derive(Clone, Copy, PartialEq, Eq, Default, Hash)]
pub struct Statements(u8);

impl Statements {
    /// None.
    pub const NONE: Self = Self(0);
    /// A table, index or the like was made.
    pub const CREATE: Self = Self(1);
    /// A definition was changed.
    pub const ALTER: Self = Self(2);
    /// A table, index or the like was dropped.
    pub const DROP: Self = Self(4);
    /// A table was emptied, or written anew (TRUNCATE, VACUUM FULL, CLUSTER, some ALTER TABLE).
    pub const REWRITE: Self = Self(8);
    /// A database was made.
    pub const CREATE_DATABASE: Self = Self(16);
    /// A database was dropped.
    pub const DROP_DATABASE: Self = Self(32);

    const NAMES: [(Self, &'static str); 6] = [
        (Self::CREATE, "create"),
        (Self::ALTER, "alter"),
        (Self::DROP, "drop"),
        (Self::REWRITE, "truncate or rewrite"),
        (Self::CREATE_DATABASE, "create database"),
        (Self::DROP_DATABASE, "drop database"),
    ];

    /// The bits, as they are stored.
    #[must_use]
    pub const fn bits(self) -> u8 {
        self.0
    }

    /// The set with these bits; `None` where one of them means nothing.
    #[must_use]
    pub const fn from_bits(bits: u8) -> Option<Self> {
        if bits < 64 { Some(Self(bits)) } else { None }
    }

    /// Both together.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// All of `other` is in it.
    #[must_use]
    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// None at all.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// In words, such as `create`, `drop database`.
    pub fn words(self) -> impl Iterator<Item = &'static str> {
        Self::NAMES.into_iter().filter(move |(kind, _)| self.has(*kind)).map(|(_, name)| name)
    }
}

impl std::fmt::Debug for Statements {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.words()).finish()
    }
}

impl Serialize for Statements {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.words())
    }
}

/// A place in the log that a person gave a name (PostgreSQL: `pg_create_restore_point`). Names may come twice.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NamedPoint {
    /// Its name.
    pub name: String,
    /// Where its record begins.
    pub start: Position,
    /// Where its record ends: what is before is in.
    pub end: Position,
    /// When, by the database's clock.
    pub at: Timestamp,
}
