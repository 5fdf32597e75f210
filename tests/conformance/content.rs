//! What is in a volume: written through the place where a workload sees it, and hashed through the same.

use std::fs::{self, File};
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::Path;

use crate::requests::{Kind, MIB};

/// A fingerprint of all that a volume holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Content {
    hash: blake3::Hash,
    /// How many files, or blocks that are not zero, it covers. An empty volume has none.
    pieces: usize,
}

impl Content {
    /// Nothing was ever written there.
    pub(crate) const fn is_empty(&self) -> bool {
        self.pieces == 0
    }
}

/// Bytes that look random and depend on `seed` alone.
pub(crate) fn bytes(seed: u64, count: usize) -> Vec<u8> {
    let mut all = vec![0; count];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut all);
    all
}

/// Writes files, or blocks, and makes them durable.
pub(crate) fn fill(target: &Path, kind: Kind, seed: u64) {
    match kind {
        Kind::Block => {
            let device = File::options().write(true).open(target).unwrap();
            for piece in 0..24 {
                let content = bytes(seed * 1000 + piece, 64 << 10);
                device.write_all_at(&content, (piece * 5 + seed % 5) * (256 << 10)).unwrap();
            }
            device.sync_all().unwrap();
        }
        _ => {
            for number in 0..24 {
                let folder = target.join(format!("folder {}", number % 5));
                fs::create_dir_all(&folder).unwrap();
                let mut file = File::create(folder.join(format!("file-{seed}-{number}"))).unwrap();
                let size = usize::try_from(number * number * 997).unwrap();
                file.write_all(&bytes(seed * 1000 + number, size)).unwrap();
                file.sync_all().unwrap();
            }
            let link = target.join(format!("link-{seed}"));
            std::os::unix::fs::symlink("folder 1", link).unwrap();
            File::open(target).unwrap().sync_all().unwrap();
        }
    }
}

/// Reads everything.
pub(crate) fn read(target: &Path, kind: Kind) -> Content {
    read_bytes(target, kind, u64::MAX)
}

/// The same of the first bytes of a raw volume: a larger one begins like its source.
pub(crate) fn read_bytes(target: &Path, kind: Kind, most: u64) -> Content {
    let mut hasher = blake3::Hasher::new();
    let mut pieces = 0;
    match kind {
        Kind::Block => {
            let mut device = File::open(target).unwrap();
            let end = device.seek(SeekFrom::End(0)).unwrap().min(most);
            device.seek(SeekFrom::Start(0)).unwrap();
            let mut device = device.take(end);
            let mut block = vec![0; usize::try_from(MIB).unwrap()];
            loop {
                let read = device.read(&mut block).unwrap();
                if read == 0 {
                    break;
                }
                pieces += usize::from(block[..read].iter().any(|byte| *byte != 0));
                hasher.update(&block[..read]);
            }
        }
        _ => walk(target, target, &mut hasher, &mut pieces),
    }
    Content { hash: hasher.finalize(), pieces }
}

fn walk(root: &Path, folder: &Path, hasher: &mut blake3::Hasher, pieces: &mut usize) {
    let mut entries: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    entries.sort();
    for path in entries.into_iter().filter(|path| !path.ends_with("lost+found")) {
        let meta = fs::symlink_metadata(&path).unwrap();
        hasher.update(path.strip_prefix(root).unwrap().as_os_str().as_encoded_bytes());
        hasher.update(&meta.mode().to_le_bytes());
        *pieces += 1;
        if meta.is_dir() {
            walk(root, &path, hasher, pieces);
        } else if meta.is_symlink() {
            hasher.update(fs::read_link(&path).unwrap().as_os_str().as_encoded_bytes());
        } else {
            hasher.update(&meta.len().to_le_bytes());
            hasher.update(&fs::read(&path).unwrap());
        }
    }
}

#[test]
fn an_empty_volume_is_not_taken_for_a_full_one() {
    let folder = tempfile::tempdir().unwrap();
    let (full, empty) = (folder.path().join("full"), folder.path().join("empty"));
    fs::create_dir(&full).unwrap();
    fs::create_dir(&empty).unwrap();
    fs::create_dir(empty.join("lost+found")).unwrap();
    fill(&full, Kind::Ext4, 1);
    assert!(read(&empty, Kind::Ext4).is_empty() && !read(&full, Kind::Ext4).is_empty());
    assert_ne!(read(&empty, Kind::Ext4), read(&full, Kind::Ext4));
    let (disk, blank) = (folder.path().join("disk"), folder.path().join("blank"));
    File::create(&disk).unwrap().set_len(64 * MIB).unwrap();
    File::create(&blank).unwrap().set_len(64 * MIB).unwrap();
    fill(&disk, Kind::Block, 1);
    assert!(read(&blank, Kind::Block).is_empty() && !read(&disk, Kind::Block).is_empty());
    assert_ne!(read(&disk, Kind::Block), read(&blank, Kind::Block));
}
