//! Filesystems that somebody damaged, or made to do harm: readers end, and fail at worst.
#![expect(clippy::unwrap_used, reason = "this file is a test")]

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use strongroom_files::disk::Disk;
use strongroom_files::filesystem;
use strongroom_files::tree::{Kind, Piece, Tree};
use strongroom_files::walk::{self, Found, Step};

/// A file some bytes of which are others.
#[derive(Debug)]
struct Altered {
    file: Arc<File>,
    bytes: u64,
    changes: BTreeMap<u64, u8>,
}

impl Disk for Altered {
    fn bytes(&self) -> u64 {
        self.bytes
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let end = offset.checked_add(buffer.len() as u64).filter(|end| *end <= self.bytes);
        let end = end.ok_or(io::ErrorKind::UnexpectedEof)?;
        self.file.read_exact_at(buffer, offset)?;
        for (at, byte) in self.changes.range(offset..end) {
            buffer[usize::try_from(at - offset).unwrap()] = *byte;
        }
        Ok(())
    }
}

struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}

fn runs(program: &str, words: &[&str]) -> bool {
    let status = Command::new(program)
        .args(words)
        .env("PATH", format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default()))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    status.is_ok_and(|status| status.success())
}

fn populate(folder: &Path) {
    for number in 0..400 {
        let path = folder.join(format!("many/file-with-a-rather-long-name-{number:04}"));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, vec![b'x'; number * 20]).unwrap();
    }
    fs::create_dir_all(folder.join("a/b/c/d")).unwrap();
    fs::write(folder.join("a/b/c/d/large"), vec![7; 700_000]).unwrap();
    std::os::unix::fs::symlink("../b/c", folder.join("a/link")).unwrap();
    std::os::unix::fs::symlink("y".repeat(300), folder.join("a/long")).unwrap();
    let sparse = File::create(folder.join("sparse")).unwrap();
    for piece in 0..40 {
        sparse.write_all_at(b"piece", piece * 100_000).unwrap();
    }
}

/// An image that `mkfs` made of a folder, without root; `None` where it cannot.
fn image(fs: &str, at: &Path) -> Option<File> {
    let folder = at.join("content");
    fs::create_dir_all(&folder).unwrap();
    populate(&folder);
    let image = at.join("image");
    let (image_text, folder_text) = (image.to_str().unwrap(), folder.to_str().unwrap());
    let bytes = if fs == "xfs" { 320 << 20 } else { 24 << 20 };
    File::create(&image).unwrap().set_len(bytes).unwrap();
    let made = match fs {
        "xfs" => {
            runs("mkfs.xfs", &["-q", "-p", folder_text, image_text]) || {
                // Older versions take a list instead of a folder.
                let list = at.join("list");
                fs::write(&list, proto(&folder)).unwrap();
                runs("mkfs.xfs", &["-q", "-f", "-p", list.to_str().unwrap(), image_text])
            }
        }
        "ext2" => runs("mkfs.ext2", &["-q", "-F", "-d", folder_text, image_text]),
        _ => {
            runs("mkfs.ext4", &["-q", "-F", "-O", "inline_data", "-I", "256", "-d", folder_text, image_text])
        }
    };
    if !made {
        println!("SKIPPED: mkfs.{fs} cannot make an image of a folder here");
        return None;
    }
    Some(File::open(&image).unwrap())
}

fn proto(folder: &Path) -> String {
    fn below(folder: &Path, text: &mut String) {
        let mut entries: Vec<_> = fs::read_dir(folder).unwrap().flatten().collect();
        entries.sort_by_key(fs::DirEntry::file_name);
        for entry in entries {
            let (name, path) = (entry.file_name().into_string().unwrap(), entry.path());
            let kind = entry.file_type().unwrap();
            if kind.is_dir() {
                *text += &format!("{name} d--755 0 0\n");
                below(&path, text);
                *text += "$\n";
            } else if kind.is_symlink() {
                *text += &format!("{name} l--777 0 0 {}\n", fs::read_link(&path).unwrap().display());
            } else {
                *text += &format!("{name} ---644 0 0 {}\n", path.display());
            }
        }
    }
    let mut text = "/stand/diskboot\n0 0\nd--755 0 0\n".to_owned();
    below(folder, &mut text);
    text + "$\n"
}

/// Reads all of a tree, in bounds. How many nodes and bytes there were, and how many errors.
fn read_all(tree: &dyn Tree) -> (u64, u64, u64) {
    let (mut nodes, mut bytes, mut errors) = (0, 0, 0);
    let Ok(start) = walk::find(tree, b"/", false) else { return (0, 0, 1) };
    walk::below(tree, &start, true, &mut |step| {
        match step {
            Step::Node(found) => {
                nodes += 1;
                match read_one(tree, &found) {
                    Ok(read) => bytes = u64::saturating_add(bytes, read),
                    Err(()) => errors += 1,
                }
            }
            Step::Unreadable { .. } => errors += 1,
        }
        nodes < 5000
    });
    (nodes, bytes, errors)
}

fn read_one(tree: &dyn Tree, found: &Found) -> Result<u64, ()> {
    let node = &found.node;
    tree.attributes(node).map_err(drop)?;
    if node.kind == Kind::Link {
        return tree.target(node).map(|target| target.len() as u64).map_err(drop);
    }
    if node.kind != Kind::File {
        return Ok(0);
    }
    let (mut at, mut pieces, mut buffer) = (0, 0, vec![0; 64 << 10]);
    // A hostile file may claim to be larger than anything: as far as a copy would be let go on.
    while at < node.bytes && pieces < 200 {
        let step = match tree.piece(node, at).map_err(drop)? {
            Piece::Data { at: disk, bytes } => {
                let step = bytes.min(node.bytes - at).min(buffer.len() as u64);
                let part = &mut buffer[..usize::try_from(step).unwrap()];
                tree.read_at(disk, part).map_err(drop)?;
                step
            }
            Piece::Hole { bytes } => bytes,
            Piece::Inline(bytes) => bytes.len() as u64,
        };
        assert!(step > 0, "a piece that is empty would never end");
        at = at.saturating_add(step);
        pieces += 1;
    }
    Ok(node.bytes)
}

fn damaged_images_end(fs: &str, rounds: u64) {
    let place = tempfile::tempdir().unwrap();
    let Some(file) = image(fs, place.path()) else { return };
    let file = Arc::new(file);
    let bytes = file.metadata().unwrap().len();
    let whole = Altered { file: Arc::clone(&file), bytes, changes: BTreeMap::new() };
    let (nodes, content, errors) = read_all(&*filesystem::open(Arc::new(whole)).unwrap());
    assert!(nodes > 400 && content > 2_000_000 && errors == 0, "{nodes} {content} {errors}");

    // Blocks in which something is, and not only content: there a change says something to a reader.
    let mut block = vec![0; 512];
    let told: Vec<u64> = (0..bytes / 512)
        .filter(|number| {
            file.read_exact_at(&mut block, number * 512).unwrap();
            let first = block[0];
            block.iter().any(|byte| *byte != first)
        })
        .collect();
    let mut failed = 0;
    for seed in 1..=rounds {
        let mut dice = Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let mut changes = BTreeMap::new();
        for _ in 0..=dice.below(40) {
            let sector = told[usize::try_from(dice.below(told.len() as u64)).unwrap()];
            let at = sector * 512 + dice.below(512);
            let byte = match dice.below(4) {
                0 => 0xff,
                1 => 0,
                2 => 0x80,
                _ => u8::try_from(dice.below(256)).unwrap(),
            };
            // Neighbours together now and then: lengths and numbers have more than one byte.
            for next in 0..=dice.below(8) {
                changes.insert((at + next).min(bytes - 1), byte);
            }
        }
        let disk: Arc<dyn Disk> = Arc::new(Altered { file: Arc::clone(&file), bytes, changes });
        match filesystem::open(disk) {
            Ok(tree) => failed += u64::from(read_all(&*tree).2 > 0),
            Err(_) => failed += 1,
        }
    }
    println!("{failed} of {rounds} damaged {fs} images had something that could not be read");
    assert!(failed > 0, "the changes change something");
}

#[test]
fn a_damaged_ext4_is_read_to_an_end_without_a_panic() {
    damaged_images_end("ext4", 300);
}

#[test]
fn a_damaged_ext2_is_read_to_an_end_without_a_panic() {
    damaged_images_end("ext2", 200);
}

#[test]
fn a_damaged_xfs_is_read_to_an_end_without_a_panic() {
    damaged_images_end("xfs", 300);
}
