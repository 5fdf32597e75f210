use proptest::prelude::*;

use super::*;
use crate::testing::SeededEntropy;

const REPOSITORY: RepositoryId = RepositoryId::from_bytes([0x5a; 16]);
const KIND: BlobKind = BlobKind::JournalRecord;

fn ring() -> Keyring {
    Keyring::generate(&SeededEntropy::new(1)).with_cipher(Cipher::Aes256Gcm)
}

fn sealed(plain: &[u8]) -> Bytes {
    seal(&ring(), REPOSITORY, KIND, &7_u64.to_le_bytes(), plain, &SeededEntropy::new(2)).unwrap()
}

fn opened(sealed: &[u8]) -> Result<Vec<u8>, SealError> {
    open(&ring(), REPOSITORY, KIND, &7_u64.to_le_bytes(), sealed)
}

#[test]
fn the_bytes_of_a_blob_are_fixed() {
    assert_eq!(
        hex::encode(sealed(b"a recovery point")),
        concat!(
            // Magic, version 1, AES-256-GCM, no flags, epoch 1.
            "5352474d424c4f42",
            "0100",
            "01",
            "00",
            "01000000",
            // Salt, commitment.
            "65706bf07e4e656de8a6b898dfbc64c076e001253f384043a40c437e1d5fb124",
            "b6ccf8edd2c068dd8b9eb2d173d4fec12d4ce6f6aad34e9c53f80caf7fa2247c",
            // Ciphertext, tag.
            "4be42ad07901d8150ced38a968eaead6",
            "511c19c3408f29c8c56d810223a9dbe9",
        )
    );
}

#[test]
fn any_flipped_bit_and_any_cut_is_noticed() {
    for plain in [b"short".to_vec(), vec![b'x'; 1000]] {
        let good = sealed(&plain);
        for bit in 0..good.len() * 8 {
            let mut bad = good.to_vec();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(opened(&bad).is_err(), "bit {bit}");
        }
        for cut in 0..good.len() {
            assert!(opened(&good[..cut]).is_err(), "cut to {cut}");
        }
        assert!(opened(&[&good[..], b"x"].concat()).is_err());
    }
}

#[test]
fn a_blob_cannot_stand_in_for_another() {
    let good = sealed(b"content");
    let number = 7_u64.to_le_bytes();
    let other = RepositoryId::from_bytes([0; 16]);
    assert_eq!(open(&ring(), other, KIND, &number, &good), Err(SealError::Broken));
    assert_eq!(open(&ring(), REPOSITORY, BlobKind::Checkpoint, &number, &good), Err(SealError::Broken));
    assert_eq!(open(&ring(), REPOSITORY, KIND, &8_u64.to_le_bytes(), &good), Err(SealError::Broken));
    let stranger = Keyring::generate(&SeededEntropy::new(9));
    assert_eq!(open(&stranger, REPOSITORY, KIND, &number, &good), Err(SealError::WrongKey));
}

#[test]
fn what_the_future_writes_is_refused_by_name() {
    let mut newer = sealed(b"content").to_vec();
    newer[8] = 2;
    assert_eq!(opened(&newer), Err(SealError::Unknown { what: "format version", found: 2 }));
    let mut cipher = sealed(b"content").to_vec();
    cipher[10] = 3;
    assert_eq!(opened(&cipher), Err(SealError::Unknown { what: "cipher", found: 3 }));
    let mut flags = sealed(b"content").to_vec();
    flags[11] = 2;
    assert_eq!(opened(&flags), Err(SealError::Unknown { what: "flags", found: 2 }));
    assert_eq!(opened(b"nothing"), Err(SealError::NotSealed));
}

#[test]
fn a_rotated_keyring_opens_the_old_and_seals_under_the_new() {
    let old = sealed(b"content");
    let ring = ring().rotated(&SeededEntropy::new(3));
    let number = 7_u64.to_le_bytes();
    assert_eq!(open(&ring, REPOSITORY, KIND, &number, &old).unwrap(), b"content");
    let new = seal(&ring, REPOSITORY, KIND, &number, b"content", &SeededEntropy::new(4)).unwrap();
    assert_eq!(opened(&new), Err(SealError::UnknownEpoch { epoch: 2 }));
}

#[test]
fn a_bomb_inside_an_authentic_blob_is_refused_before_it_unpacks() {
    let limit = BlobKind::JournalRecord.limit();
    let lie = [&(limit + 1).to_le_bytes()[..], &zstd::bulk::compress(&[0; 1000], 3).unwrap()].concat();
    assert_eq!(decompress(&lie, limit).err(), Some(SealError::TooLarge { limit }));
    let short = [&10_u64.to_le_bytes()[..], &zstd::bulk::compress(&[0; 1000], 3).unwrap()].concat();
    assert_eq!(decompress(&short, limit).err(), Some(SealError::Malformed));
    let long = [&2000_u64.to_le_bytes()[..], &zstd::bulk::compress(&[0; 1000], 3).unwrap()].concat();
    assert_eq!(decompress(&long, limit).err(), Some(SealError::Malformed));
}

#[test]
fn a_blob_over_its_limit_cannot_be_sealed() {
    let plain = vec![0; 65 << 10];
    let error =
        seal(&ring(), REPOSITORY, BlobKind::KeySlot, &[], &plain, &SeededEntropy::new(1)).unwrap_err();
    assert_eq!(error, SealError::TooLarge { limit: 64 << 10 });
}

proptest! {
    #[test]
    fn what_was_sealed_is_opened(
        plain in prop::collection::vec(any::<u8>(), 0..2000),
        repeat in 1_usize..20,
        seed: u64,
        chacha: bool,
    ) {
        let cipher = if chacha { Cipher::ChaCha20Poly1305 } else { Cipher::Aes256Gcm };
        let plain = plain.repeat(repeat);
        let blob = seal(&ring().with_cipher(cipher), REPOSITORY, KIND, &[1], &plain, &SeededEntropy::new(seed)).unwrap();
        prop_assert_eq!(open(&ring(), REPOSITORY, KIND, &[1], &blob).unwrap(), plain);
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let forged = [&MAGIC[..], &[1, 0, 1, 0], &bytes].concat();
        prop_assert!(opened(&forged).is_err());
        prop_assert!(opened(&bytes).is_err());
    }
}
