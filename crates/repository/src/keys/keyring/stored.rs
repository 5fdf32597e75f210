//! How a ring is written inside of a slot.
//!
//! Version 1, a ring of open epochs without an owner secret:
//!
//! | offset | bytes | field |
//! |---|---|---|
//! | 0 | 2 | version, u16 = 1 |
//! | 2 | 2 | how many epochs, u16, 1 to 1024 |
//! | 4 | 32 | identity secret |
//! | 36 | 36 each | epoch, u32 (from 1, ascending); master key, 32 |
//!
//! Version 2, every other:
//!
//! | offset | bytes | field |
//! |---|---|---|
//! | 0 | 2 | version, u16 = 2 |
//! | 2 | 2 | how many epochs, u16, 1 to 1024 |
//! | 4 | 32 | identity secret |
//! | 36 | 32 | owner secret; zeros in a write-only ring |
//! | 68 | 72 each | epoch, u32 (from 1, ascending); data, u32; master key, 32; data key, 32 |
//!
//! Data: 0, the epoch is open and the data key zeros; 1, the private key that data is sealed to; 2, its public key. A
//! ring with an owner secret has no 2; one without has nothing else.
//!
//! Version 3, every ring of a shared repository:
//!
//! | offset | bytes | field |
//! |---|---|---|
//! | 0 | 2 | version, u16 = 3 |
//! | 2 | 2 | how many epochs, u16, 1 to 1024 |
//! | 4 | 32 | identity secret; zeros in a ring of the journal or of structure |
//! | 36 | 32 | owner secret; zeros in every ring but an owner's |
//! | 68 | 4 | domain, u32 |
//! | 72 | 32 | private key of its letters; zeros where it gets none |
//! | 104 | 72 each | as in version 2; data 3: the key of the journal stands in the place of the master key |

use std::collections::BTreeMap;

use zeroize::Zeroizing;

use super::domains::{MOST_DOMAINS, domain_of};
use super::{DataKey, Epoch, Grants, Keyring, MAX_EPOCHS, Member, Secret};
use crate::seal::PublicKey;
use crate::seal::agreement::PrivateKey;

const FIRST: u16 = 1;
const SECOND: u16 = 2;
const THIRD: u16 = 3;
const FIRST_ROW: usize = 36;
const SECOND_ROW: usize = 72;

impl Keyring {
    pub(crate) fn encode(&self) -> Zeroizing<Vec<u8>> {
        let held = self.read();
        let open = held.epochs.values().all(|epoch| matches!(epoch.data, DataKey::Master));
        let first = open && held.owner.is_none() && self.member.is_none();
        let version = match &self.member {
            Some(_) => THIRD,
            None if first => FIRST,
            None => SECOND,
        };
        // The whole size at once: growing would leave copies of secrets behind in freed memory.
        let mut bytes = Zeroizing::new(Vec::with_capacity(104 + SECOND_ROW * held.epochs.len()));
        bytes.extend_from_slice(&version.to_le_bytes());
        let count = u16::try_from(held.epochs.len()).expect("at most MAX_EPOCHS");
        bytes.extend_from_slice(&count.to_le_bytes());
        bytes.extend_from_slice(&*self.identity);
        if !first {
            bytes.extend_from_slice(held.owner.as_deref().unwrap_or(&[0; 32]));
        }
        if let Some(Member { domain, letters }) = &self.member {
            bytes.extend_from_slice(&domain.to_le_bytes());
            bytes.extend_from_slice(letters.as_ref().map_or(&[0; 32][..], |key| &key.bytes()[..]));
        }
        for (number, epoch) in &held.epochs {
            bytes.extend_from_slice(&number.to_le_bytes());
            if first {
                bytes.extend_from_slice(&*epoch.master);
                continue;
            }
            let (what, key) = match &epoch.data {
                DataKey::Master => (0_u32, &[0; 32]),
                DataKey::Private(key) => (1, key.bytes()),
                DataKey::Public(key) => (2, key.bytes()),
                DataKey::Journal => (3, &[0; 32]),
            };
            bytes.extend_from_slice(&what.to_le_bytes());
            bytes.extend_from_slice(&*epoch.master);
            bytes.extend_from_slice(key);
        }
        bytes
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, &'static str> {
        let (head, rest) = bytes.split_first_chunk::<4>().ok_or("it is too short")?;
        let version = u16::from_le_bytes([head[0], head[1]]);
        let count = usize::from(u16::from_le_bytes([head[2], head[3]]));
        let (identity, rest) = rest.split_first_chunk::<32>().ok_or("it is too short")?;
        let (owner, rest, row) = match version {
            FIRST => (None, rest, FIRST_ROW),
            SECOND | THIRD => {
                let (owner, rest) = rest.split_first_chunk::<32>().ok_or("it is too short")?;
                (Some(owner).filter(|owner| **owner != [0; 32]), rest, SECOND_ROW)
            }
            _ => return Err("its version is unknown"),
        };
        let (member, rest) = if version == THIRD { member(rest)? } else { (None, rest) };
        if count == 0 || count > MAX_EPOCHS || rest.len() != row * count {
            return Err("its length does not fit its count");
        }
        let mut epochs = BTreeMap::new();
        for row in rest.chunks_exact(row) {
            let number = u32::from_le_bytes(row[..4].try_into().expect("4 bytes"));
            if epochs.last_key_value().map_or(0, |(last, _)| *last) >= number {
                return Err("its epochs are not ascending");
            }
            if member.as_ref().is_some_and(|member| domain_of(number) != member.domain) {
                return Err("it has an epoch of another domain");
            }
            epochs
                .insert(number, if version == FIRST { first_row(&row[4..]) } else { second_row(&row[4..])? });
        }
        let owner = owner.map(|owner| Zeroizing::new(*owner));
        let mut ring = Self::of(Zeroizing::new(*identity), owner, epochs);
        ring.member = member;
        if version == FIRST || ring.fits() {
            Ok(ring)
        } else {
            Err("it is neither an owner's nor a write-only one")
        }
    }

    /// Whether what it holds is one of the rings that are given out.
    fn fits(&self) -> bool {
        let held = self.read();
        let all = |is: fn(&DataKey) -> bool| held.epochs.values().all(|epoch| is(&epoch.data));
        let public = |data: &DataKey| matches!(data, DataKey::Public(_));
        let reads = |data: &DataKey| matches!(data, DataKey::Master | DataKey::Private(_));
        let Some(Member { domain, letters }) = &self.member else {
            return if held.owner.is_some() { all(reads) } else { all(public) };
        };
        let (has_owner, has_identity) = (held.owner.is_some(), *self.identity != [0; 32]);
        match self.grants() {
            Grants::Everything => {
                let fits = *domain == 0 || all(|data| matches!(data, DataKey::Private(_)));
                has_owner && letters.is_some() && all(reads) && fits
            }
            Grants::WriteOnly => !has_owner && all(public) && letters.is_some() == (*domain != 0),
            Grants::Structure => !has_owner && letters.is_none() && all(public) && *domain != 0,
            Grants::Journal => {
                let journal = all(|data| matches!(data, DataKey::Journal));
                !has_owner && !has_identity && letters.is_none() && journal && *domain == 0
            }
        }
    }
}

/// The domain of a ring of version 3, and what its letters are opened with.
fn member(bytes: &[u8]) -> Result<(Option<Member>, &[u8]), &'static str> {
    let (domain, rest) = bytes.split_first_chunk::<4>().ok_or("it is too short")?;
    let (letters, rest) = rest.split_first_chunk::<32>().ok_or("it is too short")?;
    let domain = u32::from_le_bytes(*domain);
    if domain > MOST_DOMAINS {
        return Err("its domain is out of bounds");
    }
    let letters = (*letters != [0; 32]).then(|| PrivateKey::from_bytes(*letters));
    Ok((Some(Member { domain, letters }), rest))
}

fn first_row(row: &[u8]) -> Epoch {
    Epoch { master: secret(row), data: DataKey::Master }
}

fn second_row(row: &[u8]) -> Result<Epoch, &'static str> {
    let key = secret(&row[36..]);
    let data = match u32::from_le_bytes(row[..4].try_into().expect("4 bytes")) {
        0 if *key == [0; 32] => DataKey::Master,
        1 => DataKey::Private(PrivateKey::from_bytes(*key)),
        2 => {
            let key = PublicKey::from_bytes(*key);
            if !key.takes_seals() {
                return Err("nothing can be sealed to one of its data keys");
            }
            DataKey::Public(key)
        }
        3 if *key == [0; 32] => DataKey::Journal,
        _ => return Err("it has data keys of an unknown kind"),
    };
    Ok(Epoch { master: secret(&row[4..]), data })
}

/// The first 32 bytes.
fn secret(bytes: &[u8]) -> Secret {
    Zeroizing::new(bytes[..32].try_into().expect("rows have the length that was checked"))
}
