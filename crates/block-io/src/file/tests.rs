use std::os::unix::fs::MetadataExt as _;

use super::*;

fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|at| u8::try_from(at % 251).unwrap() | 1).collect()
}

#[test]
fn direct_and_cached_reads_give_the_same_bytes_at_any_offset() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("image");
    let bytes = 3 * 1024 * 1024 + 8192;
    let target = FileTarget::create(&path, bytes).unwrap();
    let content = pattern(usize::try_from(bytes).unwrap());
    target.write_at(0, &content).unwrap();
    target.sync().unwrap();

    let direct = FileSource::open(&path, Caching::Direct).unwrap();
    for (offset, length) in [(0, 4096), (1, 1), (4095, 2), (8192, 65_536), (123, 2_500_000), (bytes - 1, 1)] {
        let mut got = vec![0; length];
        direct.read_at(offset, &mut got).unwrap();
        let start = usize::try_from(offset).unwrap();
        assert!(got == content[start..start + length], "{length} bytes at {offset}");
    }
    assert!(direct.read_at(bytes - 1, &mut [0; 2]).is_err());
}

#[test]
fn a_new_image_takes_no_space_and_zeroing_gives_space_back() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("image");
    let target = FileTarget::create(&path, 1 << 40).unwrap();
    assert_eq!(target.allocated().count(), 0);

    target.write_at(1 << 30, &pattern(1 << 20)).unwrap();
    target.sync().unwrap();
    let before = path.metadata().unwrap().blocks();
    target.zero(ByteRange::at((1 << 30) + 100, (1 << 20) - 200).unwrap()).unwrap();
    target.sync().unwrap();
    assert!(path.metadata().unwrap().blocks() < before / 10);

    let mut got = vec![9; 1 << 20];
    target.read_at(1 << 30, &mut got).unwrap();
    assert!(got[..100] == pattern(1 << 20)[..100]);
    assert!(got[100..(1 << 20) - 100].iter().all(|byte| *byte == 0));
    assert!(got[(1 << 20) - 100..] == pattern(1 << 20)[(1 << 20) - 100..]);
}

#[test]
fn an_existing_file_is_never_made_anew() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("image");
    FileTarget::create(&path, 4096).unwrap();
    assert!(FileTarget::create(&path, 4096).is_err());
    assert_eq!(path.metadata().unwrap().mode() & 0o777, 0o600);
}

#[test]
fn a_folder_is_neither_file_nor_device() {
    let folder = tempfile::tempdir().unwrap();
    let refused = FileSource::open(folder.path(), Caching::Cached).unwrap_err();
    assert!(matches!(refused, BlockIoError::NotBlocks { .. }), "{refused:?}");
}
