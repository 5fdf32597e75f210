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

use std::collections::BTreeMap;

use zeroize::Zeroizing;

use super::{DataKey, Epoch, Keyring, MAX_EPOCHS, Secret};
use crate::seal::PublicKey;
use crate::seal::agreement::PrivateKey;

const FIRST: u16 = 1;
const SECOND: u16 = 2;
const FIRST_ROW: usize = 36;
const SECOND_ROW: usize = 72;

impl Keyring {
    pub(in crate::keys) fn encode(&self) -> Zeroizing<Vec<u8>> {
        let held = self.read();
        let open = held.epochs.values().all(|epoch| matches!(epoch.data, DataKey::Master));
        let first = open && held.owner.is_none();
        // The whole size at once: growing would leave copies of secrets behind in freed memory.
        let mut bytes = Zeroizing::new(Vec::with_capacity(68 + SECOND_ROW * held.epochs.len()));
        bytes.extend_from_slice(&if first { FIRST } else { SECOND }.to_le_bytes());
        let count = u16::try_from(held.epochs.len()).expect("at most MAX_EPOCHS");
        bytes.extend_from_slice(&count.to_le_bytes());
        bytes.extend_from_slice(&*self.identity);
        if !first {
            bytes.extend_from_slice(held.owner.as_deref().unwrap_or(&[0; 32]));
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
            };
            bytes.extend_from_slice(&what.to_le_bytes());
            bytes.extend_from_slice(&*epoch.master);
            bytes.extend_from_slice(key);
        }
        bytes
    }

    pub(in crate::keys) fn decode(bytes: &[u8]) -> Result<Self, &'static str> {
        let (head, rest) = bytes.split_first_chunk::<4>().ok_or("it is too short")?;
        let version = u16::from_le_bytes([head[0], head[1]]);
        let count = usize::from(u16::from_le_bytes([head[2], head[3]]));
        let (identity, rest) = rest.split_first_chunk::<32>().ok_or("it is too short")?;
        let (owner, rest, row) = match version {
            FIRST => (None, rest, FIRST_ROW),
            SECOND => {
                let (owner, rest) = rest.split_first_chunk::<32>().ok_or("it is too short")?;
                (Some(owner).filter(|owner| **owner != [0; 32]), rest, SECOND_ROW)
            }
            _ => return Err("its version is unknown"),
        };
        if count == 0 || count > MAX_EPOCHS || rest.len() != row * count {
            return Err("its length does not fit its count");
        }
        let mut epochs = BTreeMap::new();
        for row in rest.chunks_exact(row) {
            let number = u32::from_le_bytes(row[..4].try_into().expect("4 bytes"));
            if epochs.last_key_value().map_or(0, |(last, _)| *last) >= number {
                return Err("its epochs are not ascending");
            }
            epochs
                .insert(number, if version == FIRST { first_row(&row[4..]) } else { second_row(&row[4..])? });
        }
        let public = |epoch: &Epoch| matches!(epoch.data, DataKey::Public(_));
        let fits = match (version, owner) {
            (FIRST, _) => true,
            (_, Some(_)) => !epochs.values().any(public),
            (_, None) => epochs.values().all(public),
        };
        if !fits {
            return Err("it is neither an owner's nor a write-only one");
        }
        let owner = owner.map(|owner| Zeroizing::new(*owner));
        Ok(Self::of(Zeroizing::new(*identity), owner, epochs))
    }
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
        _ => return Err("it has data keys of an unknown kind"),
    };
    Ok(Epoch { master: secret(&row[4..]), data })
}

/// The first 32 bytes.
fn secret(bytes: &[u8]) -> Secret {
    Zeroizing::new(bytes[..32].try_into().expect("rows have the length that was checked"))
}
