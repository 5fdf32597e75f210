//! A rewrite keeps what is needed, as it was.

use super::*;

#[tokio::test]
async fn a_rewrite_copies_sealed_bytes_under_the_same_numbers_and_leaves_holes() {
    let store = MemoryStore::default();
    let context = context(&store, 2);
    let chunks: Vec<Bytes> = (0..50).map(|seed| content(seed, 3000)).collect();
    let (places, packs) = write(&context, PackSettings::default(), &chunks).await.unwrap();
    let old = packs[0].place();
    let holes = (0..50).filter(|n| n % 3 != 0).collect();
    let new = rewrite(&context, old, &holes).await.unwrap();
    assert_eq!((new.pack(), new.entry_count()), (packs[0].pack(), 17));
    assert_ne!(new.object().suffix, old.object.suffix);
    assert!(new.bytes() < packs[0].bytes() / 2);

    let (before, after) =
        (read_footer(&context, old).await.unwrap(), read_footer(&context, new.place()).await.unwrap());
    assert_eq!(before.header(), after.header());
    for row in after.rows() {
        let was = before.row(row.number).unwrap();
        assert_eq!(before.sealed(was), after.sealed(row));
    }
    let kept: Vec<_> =
        places.iter().copied().zip(chunks).filter(|(at, _)| !holes.contains(&at.entry)).collect();
    read_all(&context, std::slice::from_ref(&new), &kept).await.unwrap();
    scrub(&*context.store, new.kind(), new.object(), new.bytes()).await.unwrap();

    let fetcher = PackFetcher::new(context.clone(), 1 << 20);
    let hole = fetcher.entry(new.place(), 1).await.unwrap_err();
    assert!(matches!(hole, PackError::Hole { entry: 1, .. }) && hole.may_have_moved());
    let again = rewrite(&context, new.place(), &[0].into()).await.unwrap();
    assert_eq!(again.entry_count(), 16);
}

#[tokio::test]
async fn a_damaged_pack_is_not_rewritten_and_nothing_appears() {
    let store = MemoryStore::default();
    let context = context(&store, 2);
    let chunks: Vec<Bytes> = (0..5).map(|seed| content(seed, 3000)).collect();
    let (_, packs) = write(&context, PackSettings::default(), &chunks).await.unwrap();
    let name = packs[0].place().name();
    let mut bad = store.objects()[name.as_str()].to_vec();
    bad[100] ^= 1;
    store.damage(&name, bad);
    let error = rewrite(&context, packs[0].place(), &[1].into()).await.unwrap_err();
    assert!(matches!(error, RewriteError::Read(PackError::EntryDamaged { entry: 0, .. })), "{error}");
    assert_eq!(store.objects().len(), 1);
    // What is a hole anyway is not read.
    rewrite(&context, packs[0].place(), &[0].into()).await.unwrap();
}

#[tokio::test]
async fn after_a_rotation_a_rewritten_pack_still_opens() {
    let store = MemoryStore::default();
    let old = context(&store, 2);
    let chunks = [content(1, 3000), content(2, 3000)];
    let (places, packs) = write(&old, PackSettings::default(), &chunks).await.unwrap();
    let keyring = Arc::new(old.keyring.rotated(&SeededEntropy::new(5)));
    let new = PackContext { keyring, ..old.clone() };
    let rewritten = rewrite(&new, packs[0].place(), &[0].into()).await.unwrap();
    read_all(&new, &[rewritten], &[(places[1], chunks[1].clone())]).await.unwrap();
}
