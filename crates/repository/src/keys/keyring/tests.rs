use super::*;
use crate::testing::SeededEntropy;

#[test]
fn a_keyring_of_version_1_is_read_back_with_every_epoch() {
    let entropy = SeededEntropy::new(1);
    let ring = Keyring::generate(&entropy).rotated(&entropy).rotated(&entropy);
    let bytes = ring.encode();
    assert_eq!(bytes[..2], [1, 0]);
    let read = Keyring::decode(&bytes).unwrap();
    assert_eq!(read.newest_epoch(), 3);
    assert_eq!(read.identity(), ring.identity());
    for epoch in 1..=3 {
        assert_eq!(read.master(epoch), ring.master(epoch));
    }
    assert_eq!(read.master(4), None);
}

#[test]
fn what_is_no_keyring_is_refused() {
    let entropy = SeededEntropy::new(1);
    let first = Keyring::generate(&entropy).encode();
    let second = Keyring::fresh(DataSeal::Split, &entropy).encode();
    for bytes in [&first, &second] {
        for cut in 0..bytes.len() {
            assert!(Keyring::decode(&bytes[..cut]).is_err());
        }
        let mut newer = bytes.to_vec();
        newer[0] = 4;
        assert_eq!(Keyring::decode(&newer).err(), Some("its version is unknown"));
    }
    let mut zero = first.to_vec();
    zero[36..40].fill(0);
    assert_eq!(Keyring::decode(&zero).err(), Some("its epochs are not ascending"));
    let mut unknown = second.to_vec();
    unknown[72] = 4;
    assert_eq!(Keyring::decode(&unknown).err(), Some("it has data keys of an unknown kind"));
    let mut neither = second.to_vec();
    neither[72] = 2;
    assert_eq!(Keyring::decode(&neither).err(), Some("it is neither an owner's nor a write-only one"));
}

#[test]
fn a_write_only_ring_holds_no_key_that_reads_data() {
    let entropy = SeededEntropy::new(1);
    let open = Keyring::fresh(DataSeal::Open, &entropy);
    assert!(open.write_only().is_none(), "an open epoch's master reads data");
    let split = open.next(DataSeal::Split, &entropy).unwrap();
    let ring = Keyring::decode(&split.write_only().unwrap().encode()).unwrap();
    assert_eq!((split.grants(), ring.grants()), (Grants::Everything, Grants::WriteOnly));
    assert_eq!(ring.master(1), None, "what was sealed before the split stays closed");
    assert_eq!(ring.owner(), None);
    assert_eq!(ring.sealing_data(), split.sealing_data());
    let bytes = ring.encode();
    let Some(DataKey::Private(private)) = split.data_key(split.newest_epoch()) else { panic!("it is split") };
    for secret in [&private.bytes()[..], &split.owner().unwrap()[..], &split.master(1).unwrap()[..]] {
        assert!(!bytes.windows(32).any(|window| window == secret));
    }
    assert!(ring.next(DataSeal::Split, &entropy).is_none(), "only owners rotate");
}

#[test]
fn a_ring_takes_new_epochs_in_but_seals_with_the_one_it_is_told() {
    let entropy = SeededEntropy::new(1);
    let ring = Keyring::fresh(DataSeal::Open, &entropy);
    let part = ring.clone();
    let next = ring.next(DataSeal::Open, &entropy).unwrap();
    let newest = next.newest_epoch();
    ring.adopt(&next);
    assert_eq!((part.newest_epoch(), part.sealing().0), (newest, 1));
    ring.settle(newest + 1);
    assert_eq!(part.sealing().0, 1, "an epoch that is not held never seals");
    ring.settle(newest);
    assert_eq!(part.sealing(), next.sealing());
    let stranger = Keyring::fresh(DataSeal::Open, &entropy);
    ring.adopt(&stranger.next(DataSeal::Open, &entropy).unwrap());
    assert_eq!(part.newest_epoch(), newest, "another repository's ring");
}

#[test]
fn nothing_secret_is_shown() {
    let ring = Keyring::fresh(DataSeal::Split, &SeededEntropy::new(1));
    let shown = format!("{ring:?} {:?}", ring.data_key(1));
    assert!(!shown.contains(&hex::encode(ring.identity())) && shown.len() < 120, "{shown}");
}
