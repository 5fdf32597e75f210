//! The independent reader, written from docs/format.md alone, restores what we wrote.

use std::path::Path;
use std::process::{Command, Output};

use strongroom_repository::keys::{KeyFile, Unlock};

use crate::golden::Golden;
use crate::world;

/// Runs the reader; nothing, said loudly, where there is no Python for it.
pub(crate) fn reader(arguments: &[&str]) -> Option<Output> {
    let output = Command::new(world::tests_folder().join("reader/run")).args(arguments).output().unwrap();
    if output.status.code() == Some(75) {
        assert!(
            std::env::var_os("STRONGROOM_TEST_READER_REQUIRED").is_none(),
            "the independent reader cannot run here: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        eprintln!("SKIPPED: no Python with the wheels of tests/reader/requirements.txt");
        return None;
    }
    Some(output)
}

fn restored(repository: &Path, key: &str, point: &str, more: &[&str]) -> Option<Vec<u8>> {
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("image");
    let mut arguments = vec!["restore", repository.to_str().unwrap(), key, point, target.to_str().unwrap()];
    arguments.extend(more);
    let output = reader(&arguments)?;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Some(std::fs::read(target).unwrap())
}

#[test]
fn it_understands_every_test_vector() {
    let vectors = world::tests_folder().join("vectors/v1.json");
    let Some(output) = reader(&["vectors", vectors.to_str().unwrap()]) else { return };
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn it_understands_every_vector_of_deltas() {
    let vectors = world::tests_folder().join("../crates/repository/tests/vectors/format-1-deltas.json");
    let Some(output) = reader(&["vectors", vectors.to_str().unwrap()]) else { return };
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn it_reads_sealed_packs_every_domain_of_a_shared_repository_and_logs() {
    for name in ["v1-sealed.json", "v1-domains.json", "v1-logs.json", "v1-tests.json"] {
        let vectors = world::tests_folder().join("vectors").join(name);
        let Some(output) = reader(&["vectors", vectors.to_str().unwrap()]) else { return };
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}

#[test]
fn it_restores_every_point_of_the_golden_repository() {
    let golden = Golden::copied();
    let (folder, key) = (golden.repository(), golden.file("key"));
    let passphrase = format!("passphrase:{}", golden.file("passphrase").display());
    for (point, expected) in &golden.expected {
        for (key, more) in [
            (key.to_str().unwrap(), &["--from-checkpoint"][..]),
            (key.to_str().unwrap(), &[]),
            (&passphrase, &[]),
        ] {
            let Some(image) = restored(&folder, key, point, more) else { return };
            assert_eq!(blake3::hash(&image).to_hex().as_str(), expected.blake3, "{point}");
        }
    }
    let output = reader(&["points", folder.to_str().unwrap(), key.to_str().unwrap()]).unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout).lines().count(), golden.expected.len());
    assert!(reader(&["scrub", folder.to_str().unwrap()]).unwrap().status.success());
}

#[tokio::test]
async fn it_restores_what_is_written_today_and_refuses_what_is_damaged() {
    let (folder, world) = (tempfile::tempdir().unwrap(), world::world(7));
    let key = KeyFile::generate(&*world.entropy);
    let keys = tempfile::tempdir().unwrap();
    let key_path = keys.path().join("key");
    key.write_new(&key_path).unwrap();
    let repository = world::init(folder.path(), &world, &[Unlock::KeyFile(key)]).await;
    let image = world::image(7, 1_000_001);
    let point = world::back_up(&repository, &world, "db", &image).await;
    let (point, key) = (point.to_string(), key_path.to_str().unwrap());
    let Some(read) = restored(folder.path(), key, &point, &[]) else { return };
    assert!(read == image, "the independent reader read other bytes");

    let pack = world::objects(folder.path()).into_iter().find(|name| name.starts_with("packs/")).unwrap();
    let mut bytes = std::fs::read(folder.path().join(&pack)).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(folder.path().join(&pack), bytes).unwrap();
    let target = keys.path().join("image");
    let damaged =
        reader(&["restore", folder.path().to_str().unwrap(), key, &point, target.to_str().unwrap()]).unwrap();
    assert!(!damaged.status.success());
    assert!(String::from_utf8_lossy(&damaged.stderr).contains(&pack), "the damaged pack is not named");
}

#[tokio::test]
async fn it_restores_from_a_copy_what_the_copy_holds_and_nothing_that_is_only_on_its_way() {
    let (folder, second, keys) =
        (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let world = world::world(8);
    let key = KeyFile::generate(&*world.entropy);
    let key_path = keys.path().join("key");
    key.write_new(&key_path).unwrap();
    let repository = world::init(folder.path(), &world, &[Unlock::KeyFile(key)]).await;
    let image = world::image(8, 500_001);
    let point = world::back_up(&repository, &world, "db", &image).await;
    let copy = world::store(second.path());
    repository.copy_to(&copy, Some(world::abilities()), None, &|_, _| {}).await.unwrap();
    let key = key_path.to_str().unwrap();
    let Some(read) = restored(second.path(), key, &point.to_string(), &[]) else { return };
    assert!(read == image, "the independent reader read other bytes");
    // A copying that was killed has left records beyond what the head names.
    world::back_up(&repository, &world, "db", &world::image(9, 500_001)).await;
    for name in world::objects(folder.path()).iter().filter(|name| name.starts_with("journal/0")) {
        std::fs::copy(folder.path().join(name), second.path().join(name)).unwrap();
    }
    let output = reader(&["points", second.path().to_str().unwrap(), key]).unwrap();
    let listed = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(listed.lines().count(), 1, "{listed}");
}
