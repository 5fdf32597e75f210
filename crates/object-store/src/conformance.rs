//! What every store must do: one suite, run by every adapter and through the wrappers.
//!
//! Each function is one promise of the trait and panics, saying what it saw, where a store breaks it. All of them work
//! below `probe/<scope>/`, so that they can run beside one another and on a bucket that is not empty.

use bytes::Bytes;
use futures::future::join_all;
use futures::{StreamExt, TryStreamExt, stream};
use strongroom_repository::layout::ObjectName;
use strongroom_repository::store::{Deleted, Listed, ObjectStore, PART_BYTES, StoreError};

use crate::spool::nameless_file;

/// Requests that the suite keeps under way where it makes many.
const AT_ONCE: usize = 24;

/// A corner of the store that nobody else uses.
#[derive(Debug, Clone, Copy)]
pub struct Scope(pub [u8; 16]);

impl Scope {
    fn name(self, text: &str) -> ObjectName {
        ObjectName::probe(self.0, text)
    }

    fn prefix(self) -> String {
        self.name("").as_str().to_owned()
    }
}

/// The whole suite, one promise after the other. Leaves nothing behind when it succeeds.
pub async fn all(store: &dyn ObjectStore, scope: Scope) {
    a_created_name_is_never_overwritten(store, scope).await;
    of_racing_creators_one_wins(store, scope).await;
    what_is_written_is_read_at_once(store, scope).await;
    racing_writers_leave_one_whole_body(store, scope).await;
    empty_and_big_bodies_come_back(store, scope).await;
    a_range_is_exact_or_an_error(store, scope).await;
    what_is_not_there_is_said_to_be_missing(store, scope).await;
    parts_make_one_object_when_they_are_complete(store, scope).await;
    a_file_becomes_one_object(store, scope).await;
    an_upload_that_is_given_up_leaves_nothing(store, scope).await;
    deleting_twice_is_no_error(store, scope).await;
    listings_are_in_order_and_whole(store, scope).await;
    remove_all(store, scope).await;
}

/// A create-only write changes nothing where the name is taken, whether it is the same body or another.
pub async fn a_created_name_is_never_overwritten(store: &dyn ObjectStore, scope: Scope) {
    let name = scope.name("create");
    store.create(&name, Bytes::from_static(b"first")).await.expect("creating a free name");
    for body in ["second", "first", ""] {
        let again = store.create(&name, Bytes::from_static(body.as_bytes())).await;
        assert!(matches!(again, Err(StoreError::Exists { .. })), "creating a taken name answered {again:?}");
    }
    assert_eq!(store.get(&name).await.expect("reading it"), "first");
    let over_put = scope.name("create-over-put");
    store.put(&over_put, Bytes::from_static(b"put")).await.expect("writing");
    store.create(&over_put, Bytes::from_static(b"created")).await.expect_err("it was there");
    assert_eq!(store.get(&over_put).await.expect("reading it"), "put");
}

/// Sixteen at once on each of eight names: one winner each, and its body is what stands there.
pub async fn of_racing_creators_one_wins(store: &dyn ObjectStore, scope: Scope) {
    let racers = (0..8).flat_map(|name| (0..16).map(move |racer| (name, racer)));
    let answers = join_all(racers.map(|(name, racer)| async move {
        let body = Bytes::from(format!("racer {racer} on {name}").repeat(100));
        (name, body.clone(), store.create(&scope.name(&format!("race-{name}")), body).await)
    }))
    .await;
    for name in 0..8 {
        let mut winners = answers.iter().filter(|(of, _, answer)| *of == name && answer.is_ok());
        let (_, body, _) = winners.next().expect("somebody wins");
        assert_eq!(winners.count(), 0, "more than one racer won name {name}");
        let stands = store.get(&scope.name(&format!("race-{name}"))).await.expect("reading it");
        assert_eq!(stands, body, "another body than the winner's stands at name {name}");
    }
}

/// GET, HEAD and LIST show a write at once, and the one after it.
pub async fn what_is_written_is_read_at_once(store: &dyn ObjectStore, scope: Scope) {
    let name = scope.name("written/deep/down");
    for body in ["one", "another one", ""] {
        store.put(&name, Bytes::from_static(body.as_bytes())).await.expect("writing");
        assert_eq!(store.get(&name).await.expect("reading"), body);
        assert_eq!(store.head(&name).await.expect("asking").bytes, body.len() as u64);
        let page = store.list(name.as_str(), None).await.expect("listing");
        let seen: Vec<_> = page.objects.iter().map(|object| (object.name.as_str(), object.bytes)).collect();
        assert_eq!(seen, [(name.as_str(), body.len() as u64)]);
    }
}

/// Writers at once on one name: one of the bodies stands there, never a mixture.
pub async fn racing_writers_leave_one_whole_body(store: &dyn ObjectStore, scope: Scope) {
    let name = &scope.name("overwritten");
    let body = |racer: u8| Bytes::from(vec![racer; 200_000 + usize::from(racer)]);
    for answer in join_all((0..8).map(|racer| store.put(name, body(racer)))).await {
        answer.expect("writing");
    }
    let stands = store.get(name).await.expect("reading it");
    assert!((0..8).any(|racer| stands == body(racer)), "the body of {} bytes is nobody's", stands.len());
}

/// From no bytes to more than two parts.
pub async fn empty_and_big_bodies_come_back(store: &dyn ObjectStore, scope: Scope) {
    for bytes in [0, 1, 65_537, 2 * PART_BYTES + 17] {
        let name = scope.name(&format!("body-{bytes}"));
        store.create(&name, pattern(bytes, 7)).await.expect("creating");
        assert!(
            store.get(&name).await.expect("reading") == pattern(bytes, 7),
            "a body of {bytes} bytes came back changed"
        );
    }
}

/// A range within the object is exact; one that leaves it is an error, never a short answer.
pub async fn a_range_is_exact_or_an_error(store: &dyn ObjectStore, scope: Scope) {
    let (name, body) = (scope.name("ranges"), pattern(100_000, 1));
    store.put(&name, body.clone()).await.expect("writing");
    for (start, length) in
        [(0, 1), (0, 100_000), (99_999, 1), (1, 65_536), (50_000, 50_000), (7, 0), (100_000, 0)]
    {
        let range = store.get_range(&name, start, length).await;
        #[expect(clippy::cast_possible_truncation, reason = "both are at most 100000")]
        let expected = body.slice(start as usize..(start + length) as usize);
        assert!(
            range.as_ref().is_ok_and(|bytes| *bytes == expected),
            "{length} bytes from {start}: {range:?}"
        );
    }
    for (start, length) in
        [(0, 100_001), (99_999, 2), (100_000, 1), (200_000, 10), (u64::MAX - 1, 5), (100_001, 0)]
    {
        let range = store.get_range(&name, start, length).await;
        assert!(matches!(range, Err(StoreError::Rejected { .. })), "{length} bytes from {start}: {range:?}");
    }
}

/// A missing object is `NotFound` by every verb that reads.
pub async fn what_is_not_there_is_said_to_be_missing(store: &dyn ObjectStore, scope: Scope) {
    for text in ["missing", "missing/below/folders"] {
        let name = scope.name(text);
        assert!(matches!(store.get(&name).await, Err(StoreError::NotFound { .. })));
        assert!(matches!(store.head(&name).await, Err(StoreError::NotFound { .. })));
        assert!(matches!(store.get_range(&name, 0, 1).await, Err(StoreError::NotFound { .. })));
        assert!(store.list(name.as_str(), None).await.expect("listing").objects.is_empty());
    }
}

/// Parts out of order, side by side, and one of them twice; nothing is seen before the end, all of it after.
pub async fn parts_make_one_object_when_they_are_complete(store: &dyn ObjectStore, scope: Scope) {
    let name = scope.name("parts/whole");
    let (one, two, three) = (pattern(PART_BYTES, 1), pattern(PART_BYTES, 2), pattern(12_345, 3));
    let upload = store.upload(&name).await.expect("beginning an upload");
    upload.part(2, three.clone()).await.expect("the last part first");
    let (first, second) = tokio::join!(upload.part(0, one.clone()), upload.part(1, two.clone()));
    first.and(second).expect("two parts side by side");
    upload.part(1, two.clone()).await.expect("the same part again");
    assert!(
        matches!(store.head(&name).await, Err(StoreError::NotFound { .. })),
        "it was seen before its end"
    );
    upload.complete(3).await.expect("completing");
    upload.complete(3).await.expect("completing again, as after a lost answer");
    let whole = store.get(&name).await.expect("reading it");
    assert!(whole == [one, two.clone(), three].concat(), "the parts came back changed");
    let tail = store.get_range(&name, PART_BYTES as u64 - 1, 2).await.expect("reading across parts");
    assert_eq!(tail[1..], two[..1]);

    let single = scope.name("parts/single");
    let upload = store.upload(&single).await.expect("beginning an upload");
    upload.part(0, Bytes::from_static(b"short")).await.expect("one short part");
    upload.complete(1).await.expect("completing");
    assert_eq!(store.get(&single).await.expect("reading it"), "short");
}

/// The first bytes of a file, however many, replace what was there; the rest of the file is not part of it.
pub async fn a_file_becomes_one_object(store: &dyn ObjectStore, scope: Scope) {
    let name = scope.name("file");
    let mut file = nameless_file(&std::env::temp_dir()).expect("a file without a name can be made");
    let content: Vec<u8> = (0..=250_u8).cycle().take(3 * PART_BYTES + 12_345).collect();
    std::io::Write::write_all(&mut file, &content).expect("writing a file");
    for bytes in [content.len(), PART_BYTES, 1] {
        store.put_file(&name, &file, bytes as u64).await.expect("sending a file");
        assert!(
            store.get(&name).await.expect("reading it") == content[..bytes],
            "{bytes} bytes came back otherwise"
        );
    }
    let beyond = store.put_file(&name, &file, content.len() as u64 + 1).await;
    assert!(beyond.is_err(), "a file was sent with more bytes than it has");
}

/// Neither an upload that was aborted nor one that lacks a part makes an object.
pub async fn an_upload_that_is_given_up_leaves_nothing(store: &dyn ObjectStore, scope: Scope) {
    let name = scope.name("given-up");
    let upload = store.upload(&name).await.expect("beginning an upload");
    upload.part(0, pattern(PART_BYTES, 1)).await.expect("a part");
    upload.complete(2).await.expect_err("part 1 is missing");
    upload.abort().await.expect("giving up");
    upload.abort().await.expect("giving up again");
    drop(upload);
    let dropped = store.upload(&name).await.expect("beginning another");
    drop(dropped);
    assert!(matches!(store.head(&name).await, Err(StoreError::NotFound { .. })));
}

/// A deleted name is gone at once, and deleting it again is no error.
pub async fn deleting_twice_is_no_error(store: &dyn ObjectStore, scope: Scope) {
    let name = scope.name("deleted/deep");
    assert_eq!(store.delete(&name).await.expect("deleting what never was"), Deleted::Gone);
    store.put(&name, Bytes::from_static(b"x")).await.expect("writing");
    for _ in 0..2 {
        assert_eq!(store.delete(&name).await.expect("deleting"), Deleted::Gone);
        assert!(matches!(store.get(&name).await, Err(StoreError::NotFound { .. })));
        assert!(store.list(name.as_str(), None).await.expect("listing").objects.is_empty());
    }
    store.create(&name, Bytes::from_static(b"y")).await.expect("the name is free again");
}

/// More names than any page holds, in the order of their bytes, from any prefix and after any name.
pub async fn listings_are_in_order_and_whole(store: &dyn ObjectStore, scope: Scope) {
    let mut names: Vec<String> = (0..1_050).map(|n| format!("list/many/{n:05}")).collect();
    // The order is that of whole names: a dash and a dot come before a slash, a digit after it.
    names.extend(
        ["a-b", "a.b", "a/b", "a/b-c", "a/b/c", "a0", "a/~", "ab/c", "b"].map(|odd| format!("list/{odd}")),
    );
    let mut names: Vec<String> = names.iter().map(|text| scope.name(text).as_str().to_owned()).collect();
    // A file store cannot hold `a/b` beside `a/b/c`; nor do we ever name objects so.
    names.retain(|name| !name.ends_with("/list/a/b"));
    stream::iter(&names)
        .map(|name| async move {
            let (name, _) = ObjectName::parse(name).expect("it is below probe/");
            store.put(&name, Bytes::from(name.as_str().to_owned())).await
        })
        .buffer_unordered(AT_ONCE)
        .try_collect::<Vec<()>>()
        .await
        .expect("writing many objects");
    names.sort_unstable();

    let base = scope.prefix();
    for prefix in [
        "list/",
        "list",
        "list/many/",
        "list/many/000",
        "list/many/00007",
        "list/a",
        "list/a/",
        "list/a/b",
        "list/ab",
        "list/b",
    ] {
        let prefix = format!("{base}{prefix}");
        let expected: Vec<_> = names.iter().filter(|name| name.starts_with(&prefix)).collect();
        let seen = list_all(store, &prefix, None).await;
        assert!(
            seen.iter().map(|object| &object.name).eq(expected),
            "the listing of {prefix} is wrong: {seen:?}"
        );
        assert!(seen.iter().all(|object| object.bytes == object.name.len() as u64));
    }
    for odd in
        ["list/no such", "list/%", "list/+", "list/ü", "list/a//b", "list/many/0000x", "list/&amp;<>\"'"]
    {
        let seen = list_all(store, &format!("{base}{odd}"), None).await;
        assert!(seen.is_empty(), "{odd}: {seen:?}");
    }
    for after in [
        "list/",
        "list/a",
        "list/a-b",
        "list/a/",
        "list/a/b-c",
        "list/many/00500",
        "list/many/005005",
        "list/zzz",
        "a",
        "z",
    ] {
        let (prefix, after) = (format!("{base}list/"), format!("{base}{after}"));
        let expected = names.iter().filter(|name| **name > after);
        let seen = list_all(store, &prefix, Some(&after)).await;
        assert!(seen.iter().map(|object| &object.name).eq(expected), "after {after}: {seen:?}");
    }
}

/// Every page of a listing.
async fn list_all(store: &dyn ObjectStore, prefix: &str, after: Option<&str>) -> Vec<Listed> {
    let mut seen: Vec<Listed> = Vec::new();
    loop {
        let after = seen.last().map(|object| object.name.as_str()).or(after);
        let page = store.list(prefix, after).await.expect("listing");
        assert!(!page.more || !page.objects.is_empty(), "a page is empty and more is to follow");
        seen.extend(page.objects);
        if !page.more {
            return seen;
        }
    }
}

/// Removes everything of this scope.
pub async fn remove_all(store: &dyn ObjectStore, scope: Scope) {
    let seen = list_all(store, &scope.prefix(), None).await;
    stream::iter(&seen)
        .map(|object| async move {
            let (name, _) = ObjectName::parse(&object.name).expect("it is below probe/");
            store.delete(&name).await
        })
        .buffer_unordered(AT_ONCE)
        .try_collect::<Vec<_>>()
        .await
        .expect("removing what the suite wrote");
    assert!(list_all(store, &scope.prefix(), None).await.is_empty());
}

/// Bytes that differ from place to place and from seed to seed.
fn pattern(bytes: usize, seed: u32) -> Bytes {
    let mut state = seed.wrapping_mul(0x9e37_79b9) | 1;
    let mut body = Vec::with_capacity(bytes + 4);
    while body.len() < bytes {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        body.extend_from_slice(&state.to_le_bytes());
    }
    body.truncate(bytes);
    Bytes::from(body)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;
    use crate::limit::Limit;
    use crate::memory::MemoryStore;
    use crate::record::Record;
    use crate::retry::{Retry, RetryPolicy};

    #[tokio::test]
    async fn memory_keeps_every_promise() {
        let store = MemoryStore::default();
        all(&store, Scope([1; 16])).await;
        assert!(store.contents().is_empty());
    }

    #[derive(Debug)]
    struct Zero;
    impl strongroom_model::Entropy for Zero {
        fn fill(&self, bytes: &mut [u8]) {
            bytes.fill(0);
        }
    }

    #[tokio::test]
    async fn the_wrappers_keep_every_promise_of_what_they_wrap() {
        let record = Record::new(Arc::new(MemoryStore::default()));
        let counts = record.counts();
        let limit = Limit::new(Arc::new(record), 3);
        let policy = RetryPolicy { first_wait: Duration::from_millis(1), ..RetryPolicy::default() };
        all(&Retry::new(Arc::new(limit), policy, Arc::new(Zero)), Scope([2; 16])).await;
        assert!(counts.all_requests() > 2_000 && counts.sent_bytes() > 30_000_000);
    }
}
