//! Places where a test can let the driver die as by `kill -9`.
//!
//! Each lies between two steps of an operation whose order matters. [`point!`] names one; the names in the source are
//! the list, and `driver/tests/crashes.rs` lets the driver die at every one of them. Outside the unit tests the macro
//! is nothing: not even the names come into the program.

/// Dies here if a test armed this point.
#[cfg(not(test))]
macro_rules! named_point {
    ($name:literal) => {};
}
#[cfg(test)]
macro_rules! named_point {
    ($name:literal) => {
        $crate::crash::passing($name)
    };
}
pub(crate) use named_point as point;

#[cfg(test)]
pub(crate) use armed::{arm, passing, points_of_the_source, recorded};

#[cfg(test)]
mod armed {
    use std::cell::RefCell;
    use std::collections::BTreeSet;
    use std::path::Path;
    use std::sync::OnceLock;

    static ARMED: OnceLock<String> = OnceLock::new();

    thread_local! {
        static PASSED: RefCell<Vec<&'static str>> = const { RefCell::new(Vec::new()) };
    }

    /// From now on this process dies when it comes to `point`.
    pub(crate) fn arm(point: &str) {
        ARMED.set(point.to_owned()).unwrap();
    }

    pub(crate) fn passing(name: &'static str) {
        PASSED.with_borrow_mut(|passed| passed.push(name));
        if ARMED.get().is_some_and(|armed| armed == name) {
            let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
        }
    }

    /// The points that `work` comes by on this thread, each once, in the order in which they are first met.
    pub(crate) fn recorded<T>(work: impl FnOnce() -> T) -> (T, Vec<&'static str>) {
        PASSED.take();
        let done = work();
        let mut seen = BTreeSet::new();
        (done, PASSED.take().into_iter().filter(|name| seen.insert(*name)).collect())
    }

    /// Every point that the source of this crate names.
    pub(crate) fn points_of_the_source() -> BTreeSet<String> {
        let mut found = BTreeSet::new();
        gather(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut found);
        found
    }

    fn gather(folder: &Path, found: &mut BTreeSet<String>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                gather(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = std::fs::read_to_string(&path).unwrap();
                let named = text.split("crash::point!(\"").skip(1).filter_map(|rest| rest.split('"').next());
                found.extend(named.map(str::to_owned));
            }
        }
    }
}
