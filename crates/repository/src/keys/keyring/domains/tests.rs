use proptest::prelude::*;

use super::*;
use crate::chunk::chunk_id;
use crate::testing::SeededEntropy;

fn operator() -> Keyring {
    Keyring::fresh_operator(DataSeal::Open, &SeededEntropy::new(1))
}

fn read_back(ring: &Keyring) -> Keyring {
    Keyring::decode(&ring.encode()).unwrap()
}

fn holds(ring: &Keyring, secret: &[u8]) -> bool {
    ring.encode().windows(secret.len()).any(|window| window == secret)
}

#[test]
fn every_ring_of_a_shared_repository_is_read_back_as_what_it_is() {
    let entropy = SeededEntropy::new(2);
    let (operator, domain) = (operator(), Keyring::fresh_domain(7, &entropy));
    let split = operator.next(DataSeal::Split, &entropy).unwrap();
    for (ring, grants, number) in [
        (operator.clone(), Grants::Everything, 0),
        (operator.journal().unwrap(), Grants::Journal, 0),
        (split.write_only().unwrap(), Grants::WriteOnly, 0),
        (domain.clone(), Grants::Everything, 7),
        (domain.write_only().unwrap(), Grants::WriteOnly, 7),
        (domain.structure().unwrap(), Grants::Structure, 7),
    ] {
        let read = read_back(&ring);
        assert_eq!((read.grants(), read.domain(), read.is_shared()), (grants, number, true));
        assert_eq!(read.encode(), ring.encode());
        assert_eq!(read.encode()[..2], [3, 0]);
        for cut in 0..ring.encode().len() {
            assert!(Keyring::decode(&ring.encode()[..cut]).is_err());
        }
    }
}

#[test]
fn what_the_operator_gets_of_a_domain_opens_neither_data_nor_names_and_makes_no_ids() {
    let entropy = SeededEntropy::new(3);
    let domain = Keyring::fresh_domain(1, &entropy);
    let structure = read_back(&domain.structure().unwrap());
    let epoch = domain.newest_epoch();
    assert_eq!(structure.master(epoch), domain.master(epoch));
    assert!(structure.names(epoch).is_none());
    let Some(DataKey::Private(private)) = domain.data_key(epoch) else { panic!("a domain is always split") };
    let letters = domain.letters().unwrap();
    for secret in [&domain.identity()[..], &domain.owner().unwrap()[..], private.bytes(), letters.bytes()] {
        assert!(!holds(&structure, secret));
    }
    let operator = operator();
    operator.learn(&structure);
    assert!(operator.is_foreign(epoch) && operator.names(epoch).is_none());
    assert_eq!(operator.sealing_for(epoch), (epoch, domain.master(epoch).unwrap()));
    assert_eq!(operator.sealing_for(1), operator.sealing());
    assert!(!holds(&operator, &*domain.master(epoch).unwrap()), "what was learned is not passed on");
}

#[test]
fn what_a_domain_gets_of_the_operator_opens_the_journal_alone() {
    let operator = operator();
    let journal = read_back(&operator.journal().unwrap());
    assert_ne!(journal.master(1), operator.master(1));
    for secret in [&operator.identity()[..], &operator.owner().unwrap()[..], &operator.master(1).unwrap()[..]]
    {
        assert!(!holds(&journal, secret));
    }
    assert!(journal.names(1).is_none());
}

#[test]
fn a_domain_stays_split_whatever_is_asked() {
    let entropy = SeededEntropy::new(4);
    let domain = Keyring::fresh_domain(1, &entropy).next(DataSeal::Open, &entropy).unwrap();
    assert_eq!(domain.data_seal(), DataSeal::Split);
}

#[test]
fn rings_that_nobody_gives_out_are_refused() {
    let entropy = SeededEntropy::new(5);
    let domain = Keyring::fresh_domain(7, &entropy).encode();
    for (at, byte) in [(68, 8), (69, 0x10), (104, 0), (108, 0), (108, 2), (108, 3)] {
        let mut forged = domain.to_vec();
        forged[at] = byte;
        if at == 104 {
            forged[106] = 0;
        }
        assert!(Keyring::decode(&forged).is_err(), "byte {at} = {byte}");
    }
    let mut dumb = domain.to_vec();
    dumb[72..104].fill(0);
    assert!(Keyring::decode(&dumb).is_err(), "an owner gets letters");
}

proptest! {
    #[test]
    fn equal_content_has_unequal_ids_in_different_domains(
        seed in any::<u64>(), other in any::<u64>(), first in 0..=MOST_DOMAINS, second in 0..=MOST_DOMAINS,
        content in proptest::collection::vec(any::<u8>(), 1..200),
    ) {
        prop_assume!(seed != other || first != second);
        let make = |domain, seed| Keyring::fresh_domain(domain, &SeededEntropy::new(seed));
        let (one, two) = (make(first, seed), make(second, other));
        prop_assert_ne!(chunk_id(&one, first, &content), chunk_id(&two, second, &content));
        prop_assert_eq!(chunk_id(&one, first, &content), chunk_id(&read_back(&one), first, &content));
    }

    #[test]
    fn epochs_of_a_domain_stay_its_own_through_every_rotation(domain in 1..=MOST_DOMAINS, seed in any::<u64>()) {
        let entropy = SeededEntropy::new(seed);
        let mut ring = Keyring::fresh_domain(domain, &entropy);
        let first = ring.names(ring.newest_epoch()).unwrap();
        for _ in 0..64 {
            ring = ring.next(DataSeal::Split, &entropy).unwrap();
            prop_assert_eq!(domain_of(ring.newest_epoch()), domain);
        }
        prop_assert_ne!(ring.names(ring.newest_epoch()).unwrap(), first);
    }
}
