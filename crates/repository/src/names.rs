//! What only one domain of a shared repository may read of the journal: names, labels, moments, reasons.
//!
//! The journal is read by everybody who shares the repository, so what names something is sealed once more inside of its
//! record, under a key of its domain ([`Keyring::names`]). Two forms:
//!
//! * [`Names`] of a recovery point: a sealed blob bound to domain and point;
//! * a *veiled text* in the place of any other: `sealed-1-` and a sealed blob in hexadecimal digits.
//!
//! Whose ring does not open them sees opaque bytes, of about the length of what is in them.

use bytes::Bytes;
use strongroom_model::{Entropy, RecoveryPointId, RepositoryId, VolumeName};

use crate::cbor::{self, cbor_map};
use crate::keys::{Keyring, domain_of};
use crate::point::PointInfo;
use crate::record::{Event, Published, PublishedInDomain};
use crate::seal::{self, BlobKind, SealError};

const VEIL: &str = "sealed-1-";
const TEXT_BINDING: &[u8] = b"text";

/// What names a point.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Names {
    pub(crate) volume: VolumeName,
    pub(crate) parent: Option<RecoveryPointId>,
    pub(crate) info: PointInfo,
}
cbor_map!(Names { 0 => volume, 1 => parent, 2 => info });

/// Domain u32, then the point's id.
fn binding(domain: u32, point: RecoveryPointId) -> Vec<u8> {
    [&domain.to_le_bytes()[..], point.bytes()].concat()
}

/// The epoch under which names are sealed.
pub(crate) fn epoch_of(sealed: &[u8]) -> Option<u32> {
    seal::epoch_of(sealed).ok()
}

fn seal_under_names(
    ring: &Keyring,
    repository: RepositoryId,
    binding: &[u8],
    plain: &[u8],
    entropy: &dyn Entropy,
) -> Result<Bytes, SealError> {
    let (epoch, _) = ring.sealing();
    let key = ring.names(epoch).ok_or(SealError::UnknownEpoch { epoch })?;
    seal::seal_under(&key, epoch, ring.cipher(), repository, BlobKind::Names, binding, plain, entropy)
}

fn open_under_names(
    ring: &Keyring,
    repository: RepositoryId,
    binding: &[u8],
    sealed: &[u8],
) -> Result<Vec<u8>, SealError> {
    let epoch = seal::epoch_of(sealed)?;
    let key = ring.names(epoch).ok_or(SealError::UnknownEpoch { epoch })?;
    seal::open_under(&key, repository, BlobKind::Names, binding, sealed)
        .map(|mut plain| std::mem::take(&mut *plain))
}

/// Seals the names of a point.
pub(crate) fn seal_names(
    ring: &Keyring,
    repository: RepositoryId,
    point: RecoveryPointId,
    names: &Names,
    entropy: &dyn Entropy,
) -> Result<Bytes, SealError> {
    seal_under_names(ring, repository, &binding(ring.domain(), point), &cbor::to_bytes(names), entropy)
}

/// Opens the names of a point. `None`: they are another domain's, or sealed under keys that are not at hand.
pub(crate) fn open_names(
    ring: &Keyring,
    repository: RepositoryId,
    domain: u32,
    point: RecoveryPointId,
    sealed: &[u8],
) -> Option<Names> {
    let plain = open_under_names(ring, repository, &binding(domain, point), sealed).ok()?;
    cbor::from_bytes(&plain).ok()
}

/// What the operator calls a domain, for the operator.
pub(crate) fn seal_domain_name(
    ring: &Keyring,
    repository: RepositoryId,
    domain: u32,
    name: &str,
    entropy: &dyn Entropy,
) -> Result<Bytes, SealError> {
    seal::seal(ring, repository, BlobKind::Names, &domain.to_le_bytes(), name.as_bytes(), entropy)
}

/// [`seal_domain_name`] the other way; `None` for whoever is not the operator.
pub(crate) fn open_domain_name(
    ring: &Keyring,
    repository: RepositoryId,
    domain: u32,
    sealed: &[u8],
) -> Option<String> {
    let plain = seal::open(ring, repository, BlobKind::Names, &domain.to_le_bytes(), sealed).ok()?;
    String::from_utf8(plain).ok()
}

/// A text as it stands in the journal of a shared repository.
pub(crate) fn veil(
    ring: &Keyring,
    repository: RepositoryId,
    text: &str,
    entropy: &dyn Entropy,
) -> Result<String, SealError> {
    let sealed = seal_under_names(ring, repository, TEXT_BINDING, text.as_bytes(), entropy)?;
    Ok(format!("{VEIL}{}", hex::encode(sealed)))
}

/// [`veil`] the other way. What is not veiled stays what it is; what cannot be opened says whose it is.
pub(crate) fn unveil(ring: &Keyring, repository: RepositoryId, text: &str) -> String {
    let Some(sealed) = text.strip_prefix(VEIL).and_then(|digits| hex::decode(digits).ok()) else {
        return text.to_owned();
    };
    match open_under_names(ring, repository, TEXT_BINDING, &sealed).map(String::from_utf8) {
        Ok(Ok(text)) => text,
        _ => match seal::epoch_of(&sealed) {
            Ok(epoch) => format!("(sealed, domain {})", domain_of(epoch)),
            Err(_) => "(sealed)".to_owned(),
        },
    }
}

/// What is said in a shared repository, as others may read it. `held` is what stands in the journal for the holds of a point.
pub(crate) fn veil_event(
    ring: &Keyring,
    repository: RepositoryId,
    mut event: Event,
    held: impl Fn(RecoveryPointId) -> Vec<String>,
    entropy: &dyn Entropy,
) -> Result<Event, SealError> {
    let hide = |text: &mut String| -> Result<(), SealError> {
        *text = veil(ring, repository, text, entropy)?;
        Ok(())
    };
    match &mut event {
        Event::Opened(opened) => {
            hide(&mut opened.agent)?;
            hide(&mut opened.purpose)?;
        }
        Event::Fenced(fenced) => hide(&mut fenced.reason)?,
        Event::Forgotten(forgotten) => hide(&mut forgotten.reason)?,
        Event::Held(hold) => hide(&mut hold.hold)?,
        Event::Released(hold) => {
            let is_meant = |found: &String| unveil(ring, repository, found) == hold.hold;
            if let Some(found) = held(hold.point).into_iter().find(is_meant) {
                hold.hold = found;
            }
        }
        Event::Restored(restored) => {
            hide(&mut restored.target)?;
            let name = format!("domain-{}", ring.domain());
            restored.volume = name.parse().expect("letters, a dash and digits are a name");
        }
        Event::RestoreTested(tested) => hide(&mut tested.detail)?,
        Event::RollbackAccepted(accepted) => hide(&mut accepted.reason)?,
        Event::Published(published) => {
            let Published { session, point, volume, parent, map, packs, revives, last, info } =
                (**published).clone();
            let names = Names { volume, parent, info };
            let names = seal_names(ring, repository, point, &names, entropy)?;
            let domain = ring.domain();
            let sealed = PublishedInDomain { session, point, domain, map, packs, revives, last, names };
            event = Event::PublishedInDomain(Box::new(sealed));
        }
        // These name nothing, or nothing that is not an id.
        Event::Closed(_)
        | Event::SweepPlanned(_)
        | Event::PackRewritten(_)
        | Event::SweepDone(_)
        | Event::KeyAdded(_)
        | Event::KeyRemoved(_)
        | Event::Verified(_)
        // No log is opened in a shared repository, so nothing is said of one: `Repository::open_log` refuses.
        | Event::LogOpened(_)
        | Event::LogArchived(_)
        | Event::LogTrimmed(_)
        | Event::DatabaseTested(_)
        | Event::KeysRotated(_)
        | Event::DomainAdded(_)
        | Event::PublishedInDomain(_)
        | Event::DomainRotated(_) => {}
    }
    Ok(event)
}
