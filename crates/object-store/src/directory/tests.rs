//! What the folder store promises beyond the suite: where it writes, with which modes, and what stands in its way.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::time::{Duration, SystemTime};

use proptest::strategy::Strategy;
use strongroom_repository::store::PART_BYTES;

use super::*;
use crate::conformance::{self, Scope};

fn folder() -> (tempfile::TempDir, DirectoryStore) {
    let folder = tempfile::tempdir().unwrap();
    let store = DirectoryStore::new(folder.path());
    (folder, store)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_folder_keeps_every_promise() {
    let (folder, store) = folder();
    conformance::all(&store, Scope([3; 16])).await;
    assert!(
        fs::read_dir(folder.path().join(".incoming")).unwrap().next().is_none(),
        "temporary files stayed"
    );
    conformance::all(&DirectoryStore::new(folder.path()).with_page(7), Scope([4; 16])).await;
}

#[tokio::test]
async fn files_and_folders_are_for_their_owner_alone() {
    let (folder, store) = folder();
    store.put(&ObjectName::journal(1), Bytes::from_static(b"x")).await.unwrap();
    let mode = |path: &str| fs::metadata(folder.path().join(path)).unwrap().permissions().mode() & 0o7777;
    assert_eq!(mode("journal"), 0o700);
    assert_eq!(mode(".incoming"), 0o700);
    assert_eq!(mode("journal/00000000000000000001"), 0o600);
}

#[tokio::test]
async fn no_link_is_followed_out_of_the_root() {
    let (folder, store) = folder();
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("00000000000000000001"), "secret").unwrap();
    symlink(outside.path(), folder.path().join("journal")).unwrap();
    let name = ObjectName::journal(1);
    assert!(matches!(store.get(&name).await, Err(StoreError::Refused { .. })));
    assert!(matches!(store.put(&name, Bytes::new()).await, Err(StoreError::Refused { .. })));
    assert!(matches!(
        store.create(&ObjectName::journal(2), Bytes::new()).await,
        Err(StoreError::Refused { .. })
    ));
    assert!(matches!(store.delete(&name).await, Err(StoreError::Refused { .. })));
    assert!(store.list("", None).await.unwrap().objects.is_empty());
    // A link in the place of a file is neither read nor written through; a write replaces it.
    symlink(outside.path().join("00000000000000000001"), folder.path().join("strongroom.json")).unwrap();
    assert!(matches!(store.get(&ObjectName::head()).await, Err(StoreError::Refused { .. })));
    store.put(&ObjectName::head(), Bytes::from_static(b"ours")).await.unwrap();
    assert_eq!(store.get(&ObjectName::head()).await.unwrap(), "ours");
    assert_eq!(fs::read_to_string(outside.path().join("00000000000000000001")).unwrap(), "secret");
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 1);
}

#[tokio::test]
async fn a_missing_folder_is_named_and_never_made_by_a_write() {
    let (folder, _) = folder();
    let path = folder.path().join("not-mounted");
    let store = DirectoryStore::new(&path);
    assert!(matches!(store.get(&ObjectName::head()).await, Err(StoreError::NoSuchPlace { .. })));
    assert!(matches!(
        store.put(&ObjectName::head(), Bytes::new()).await,
        Err(StoreError::NoSuchPlace { .. })
    ));
    assert!(matches!(store.list("", None).await, Err(StoreError::NoSuchPlace { .. })));
    assert!(matches!(store.upload(&ObjectName::head()).await, Err(StoreError::NoSuchPlace { .. })));
    assert!(!path.exists());
    make(&path).unwrap();
    store.put(&ObjectName::head(), Bytes::new()).await.unwrap();
    // And when it goes away under an open store, that is said, too.
    fs::remove_dir_all(&path).unwrap();
    assert!(matches!(store.get(&ObjectName::head()).await, Err(StoreError::NoSuchPlace { .. })));
}

#[tokio::test]
async fn what_dead_processes_left_is_swept_and_what_lives_is_not() {
    let (folder, store) = folder();
    let incoming = folder.path().join(".incoming");
    fs::create_dir(&incoming).unwrap();
    let upload = DirectoryStore::new(folder.path()).upload(&ObjectName::journal(9)).await.unwrap();
    upload.part(0, Bytes::from_static(b"alive")).await.unwrap();
    for (name, age) in [("1-0", 7_200), ("1-1", 60)] {
        let file = File::create(incoming.join(name)).unwrap();
        file.set_modified(SystemTime::now() - Duration::from_secs(age)).unwrap();
    }
    for live in fs::read_dir(&incoming).unwrap().map(|entry| entry.unwrap().path()) {
        if !live.ends_with("1-0") && !live.ends_with("1-1") {
            let file = File::options().write(true).open(live).unwrap();
            file.set_modified(SystemTime::now() - Duration::from_secs(7_200)).unwrap();
        }
    }
    store.put(&ObjectName::head(), Bytes::new()).await.unwrap();
    assert!(!incoming.join("1-0").exists(), "the stale one stayed");
    assert!(incoming.join("1-1").exists(), "the young one went");
    upload.complete(1).await.unwrap();
    assert_eq!(store.get(&ObjectName::journal(9)).await.unwrap(), "alive");
}

#[tokio::test]
async fn a_dropped_upload_frees_its_bytes() {
    let (folder, store) = folder();
    let upload = store.upload(&ObjectName::head()).await.unwrap();
    upload.part(0, Bytes::from(vec![1; PART_BYTES])).await.unwrap();
    assert_eq!(fs::read_dir(folder.path().join(".incoming")).unwrap().count(), 1);
    drop(upload);
    assert_eq!(fs::read_dir(folder.path().join(".incoming")).unwrap().count(), 0);
}

#[tokio::test]
async fn foreign_files_are_listed_as_what_they_are_and_hidden_ones_are_not() {
    let (folder, store) = folder();
    store.put(&ObjectName::head(), Bytes::from_static(b"{}")).await.unwrap();
    fs::write(folder.path().join("README"), "ours? no").unwrap();
    fs::write(folder.path().join(".hidden"), "").unwrap();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        folder.path().join("pipe"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RWXU,
        0,
    )
    .unwrap();
    let page = store.list("", None).await.unwrap();
    let names: Vec<_> = page.objects.iter().map(|object| object.name.as_str()).collect();
    assert_eq!(names, ["README", "strongroom.json"]);
}

/// A small filesystem in memory, taken away again however the test ends.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn mount() -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let flags = rustix::mount::MountFlags::NODEV | rustix::mount::MountFlags::NOSUID;
        match rustix::mount::mount("tmpfs", folder.path(), "tmpfs", flags, c"size=256k,mode=700") {
            Ok(()) => Some(Self(folder)),
            Err(errno) => {
                eprintln!("SKIPPED: a small filesystem cannot be mounted here ({errno}); run as root");
                None
            }
        }
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = rustix::mount::unmount(self.0.path(), rustix::mount::UnmountFlags::DETACH);
    }
}

#[tokio::test]
async fn a_full_disk_is_named_and_loses_nothing() {
    let Some(disk) = SmallDisk::mount() else { return };
    let store = DirectoryStore::new(disk.0.path());
    store.put(&ObjectName::head(), Bytes::from_static(b"kept")).await.unwrap();
    let big = Bytes::from(vec![1; 1 << 20]);
    assert!(matches!(store.put(&ObjectName::head(), big.clone()).await, Err(StoreError::Full { .. })));
    assert!(matches!(store.create(&ObjectName::journal(1), big.clone()).await, Err(StoreError::Full { .. })));
    let upload = store.upload(&ObjectName::journal(2)).await.unwrap();
    assert!(matches!(upload.part(0, big).await, Err(StoreError::Full { .. })));
    drop(upload);
    assert_eq!(store.get(&ObjectName::head()).await.unwrap(), "kept");
    assert_eq!(store.list("", None).await.unwrap().objects.len(), 1);
    // What failed freed its space again.
    store.put(&ObjectName::journal(3), Bytes::from(vec![2; 128 << 10])).await.unwrap();
}

#[tokio::test]
async fn a_read_only_disk_is_read_and_refuses_the_rest() {
    let Some(disk) = SmallDisk::mount() else { return };
    let store = DirectoryStore::new(disk.0.path());
    store.put(&ObjectName::head(), Bytes::from_static(b"kept")).await.unwrap();
    rustix::mount::mount_remount(disk.0.path(), rustix::mount::MountFlags::RDONLY, "").unwrap();
    assert_eq!(store.get(&ObjectName::head()).await.unwrap(), "kept");
    assert!(matches!(store.put(&ObjectName::head(), Bytes::new()).await, Err(StoreError::Refused { .. })));
    assert!(matches!(
        store.create(&ObjectName::journal(1), Bytes::new()).await,
        Err(StoreError::Refused { .. })
    ));
    assert!(matches!(store.upload(&ObjectName::journal(1)).await, Err(StoreError::Refused { .. })));
    assert!(matches!(store.delete(&ObjectName::head()).await, Err(StoreError::Refused { .. })));
}

/// Names of few letters, so that prefixes, folders and neighbours in the order meet often.
fn names() -> impl Strategy<Value = Vec<String>> {
    proptest::collection::vec("[ab.-]{1,2}(/[ab0-]{1,2}){0,2}", 0..25).prop_map(|texts| {
        let id = "0".repeat(32);
        let mut names: Vec<String> = texts
            .iter()
            .filter(|text| !text.split('/').any(|step| step.starts_with('.')))
            .map(|text| format!("probe/{id}/{text}"))
            .collect();
        names.sort_unstable();
        names.dedup();
        // A name cannot be a folder as well.
        let folders: Vec<String> = names.iter().map(|name| format!("{name}/")).collect();
        names.retain(|name| !folders.iter().any(|folder| name.starts_with(folder.as_str())));
        names
    })
}

proptest::proptest! {
    #![proptest_config(proptest::test_runner::Config::with_cases(64))]

    #[test]
    fn a_folder_lists_like_a_sorted_map(names in names(), prefix in "[ab/-]{0,3}", after in "[ab./-]{0,4}", page in 1usize..6) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let (folder, memory) = (tempfile::tempdir().unwrap(), crate::memory::MemoryStore::default());
            let store = DirectoryStore::new(folder.path()).with_page(page);
            for name in &names {
                let (name, _) = ObjectName::parse(name).unwrap();
                store.put(&name, Bytes::new()).await.unwrap();
                memory.put(&name, Bytes::new()).await.unwrap();
            }
            let base = format!("probe/{}/", "0".repeat(32));
            let (prefix, mut after) = (format!("{base}{prefix}"), Some(format!("{base}{after}")));
            let expected = memory.list(&prefix, after.as_deref()).await.unwrap().objects;
            let mut seen = Vec::new();
            loop {
                let one = store.list(&prefix, after.as_deref()).await.unwrap();
                assert!(one.objects.len() <= page && (!one.more || one.objects.len() == page));
                after = one.objects.last().map(|object| object.name.clone());
                seen.extend(one.objects);
                if !one.more {
                    break;
                }
            }
            let of = |objects: Vec<strongroom_repository::store::Listed>| -> Vec<String> {
                objects.into_iter().map(|object| object.name).collect()
            };
            assert_eq!(of(seen), of(expected));
        });
    }
}
