//! Content of volumes that can be told apart afterwards.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A generator that gives the same bytes for the same seed (xorshift64*): enough to be incompressible and repeatable.
#[derive(Debug, Clone)]
pub(crate) struct Noise(u64);

impl Noise {
    pub(crate) const fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    pub(crate) fn bytes(&mut self, count: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(count + 8);
        while bytes.len() < count {
            bytes.extend_from_slice(&self.next().to_le_bytes());
        }
        bytes.truncate(count);
        bytes
    }
}

/// Writes a sparse image file: incompressible data in some of its blocks of 64 KiB, holes elsewhere.
pub(crate) fn write_image(path: &Path, bytes: u64, data_bytes: u64, seed: u64) {
    write_blocks(path, bytes, data_bytes, seed, 65_536);
}

/// The same with data of which seven eighths compress away, so that much of it fits on the disk of a test machine.
pub(crate) fn write_compressible_image(path: &Path, bytes: u64, data_bytes: u64, seed: u64) {
    write_blocks(path, bytes, data_bytes, seed, 8_192);
}

fn write_blocks(path: &Path, bytes: u64, data_bytes: u64, seed: u64, noise_bytes: usize) {
    const BLOCK: u64 = 65_536;
    let file = File::create(path).expect("the image can be made");
    file.set_len(bytes).expect("the image can be sized");
    let mut noise = Noise::new(seed);
    let blocks = bytes / BLOCK;
    let wanted = data_bytes / BLOCK;
    for number in 0..wanted {
        let block = number * blocks / wanted.max(1);
        let mut content = noise.bytes(noise_bytes);
        content.resize(65_536, 1);
        file.write_all_at(&content, block * BLOCK).expect("the image can be written");
    }
}

/// Overwrites `count` random blocks of 4 KiB.
pub(crate) fn change_blocks(path: &Path, count: u64, seed: u64) {
    let file = OpenOptions::new().write(true).open(path).expect("the file can be opened");
    let blocks = file.metadata().expect("the file is there").len() / 4096;
    let mut noise = Noise::new(seed);
    for _ in 0..count {
        let block = noise.below(blocks);
        file.write_all_at(&noise.bytes(4096), block * 4096).expect("the file can be written");
    }
}

/// Fills a directory with files of noise.
pub(crate) fn write_files(directory: &Path, files: u64, bytes_each: usize, seed: u64) {
    let mut noise = Noise::new(seed);
    for number in 0..files {
        let folder = directory.join(format!("folder-{}", number % 7));
        fs::create_dir_all(&folder).expect("a folder can be made");
        fs::write(folder.join(format!("file-{number}")), noise.bytes(bytes_each))
            .expect("a file can be written");
    }
}

/// The checksum of every file below a directory, by its relative path. `lost+found` of ext4 is not ours.
pub(crate) fn checksums(directory: &Path) -> BTreeMap<PathBuf, String> {
    let output = Command::new("find")
        .args([".", "-path", "./lost+found", "-prune", "-o", "-type", "f", "-print0"])
        .current_dir(directory)
        .output()
        .expect("find runs");
    let mut sums = BTreeMap::new();
    for name in output.stdout.split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        let name = PathBuf::from(String::from_utf8_lossy(name).into_owned());
        let content = fs::read(directory.join(&name)).expect("a file can be read");
        sums.insert(name, blake3::hash(&content).to_hex().to_string());
    }
    sums
}

/// Both files hold the same bytes. Only what is data in one of them is read: images are sparse and large.
#[track_caller]
pub(crate) fn assert_same(one: &Path, other: &Path) {
    let files = [one, other].map(|path| File::open(path).expect("the file can be opened"));
    let lengths = [&files[0], &files[1]].map(|file| file.metadata().expect("it is open").len());
    assert_eq!(lengths[0], lengths[1], "{} and {} differ in length", one.display(), other.display());
    for file in &files {
        for (start, end) in data_ranges(file, lengths[0]) {
            let mut at = start;
            while at < end {
                let count = usize::try_from((end - at).min(1 << 20)).expect("at most 1 MiB");
                let [left, right] = [&files[0], &files[1]].map(|file| {
                    let mut bytes = vec![0; count];
                    file.read_exact_at(&mut bytes, at).expect("the file can be read");
                    bytes
                });
                if let Some(offset) = left.iter().zip(&right).position(|(left, right)| left != right) {
                    panic!("{} and {} differ at byte {}", one.display(), other.display(), at + offset as u64);
                }
                at += count as u64;
            }
        }
    }
}

/// Where a file has data, as its filesystem tells.
fn data_ranges(file: &File, length: u64) -> Vec<(u64, u64)> {
    let mut ranges = Vec::new();
    let mut at = 0;
    while let Ok(start) = rustix::fs::seek(file, rustix::fs::SeekFrom::Data(at)) {
        let end = rustix::fs::seek(file, rustix::fs::SeekFrom::Hole(start)).unwrap_or(length);
        ranges.push((start, end));
        at = end;
    }
    ranges
}

/// How many bytes of a file are allocated on disk.
pub(crate) fn allocated_bytes(path: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt as _;
    fs::metadata(path).expect("the file is there").blocks() * 512
}
