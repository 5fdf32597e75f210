//! `strongroom.json`: the plain head object, the first thing that is read.
//!
//! It holds what must be known before there is a key, and what never changes. It is JSON so that a person who
//! finds the bucket in ten years can read what it is.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use strongroom_model::RepositoryId;

use crate::abilities::Abilities;

/// The format that this version writes and reads.
pub const FORMAT_VERSION: u32 = 1;

/// What `magic` says.
pub const MAGIC: &str = "strongroom repository";

/// The chunk sizes that a repository may have: powers of two in this range.
pub const CHUNK_BYTES: std::ops::RangeInclusive<u32> = (16 << 10)..=(1 << 20);

/// No head object is larger than this.
const MOST_BYTES: usize = 64 << 10;

/// The plain head object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Head {
    /// [`MAGIC`].
    pub magic: String,
    /// [`FORMAT_VERSION`].
    pub format: u32,
    /// The repository's id.
    pub repository: RepositoryId,
    /// The size of a chunk, for good.
    pub chunk_bytes: u32,
    /// When it was made, by the maker's clock.
    pub created_at: Timestamp,
    /// What the store could do when it was tried.
    pub abilities: Abilities,
    /// In single-writer mode: the one agent that may write.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub single_writer: Option<String>,
    /// In a copy of another repository: what it is a copy of, and how far it goes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub copy: Option<CopyMark>,
    /// The key slots made at `init`, in hexadecimal: a hint for a store whose listing is late.
    #[serde(default)]
    pub first_slots: Vec<String>,
    /// Makes the bytes this writer's own, so that an unknown outcome can be told from a lost race.
    pub owner: String,
    /// BLAKE3 of these fields with an empty checksum, written without white space: tells an accident, not an
    /// attack (what an attacker could gain is checked elsewhere: every seal is bound to the repository's id,
    /// every map to the chunk size).
    pub checksum: String,
}

/// What makes a head that of a copy. Nobody writes to a copy but the copying; readers read its journal up to `until`
/// and no further, so that writing this object is the one moment at which a copy goes on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct CopyMark {
    /// Where the repository lies that this is a copy of, for people.
    pub of: String,
    /// The journal record up to which the copy is whole.
    pub until: u64,
    /// What the sweeps up to this record made dead is deleted here.
    pub swept: u64,
    /// When the copy was last brought up to date, by the clock of who did it.
    pub copied_at: Timestamp,
    /// Objects of packs that could not be copied, since they are damaged or missing where they come from.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lacks: Vec<String>,
    /// Where a rule chooses which points go there: a keyed hash of the rule. Then packs of data that only other points need may
    /// be absent. Without it everything is there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chosen: Option<String>,
}

/// Why a head object is not one that can be worked with.
#[derive(Debug, thiserror::Error)]
pub enum HeadError {
    /// Not JSON, or not ours.
    #[error("strongroom.json is not the head of a repository: {0}")]
    NotOurs(String),
    /// Written by a newer version.
    #[error("the repository has format {found}, this program reads {FORMAT_VERSION}")]
    Newer {
        /// Which format.
        found: u64,
    },
}

impl Head {
    fn sum(&self) -> String {
        let blank = Self { checksum: String::new(), ..self.clone() };
        let bytes = serde_json::to_vec(&blank).expect("a head has only string keys");
        blake3::hash(&bytes).to_hex().to_string()
    }

    /// The stored form, with its checksum.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let summed = Self { checksum: self.sum(), ..self.clone() };
        let mut bytes = serde_json::to_vec_pretty(&summed).expect("a head has only string keys");
        bytes.push(b'\n');
        bytes
    }

    /// Reads the stored form.
    ///
    /// # Errors
    /// When it is not ours, or newer than this program.
    pub fn parse(bytes: &[u8]) -> Result<Self, HeadError> {
        if bytes.len() > MOST_BYTES {
            return Err(HeadError::NotOurs(format!("it has {} bytes", bytes.len())));
        }
        let any: serde_json::Value =
            serde_json::from_slice(bytes).map_err(|error| HeadError::NotOurs(error.to_string()))?;
        if any["magic"] != MAGIC {
            return Err(HeadError::NotOurs("its magic is another".to_owned()));
        }
        // The version is looked at before the fields, which a newer version may have changed.
        match any["format"].as_u64() {
            Some(format) if format == u64::from(FORMAT_VERSION) => {}
            Some(found) => return Err(HeadError::Newer { found }),
            None => return Err(HeadError::NotOurs("it names no format".to_owned())),
        }
        let head: Self =
            serde_json::from_value(any.clone()).map_err(|error| HeadError::NotOurs(error.to_string()))?;
        // A field under another name would be left out without a word.
        if serde_json::to_value(&head).ok() != Some(any) {
            return Err(HeadError::NotOurs("it has fields that are not known".to_owned()));
        }
        if head.checksum != head.sum() {
            return Err(HeadError::NotOurs("its checksum is wrong: it was damaged or edited".to_owned()));
        }
        if !is_chunk_size(head.chunk_bytes) {
            return Err(HeadError::NotOurs(format!("{} is no size of a chunk", head.chunk_bytes)));
        }
        Ok(head)
    }
}

/// Whether a repository may have chunks of this size.
#[must_use]
pub fn is_chunk_size(bytes: u32) -> bool {
    CHUNK_BYTES.contains(&bytes) && bytes.is_power_of_two()
}
