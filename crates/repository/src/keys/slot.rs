//! A key slot: the keyring, locked with one key.
//!
//! The object `keys/<16 hexadecimal digits>` is JSON, so that it can be told by eye in any bucket browser what opens a
//! repository. Its plain fields are authenticated: they are part of the binding of what is sealed in it.
//!
//! Version 1 wraps the ring under the secret itself, so only who knows the secret can put another ring in. It is read for
//! ever and no longer made. Version 2 (`slot/paired.rs`) seals the ring to the slot's key pair.

mod paired;
mod written;

use bytes::Bytes;
use jiff::Timestamp;
use strongroom_model::{Entropy, RepositoryId};
use zeroize::Zeroizing;

use self::paired::{Holder, Paired};
use self::written::{First, Second, Stretching, Version};
use super::keyring::Secret;
use super::{Grants, KeyError, Keyring, NewKey, PassphraseCost, Unlock};
use crate::seal::{self, PublicKey, SealError};

const FORMAT: &str = "strongroom-key-slot";
/// How many slots with a passphrase are tried.
const MOST_PASSPHRASES: usize = 64;
/// A slot has less than 2 KiB and 144 bytes more for each epoch.
const MAX_BYTES: usize = 256 << 10;

/// What opens a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SlotKind {
    /// A key file.
    KeyFile,
    /// A passphrase.
    Passphrase,
    /// The private key of a recipient.
    Recipient,
}

impl SlotKind {
    /// As it is written in the slot.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::KeyFile => "key-file",
            Self::Passphrase => "passphrase",
            Self::Recipient => "recipient",
        }
    }
}

/// `keys/<slot>`: the keyring, locked with one key.
#[derive(Debug, Clone)]
pub struct KeySlot {
    id: [u8; 8],
    kind: SlotKind,
    label: String,
    created_at: Timestamp,
    form: Form,
}

#[derive(Debug, Clone)]
enum Form {
    /// Version 1.
    Wrapped { stretching: Option<Stretching>, wrapped: Bytes },
    /// Version 2.
    Paired(Box<Paired>),
}

impl KeySlot {
    /// Version 1: wraps `keyring` under `unlock`, with an id drawn from `entropy`. `cost` counts for a passphrase only.
    ///
    /// # Errors
    /// When the cost is out of bounds, the label cannot be written down, or `unlock` is of a kind that version 1 lacks.
    pub fn wrap(
        repository: RepositoryId,
        keyring: &Keyring,
        unlock: &Unlock,
        label: &str,
        created_at: Timestamp,
        cost: PassphraseCost,
        entropy: &dyn Entropy,
    ) -> Result<Self, KeyError> {
        let mut slot = Self::begin(unlock.slot_kind(), label, created_at, entropy)?;
        let stretching = draw_stretching(slot.kind, cost, entropy);
        let secret = slot.secret(unlock, stretching.as_ref())?;
        let (binding, cipher) = (slot.binding(), keyring.cipher());
        let wrapped = seal::wrap(&secret, cipher, repository, &binding, &keyring.encode(), entropy);
        slot.form = Form::Wrapped { stretching, wrapped };
        Ok(slot)
    }

    /// Version 2: gives the ring of `owner`, or the write-only part of it, to whoever has `key`.
    ///
    /// # Errors
    /// When the cost is out of bounds, the label cannot be written down, `owner` is no owner's ring or of version 1
    /// ([`KeyError::RotateFirst`]), or its epoch is open and the slot shall be write-only.
    #[expect(
        clippy::too_many_arguments,
        reason = "each says one thing of the slot, and nothing else makes one"
    )]
    pub fn make(
        repository: RepositoryId,
        owner: &Keyring,
        key: &NewKey,
        grants: Grants,
        label: &str,
        created_at: Timestamp,
        cost: PassphraseCost,
        entropy: &dyn Entropy,
    ) -> Result<Self, KeyError> {
        if owner.grants() != Grants::Everything {
            return Err(KeyError::NotOwner);
        }
        if owner.owner().is_none() {
            return Err(KeyError::RotateFirst);
        }
        if grants == Grants::WriteOnly && owner.write_only().is_none() {
            return Err(KeyError::WriteOnlyOff);
        }
        if (grants == Grants::Journal && owner.journal().is_none())
            || (grants == Grants::Structure && owner.structure().is_none())
        {
            return Err(KeyError::NotOwner);
        }
        let slot = Self::begin(key.slot_kind(), label, created_at, entropy)?;
        let stretching = draw_stretching(slot.kind, cost, entropy);
        let (public_key, private_key) = match key {
            NewKey::Recipient(recipient) => (recipient.public(), Bytes::new()),
            NewKey::Holder(unlock) => {
                let secret = slot.secret(unlock, stretching.as_ref())?;
                slot.draw_pair(repository, owner, &secret, entropy).ok_or(KeyError::RotateFirst)?
            }
        };
        let paired = Paired {
            grants,
            epoch: 0,
            public_key,
            stretching,
            private_key,
            fresh_key: public_key,
            keyring: Bytes::new(),
            approval: [0; 32],
        };
        slot.give(repository, owner, paired, entropy)
            .ok_or(KeyError::NotARecipient { why: "nothing can be sealed to this public key" })
    }

    fn begin(
        kind: SlotKind,
        label: &str,
        created_at: Timestamp,
        entropy: &dyn Entropy,
    ) -> Result<Self, KeyError> {
        if label.len() > 128 || label.chars().any(char::is_control) {
            return Err(KeyError::BadLabel);
        }
        let mut id = [0; 8];
        entropy.fill(&mut id);
        let form = Form::Wrapped { stretching: None, wrapped: Bytes::new() };
        Ok(Self { id, kind, label: label.to_owned(), created_at, form })
    }

    /// The same slot for the same holder, under a new id and with the ring that `owner` is now. `None` for a slot of
    /// version 1, which only its holder can renew.
    pub(crate) fn renewed(
        &self,
        repository: RepositoryId,
        owner: &Keyring,
        entropy: &dyn Entropy,
    ) -> Option<Self> {
        let Form::Paired(paired) = &self.form else { return None };
        let mut slot = self.clone();
        entropy.fill(&mut slot.id);
        slot.give(repository, owner, (**paired).clone(), entropy)
    }

    /// Whether an owner made the slot as it stands, knowing the epoch that seals now.
    pub(crate) fn is_approved(&self, repository: RepositoryId, ring: &Keyring) -> bool {
        match &self.form {
            Form::Wrapped { .. } => false,
            Form::Paired(paired) => {
                paired.epoch == ring.sealing().0 && self.approved(repository, ring, paired)
            }
        }
    }

    /// The slot's id: what follows `keys/`.
    #[must_use]
    pub const fn id(&self) -> [u8; 8] {
        self.id
    }

    /// What opens it.
    #[must_use]
    pub const fn kind(&self) -> SlotKind {
        self.kind
    }

    /// What opens it and how far, as its record names it.
    pub(crate) fn kind_in_journal(&self) -> String {
        let kind = self.kind.as_str().to_owned();
        match self.grants() {
            Grants::Everything => kind,
            Grants::WriteOnly => kind + crate::record::WRITE_ONLY,
            Grants::Journal => kind + crate::record::JOURNAL_ONLY,
            Grants::Structure => kind + crate::record::STRUCTURE_ONLY,
        }
    }

    /// What a person calls it.
    #[must_use]
    pub fn label(&self) -> &str {
        &self.label
    }

    /// When it was made.
    #[must_use]
    pub const fn created_at(&self) -> Timestamp {
        self.created_at
    }

    /// What it opens.
    #[must_use]
    pub fn grants(&self) -> Grants {
        match &self.form {
            Form::Wrapped { .. } => Grants::Everything,
            Form::Paired(paired) => paired.grants,
        }
    }

    /// The newest epoch that it was given, as it says; `None` in version 1.
    #[must_use]
    pub fn epoch(&self) -> Option<u32> {
        match &self.form {
            Form::Wrapped { .. } => None,
            Form::Paired(paired) => Some(paired.epoch),
        }
    }

    fn name(&self) -> String {
        hex::encode(self.id)
    }

    /// The object's bytes.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let (format, kind, label) = (FORMAT.to_owned(), self.kind, self.label.clone());
        let created_at = self.created_at;
        let text = match &self.form {
            Form::Wrapped { stretching, wrapped } => {
                let (argon2id, wrapped) = (stretching.clone(), wrapped.to_vec());
                serde_json::to_string_pretty(&First {
                    format,
                    version: 1,
                    kind,
                    label,
                    created_at,
                    argon2id,
                    wrapped,
                })
            }
            Form::Paired(paired) => serde_json::to_string_pretty(&Second {
                format,
                version: 2,
                kind,
                grants: paired.grants,
                label,
                created_at,
                epoch: paired.epoch,
                public_key: *paired.public_key.bytes(),
                argon2id: paired.stretching.clone(),
                private_key: paired.private_key.to_vec(),
                fresh_key: *paired.fresh_key.bytes(),
                keyring: paired.keyring.to_vec(),
                approval: paired.approval,
            }),
        };
        let mut text = text.expect("only strings and numbers");
        text.push('\n');
        text.into()
    }

    /// Reads the object `keys/<id>`.
    ///
    /// # Errors
    /// [`KeyError::Slot`] when it is no slot, or of a version or kind that is unknown.
    pub fn parse(id: [u8; 8], bytes: &[u8]) -> Result<Self, KeyError> {
        let refused = |why: String| KeyError::Slot { slot: hex::encode(id), why };
        let unread = |error: serde_json::Error| refused(error.to_string());
        if bytes.len() > MAX_BYTES {
            return Err(refused(format!("it has {} bytes", bytes.len())));
        }
        let Version { format, version } = serde_json::from_slice(bytes).map_err(unread)?;
        let slot = match (format.as_str(), version) {
            (FORMAT, 1) => {
                let First { kind, label, created_at, argon2id, wrapped, .. } =
                    serde_json::from_slice(bytes).map_err(unread)?;
                if kind == SlotKind::Recipient {
                    return Err(refused("version 1 has no recipients".to_owned()));
                }
                let form = Form::Wrapped { stretching: argon2id, wrapped: wrapped.into() };
                Self { id, kind, label, created_at, form }
            }
            (FORMAT, 2) => {
                let slot: Second = serde_json::from_slice(bytes).map_err(unread)?;
                if (slot.kind == SlotKind::Recipient) != slot.private_key.is_empty() {
                    return Err(refused("a recipient's private key stays with its owner".to_owned()));
                }
                let paired = Paired {
                    grants: slot.grants,
                    epoch: slot.epoch,
                    public_key: PublicKey::from_bytes(slot.public_key),
                    stretching: slot.argon2id,
                    private_key: slot.private_key.into(),
                    fresh_key: PublicKey::from_bytes(slot.fresh_key),
                    keyring: slot.keyring.into(),
                    approval: slot.approval,
                };
                let form = Form::Paired(Box::new(paired));
                Self { id, kind: slot.kind, label: slot.label, created_at: slot.created_at, form }
            }
            _ => return Err(refused(format!("it is {format:?} version {version}"))),
        };
        if (slot.kind == SlotKind::Passphrase) != slot.stretching().is_some() {
            return Err(refused("argon2id belongs to a passphrase, and only there".to_owned()));
        }
        Ok(slot)
    }

    fn stretching(&self) -> Option<&Stretching> {
        match &self.form {
            Form::Wrapped { stretching, .. } => stretching.as_ref(),
            Form::Paired(paired) => paired.stretching.as_ref(),
        }
    }

    /// The keyring inside. Takes as long as argon2id takes, for a passphrase: call it from a thread that may block.
    ///
    /// # Errors
    /// [`KeyError::Wrong`] when the slot is of another kind or this is not its key; [`KeyError::Forged`] when the
    /// keys in it were not put there by an owner.
    pub fn open(&self, repository: RepositoryId, unlock: &Unlock) -> Result<Keyring, KeyError> {
        match (&self.form, unlock) {
            (Form::Wrapped { stretching, wrapped }, _) => {
                let secret = self.secret(unlock, stretching.as_ref())?;
                let plain =
                    seal::unwrap(&secret, repository, &self.binding(), wrapped).map_err(
                        |error| match error {
                            SealError::WrongKey => KeyError::Wrong { slot: self.name() },
                            other => KeyError::Slot { slot: self.name(), why: other.to_string() },
                        },
                    )?;
                Keyring::decode(&plain).map_err(|why| KeyError::Keyring { slot: self.name(), why })
            }
            (Form::Paired(paired), Unlock::Recipient(key)) => {
                if self.kind != SlotKind::Recipient || key.recipient().public() != paired.public_key {
                    return Err(KeyError::Wrong { slot: self.name() });
                }
                self.take(repository, paired, &Holder::recipient(key.private()))
            }
            (Form::Paired(paired), _) => {
                let secret = self.secret(unlock, paired.stretching.as_ref())?;
                let holder = self.open_pair(repository, paired, &secret)?;
                self.take(repository, paired, &holder)
            }
        }
    }

    /// What `unlock` makes of itself for this slot.
    fn secret(&self, unlock: &Unlock, stretching: Option<&Stretching>) -> Result<Secret, KeyError> {
        match (self.kind, unlock, stretching) {
            (SlotKind::KeyFile, Unlock::KeyFile(key), _) => Ok(Zeroizing::new(*key.secret())),
            (SlotKind::Passphrase, Unlock::Passphrase(passphrase), Some(stretching)) => {
                passphrase.stretch(stretching.cost(), &stretching.salt)
            }
            _ => Err(KeyError::Wrong { slot: self.name() }),
        }
    }

    /// Version 1: the slot's id, then its kind, label and time as they are written, each ended by a zero byte (none
    /// can hold one).
    fn binding(&self) -> Vec<u8> {
        let mut binding = self.id.to_vec();
        for text in [self.kind.as_str(), &self.label, &self.created_at.to_string()] {
            binding.extend_from_slice(text.as_bytes());
            binding.push(0);
        }
        binding
    }
}

fn draw_stretching(kind: SlotKind, cost: PassphraseCost, entropy: &dyn Entropy) -> Option<Stretching> {
    (kind == SlotKind::Passphrase).then(|| {
        let mut salt = [0; 32];
        entropy.fill(&mut salt);
        let PassphraseCost { memory_kib, passes, lanes } = cost;
        Stretching { memory_kib, passes, lanes, salt }
    })
}

/// Tries every slot that `unlock` may open. Of several, the newest counts, and the ring takes in what the others hold: an
/// interrupted rotation leaves slots whose epoch nobody uses beside those that count.
///
/// In a shared repository one key may open several domains; then `domain` says which is meant.
///
/// # Errors
/// [`KeyError::NoneFits`], or what was wrong with a slot when one of the right kind could not be tried;
/// [`KeyError::OtherDomain`] and [`KeyError::SeveralDomains`].
pub fn open_any<'a>(
    repository: RepositoryId,
    slots: &'a [KeySlot],
    unlock: &Unlock,
    domain: Option<u32>,
) -> Result<(Keyring, &'a KeySlot), KeyError> {
    let mut trouble = None;
    let mut best: Option<(Keyring, &KeySlot)> = None;
    let mut other = None;
    let mut tried = 0;
    for slot in slots.iter().filter(|slot| slot.kind == unlock.slot_kind()) {
        // Each takes a second or so.
        tried += usize::from(slot.kind == SlotKind::Passphrase);
        if tried > MOST_PASSPHRASES {
            break;
        }
        match slot.open(repository, unlock) {
            Ok(ring) if domain.is_some_and(|domain| domain != ring.domain()) => other = Some(ring.domain()),
            Ok(ring) if best.as_ref().is_some_and(|(first, _)| first.domain() != ring.domain()) => {
                return Err(KeyError::SeveralDomains);
            }
            Ok(ring) => {
                best = Some(match best {
                    None => (ring, slot),
                    Some((first, from)) => {
                        let rank = |ring: &Keyring| (ring.owner().is_some(), ring.newest_epoch());
                        let newer = rank(&ring) > rank(&first);
                        let (kept, other, from) =
                            if newer { (ring, first, slot) } else { (first, ring, from) };
                        kept.adopt(&other);
                        (kept, from)
                    }
                });
            }
            Err(KeyError::Wrong { .. }) => {}
            Err(other) => trouble = Some(other),
        }
    }
    if let Some(best) = best {
        return Ok(best);
    }
    if let (Some(asked), Some(opens)) = (domain, other) {
        return Err(KeyError::OtherDomain { asked, opens });
    }
    let kind = unlock.words();
    Err(trouble.unwrap_or(KeyError::NoneFits { kind, slots: slots.len() }))
}

#[cfg(test)]
mod tests;
