use super::*;
use crate::keys::{KeyFile, Passphrase};
use crate::testing::SeededEntropy;

const REPOSITORY: RepositoryId = RepositoryId::from_bytes([0x5a; 16]);

fn wrapped(unlock: &Unlock) -> (Keyring, KeySlot) {
    let entropy = SeededEntropy::new(7);
    let keyring = Keyring::generate(&entropy);
    let slot = KeySlot::wrap(
        REPOSITORY,
        &keyring,
        unlock,
        "the safe",
        "2026-11-21T08:00:00Z".parse().unwrap(),
        PassphraseCost::TEST,
        &entropy,
    );
    (keyring, slot.unwrap())
}

fn key_file(seed: u64) -> Unlock {
    Unlock::KeyFile(KeyFile::generate(&SeededEntropy::new(seed)))
}

fn passphrase(text: &str) -> Unlock {
    Unlock::Passphrase(Passphrase::new(text.into()).unwrap())
}

#[test]
fn each_kind_of_slot_is_written_and_opened_again() {
    for unlock in [key_file(1), passphrase("correct horse battery staple")] {
        let (keyring, slot) = wrapped(&unlock);
        let read = KeySlot::parse(slot.id(), &slot.encode()).unwrap();
        assert_eq!((read.kind(), read.label()), (unlock.slot_kind(), "the safe"));
        let opened = read.open(REPOSITORY, &unlock).unwrap();
        assert_eq!(opened.newest(), keyring.newest());
        assert_eq!(opened.identity(), keyring.identity());
    }
}

#[test]
fn a_wrong_key_a_wrong_passphrase_and_the_wrong_kind_are_told_as_wrong() {
    let (_, by_file) = wrapped(&key_file(1));
    let (_, by_phrase) = wrapped(&passphrase("right"));
    for (slot, unlock) in [
        (&by_file, key_file(2)),
        (&by_file, passphrase("right")),
        (&by_phrase, passphrase("Right")),
        (&by_phrase, key_file(1)),
    ] {
        assert!(matches!(slot.open(REPOSITORY, &unlock), Err(KeyError::Wrong { .. })));
    }
    let slots = [by_file, by_phrase];
    assert!(matches!(open_any(REPOSITORY, &slots, &key_file(2)), Err(KeyError::NoneFits { slots: 2, .. })));
    assert_eq!(open_any(REPOSITORY, &slots, &passphrase("right")).unwrap().1.id(), slots[1].id());
}

#[test]
fn no_field_of_a_slot_can_be_changed() {
    let unlock = passphrase("right");
    let (_, slot) = wrapped(&unlock);
    let text = String::from_utf8(slot.encode().to_vec()).unwrap();
    for (from, to) in [
        ("the safe", "the sofa"),
        ("08:00:00Z", "08:00:01Z"),
        ("\"memory_kib\": 64", "\"memory_kib\": 65"),
        ("\"passes\": 1", "\"passes\": 2"),
        ("\"version\": 1", "\"version\": 2"),
        ("\"passphrase\"", "\"key-file\""),
        ("\"label\"", "\"lebal\""),
    ] {
        let changed = text.replace(from, to);
        assert_ne!(changed, text, "{from}");
        let opened =
            KeySlot::parse(slot.id(), changed.as_bytes()).and_then(|slot| slot.open(REPOSITORY, &unlock));
        assert!(opened.is_err(), "{from} -> {to}");
    }
    assert!(slot.open(RepositoryId::from_bytes([1; 16]), &unlock).is_err(), "another repository's slot");
    let moved = KeySlot::parse([0; 8], text.as_bytes()).unwrap();
    assert!(moved.open(REPOSITORY, &unlock).is_err(), "under another name");
}

#[test]
fn a_slot_of_a_newer_version_is_refused_by_name() {
    let (_, slot) = wrapped(&key_file(1));
    let newer =
        String::from_utf8(slot.encode().to_vec()).unwrap().replace("\"version\": 1", "\"version\": 2");
    let error = KeySlot::parse(slot.id(), newer.as_bytes()).unwrap_err();
    assert!(error.to_string().contains("version 2"), "{error}");
}
