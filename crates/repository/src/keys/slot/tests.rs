use super::*;
use crate::keys::{DataSeal, KeyFile, Passphrase, RecipientKey};
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
        assert_eq!(opened.sealing(), keyring.sealing());
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
    assert!(matches!(
        open_any(REPOSITORY, &slots, &key_file(2), None),
        Err(KeyError::NoneFits { slots: 2, .. })
    ));
    assert_eq!(open_any(REPOSITORY, &slots, &passphrase("right"), None).unwrap().1.id(), slots[1].id());
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
        ("\"version\": 1", "\"version\": 3"),
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
        String::from_utf8(slot.encode().to_vec()).unwrap().replace("\"version\": 1", "\"version\": 3");
    let error = KeySlot::parse(slot.id(), newer.as_bytes()).unwrap_err();
    assert!(error.to_string().contains("version 3"), "{error}");
}

/// A slot of version 2 for each kind of key, and the owner's ring.
fn paired() -> (Keyring, Vec<(Unlock, KeySlot)>) {
    let entropy = SeededEntropy::new(8);
    let ring = Keyring::fresh(DataSeal::Split, &entropy);
    let recipient = RecipientKey::generate(&entropy);
    let keys = [
        (key_file(1), NewKey::Holder(key_file(1))),
        (passphrase("right"), NewKey::Holder(passphrase("right"))),
        (Unlock::Recipient(recipient.clone()), NewKey::Recipient(recipient.recipient())),
    ];
    let slots = keys.into_iter().flat_map(|(unlock, key)| {
        [Grants::Everything, Grants::WriteOnly].map(|grants| (unlock.clone(), made(&ring, &key, grants)))
    });
    let slots = slots.collect();
    (ring, slots)
}

fn made(ring: &Keyring, key: &NewKey, grants: Grants) -> KeySlot {
    let at = "2026-11-21T08:00:00Z".parse().unwrap();
    let entropy = SeededEntropy::new(9);
    KeySlot::make(REPOSITORY, ring, key, grants, "the safe", at, PassphraseCost::TEST, &entropy).unwrap()
}

#[test]
fn a_slot_of_version_2_gives_its_holder_the_ring_before_and_after_a_rotation() {
    let (ring, slots) = paired();
    let next = ring.next(DataSeal::Split, &SeededEntropy::new(10)).unwrap();
    for (unlock, slot) in slots {
        let slot = KeySlot::parse(slot.id(), &slot.encode()).unwrap();
        assert!(slot.is_approved(REPOSITORY, &ring) && !slot.is_approved(REPOSITORY, &next));
        let opened = slot.open(REPOSITORY, &unlock).unwrap();
        assert_eq!((opened.grants(), opened.sealing()), (slot.grants(), ring.sealing()));
        let renewed = slot.renewed(REPOSITORY, &next, &SeededEntropy::new(11)).unwrap();
        let renewed = KeySlot::parse(renewed.id(), &renewed.encode()).unwrap();
        assert!(renewed.is_approved(REPOSITORY, &next) && renewed.id() != slot.id());
        let opened = renewed.open(REPOSITORY, &unlock).unwrap();
        assert_eq!((opened.grants(), opened.sealing()), (slot.grants(), next.sealing()));
        assert_eq!(opened.master(1), ring.master(1), "what was sealed before stays readable");
    }
}

#[test]
fn nothing_in_a_slot_of_version_2_can_be_changed_unnoticed() {
    let (ring, slots) = paired();
    for (unlock, slot) in slots {
        let text = String::from_utf8(slot.encode().to_vec()).unwrap();
        let value: serde_json::Map<String, serde_json::Value> = serde_json::from_str(&text).unwrap();
        for (name, field) in &value {
            let mut changed = value.clone();
            let other: serde_json::Value = match (name.as_str(), field) {
                ("kind", _) => "passphrase".into(),
                ("grants", grants) => if grants == "everything" { "write-only" } else { "everything" }.into(),
                ("label", _) => "the sofa".into(),
                ("created_at", _) => "2026-11-21T08:00:01Z".into(),
                ("argon2id", _) => serde_json::Value::Null,
                (_, serde_json::Value::Number(_)) => 7.into(),
                (_, serde_json::Value::String(text)) => {
                    text.replace(['0', '1'], "f").replacen(['2', '3', '4'], "5", 1).into()
                }
                _ => unreachable!("{name}"),
            };
            if other == *field || field == "" {
                continue;
            }
            changed.insert(name.clone(), other);
            let bytes = serde_json::to_vec(&changed).unwrap();
            // Whoever opens it, or an owner who looks before giving it new keys, notices.
            let Ok(slot) = KeySlot::parse(slot.id(), &bytes) else { continue };
            assert!(!slot.is_approved(REPOSITORY, &ring), "{name}");
            let opened = slot.open(REPOSITORY, &unlock);
            assert!(opened.is_err() || name == "approval", "{name}");
        }
        let moved = KeySlot::parse([0; 8], text.as_bytes()).unwrap();
        assert!(moved.open(REPOSITORY, &unlock).is_err() && !moved.is_approved(REPOSITORY, &ring));
    }
}

#[test]
fn a_stranger_cannot_give_the_holder_of_a_key_a_ring_of_their_own() {
    let (_, slots) = paired();
    let strange = Keyring::fresh(DataSeal::Split, &SeededEntropy::new(12));
    for (unlock, slot) in slots.iter().filter(|(_, slot)| slot.kind() != SlotKind::Recipient) {
        let forged = slot.renewed(REPOSITORY, &strange, &SeededEntropy::new(13)).unwrap();
        assert!(matches!(forged.open(REPOSITORY, unlock), Err(KeyError::Forged { .. })));
    }
}

#[test]
fn the_wrong_key_of_each_kind_is_told_as_wrong() {
    let (_, slots) = paired();
    let wrong = [
        key_file(2),
        passphrase("Right"),
        Unlock::Recipient(RecipientKey::generate(&SeededEntropy::new(14))),
    ];
    for (_, slot) in &slots {
        for unlock in &wrong {
            assert!(matches!(slot.open(REPOSITORY, unlock), Err(KeyError::Wrong { .. })));
        }
    }
}

#[test]
fn only_an_owner_makes_slots_and_write_only_ones_need_a_split_epoch() {
    let entropy = SeededEntropy::new(15);
    let key = NewKey::Holder(key_file(1));
    let make = |ring: &Keyring, grants| {
        let at = "2026-11-21T08:00:00Z".parse().unwrap();
        KeySlot::make(REPOSITORY, ring, &key, grants, "", at, PassphraseCost::TEST, &entropy).err()
    };
    let open = Keyring::fresh(DataSeal::Open, &entropy);
    let split = Keyring::fresh(DataSeal::Split, &entropy);
    assert!(matches!(make(&open, Grants::WriteOnly), Some(KeyError::WriteOnlyOff)));
    assert!(make(&open, Grants::Everything).is_none());
    let write_only = split.write_only().unwrap();
    assert!(matches!(make(&write_only, Grants::WriteOnly), Some(KeyError::NotOwner)));
    assert!(matches!(make(&Keyring::generate(&entropy), Grants::Everything), Some(KeyError::RotateFirst)));
}
