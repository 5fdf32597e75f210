use std::fs;
use std::os::unix::fs::symlink;

use strongroom_model::Failure as _;

use super::*;

struct Ground {
    folder: tempfile::TempDir,
    roots: MountRoots,
}

impl Ground {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join("root/pods")).unwrap();
        fs::create_dir(folder.path().join("outside")).unwrap();
        let roots = MountRoots::new(vec![folder.path().join("root")]);
        Self { folder, roots }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn outside_is_empty(&self) -> bool {
        fs::read_dir(self.path("outside")).unwrap().next().is_none()
    }
}

#[test]
fn a_place_is_made_and_removed_below_its_root() {
    let ground = Ground::new();
    let place = ground.roots.place(&ground.path("root/pods/a")).unwrap();
    place.make_folder().unwrap();
    place.make_folder().unwrap();
    assert!(ground.path("root/pods/a").is_dir());
    assert!(place.make_file().is_err());
    place.remove().unwrap();
    place.remove().unwrap();
    place.make_file().unwrap();
    place.make_file().unwrap();
    assert!(place.make_folder().is_err() && ground.path("root/pods/a").is_file());
    fs::write(ground.path("root/pods/a"), b"data").unwrap();
    assert_eq!(place.remove().unwrap_err().code(), "driver.refused");
    assert!(ground.path("root/pods/a").exists());
}

#[test]
fn paths_that_lie_elsewhere_or_make_no_sense_are_refused() {
    let ground = Ground::new();
    for wrong in [
        ground.path("outside/a"),
        ground.path("root"),
        ground.path("rootless/a"),
        ground.path("root/../outside/a"),
        ground.path("root/pods/.."),
        ground.path("root/pods/new\nline"),
        ground.path(&format!("root/{}/a", "x".repeat(256))),
        PathBuf::from("/"),
        PathBuf::from("relative"),
        PathBuf::from(""),
    ] {
        let refused = ground.roots.find(&wrong);
        assert_eq!(refused.unwrap_err().code(), "driver.refused", "{}", wrong.display());
    }
    // Its folder is not there: nothing can be there, and nothing is made.
    assert!(ground.roots.find(&ground.path("root/none/a")).unwrap().is_none());
    assert_eq!(ground.roots.place(&ground.path("root/none/a")).unwrap_err().code(), "driver.refused");
}

#[test]
fn strange_names_are_names() {
    let ground = Ground::new();
    for name in ["-rf", "\\040", "a b", "größe", "%s", "//double", ".hidden", "(deleted)", &"x".repeat(255)]
    {
        let path = ground.path(&format!("root/pods/{name}"));
        let place = ground.roots.place(&path).unwrap();
        place.make_folder().unwrap();
        assert!(path.is_dir(), "{name}");
        place.remove().unwrap();
        assert!(!path.exists(), "{name}");
    }
    // As long as the kernel allows.
    let mut deep = ground.path("root");
    while deep.as_os_str().len() < 3800 {
        deep.push("y".repeat(200));
        let place = ground.roots.place(&deep).unwrap();
        place.make_folder().unwrap();
    }
    assert!(deep.is_dir());
}

#[test]
fn no_symbolic_link_is_followed_wherever_it_stands() {
    let ground = Ground::new();
    symlink(ground.path("outside"), ground.path("root/pods/link")).unwrap();
    symlink("/proc/self/root", ground.path("root/pods/magic")).unwrap();
    for path in ["root/pods/link/a", "root/pods/magic/tmp"] {
        assert_eq!(ground.roots.find(&ground.path(path)).unwrap_err().code(), "driver.refused", "{path}");
    }
    // As the last part: refused, and nothing is done through one that comes later.
    assert!(ground.roots.place(&ground.path("root/pods/link")).is_err());
    assert!(Place::by_hand(&ground.path("root/pods/link")).is_err());
    let place = ground.roots.place(&ground.path("root/pods/later")).unwrap();
    fs::rename(ground.path("root/pods/link"), ground.path("root/pods/later")).unwrap();
    assert!(place.open().is_err() && place.make_folder().is_err() && place.make_file().is_err());
    assert!(place.remove().is_err());
    assert!(ground.outside_is_empty() && ground.path("outside").is_dir());
    assert!(place.folder().is_err());
}

#[test]
fn a_folder_that_becomes_a_link_after_it_was_looked_at_moves_nothing() {
    let ground = Ground::new();
    let place = ground.roots.place(&ground.path("root/pods/a")).unwrap();
    fs::rename(ground.path("root/pods"), ground.path("root/moved")).unwrap();
    symlink(ground.path("outside"), ground.path("root/pods")).unwrap();
    place.make_folder().unwrap();
    assert!(ground.outside_is_empty() && ground.path("root/moved/a").is_dir());
    fs::create_dir(ground.path("outside/a")).unwrap();
    place.remove().unwrap();
    assert!(ground.path("outside/a").is_dir() && !ground.path("root/moved/a").exists());
}

#[test]
fn a_root_may_itself_be_reached_by_a_link() {
    let ground = Ground::new();
    symlink(ground.path("root"), ground.path("alias")).unwrap();
    let roots = MountRoots::new(vec![ground.path("alias")]);
    for path in ["alias/pods/a", "root/pods/a"] {
        assert_eq!(
            roots.place(&ground.path(path)).unwrap().path(),
            fs::canonicalize(ground.path("root/pods")).unwrap().join("a")
        );
    }
}
