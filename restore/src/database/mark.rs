//! What keeps a restored copy from disturbing anybody until it is promoted.
//!
//! A copy has the settings of the original. Started for a look, it would archive a history that nobody wants into the archive of
//! the original, take the places of its subscriptions, and wait for its standbys at every commit. So a few lines behind all
//! others in `postgresql.auto.conf` say otherwise, and a file beside it says what they were before and what the copy is. A
//! promotion takes the lines away; the file says so and stays, so that a promotion that was interrupted can be given again.
//!
//! MariaDB has its settings elsewhere. Of its data folder a copy lacks the files by which a replica goes on with its primary, in the
//! place of the original: they have another name until it is promoted.

use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt as _, chown};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use strongroom_database::{LineageId, Position};
use strongroom_model::VolumeName;

use super::mariadb;

/// The settings of a copy, as PostgreSQL itself would write them.
const HELD: [(&str, &str); 3] =
    [("archive_mode", "off"), ("max_logical_replication_workers", "0"), ("synchronous_standby_names", "")];

const SETTINGS: &str = "postgresql.auto.conf";
const MARK: &str = "strongroom.copy";

/// How the files of a replica begin, and what is behind their names in a copy.
const OF_A_REPLICA: [&str; 4] = ["master.info", "master-", "relay-log", "multi-master.info"];
const HELD_FILE: &str = ".strongroom-held";

/// What a copy is there for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Purpose {
    /// To take the live database's place, perhaps.
    Restored,
    /// For a look.
    Clone,
}

/// What a copy is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Mark {
    pub(super) purpose: Purpose,
    /// What kind of database it is, as its log says.
    #[serde(default = "usual_engine")]
    engine: String,
    pub(super) database: String,
    /// The volume of the original.
    pub(super) volume: VolumeName,
    /// The history that it left, and where.
    pub(super) lineage: u32,
    pub(super) cut: u64,
    /// The settings of the original.
    settings: String,
    /// They are held back.
    pub(super) held: bool,
    /// Since this start of this machine it is worked at: what a server wrote to it without waiting for the disk is there only as long
    /// as the machine runs.
    #[serde(default)]
    boot: Option<String>,
}

fn usual_engine() -> String {
    "postgresql".to_owned()
}

impl Mark {
    pub(super) fn new(
        purpose: Purpose,
        database: &str,
        volume: &VolumeName,
        lineage: LineageId,
        cut: Position,
    ) -> Self {
        let (database, volume) = (database.to_owned(), volume.clone());
        Self {
            purpose,
            engine: usual_engine(),
            database,
            volume,
            lineage: lineage.0,
            cut: cut.number(),
            settings: String::new(),
            held: false,
            boot: None,
        }
    }

    /// Whether a restore of it that was interrupted can go on: it is held, and the machine was not started anew meanwhile.
    pub(super) fn can_go_on(&self) -> bool {
        self.held && self.boot.is_some() && self.boot == boot()
    }

    /// The same of MariaDB.
    pub(super) fn of_mariadb(mut self) -> Self {
        self.engine = mariadb::ENGINE.to_owned();
        self
    }

    fn is_of_mariadb(&self) -> bool {
        self.engine == mariadb::ENGINE
    }

    /// Holds the copy. Before its server is started for the first time, so that it never runs without.
    pub(super) fn hold(mut self, data: &Path) -> io::Result<()> {
        if self.is_of_mariadb() {
            self.held = true;
            rename(data, |name| {
                let is_of_replica = OF_A_REPLICA.iter().any(|begin| name.starts_with(begin));
                (is_of_replica && !name.ends_with(HELD_FILE)).then(|| format!("{name}{HELD_FILE}"))
            })?;
            return write(data, MARK, &serde_json::to_string(&self)?);
        }
        // A run that was killed has held it already; a copy of a copy is one of the original.
        self.settings = match Self::of(data)?.filter(|earlier| earlier.held) {
            Some(earlier) => earlier.settings,
            None => read(&data.join(SETTINGS))?.unwrap_or_default(),
        };
        (self.held, self.boot) = (true, boot());
        write(data, MARK, &serde_json::to_string(&self)?)?;
        write(data, SETTINGS, &held(&self.settings))
    }

    /// Says what a copy is that is a single file, and has no settings that would have to be held.
    pub(super) fn lay_beside(&self, file: &Path) -> io::Result<()> {
        let (folder, name) = beside(file)?;
        write(folder, &name, &serde_json::to_string(self)?)
    }

    /// Takes away what a base brought along that was a copy once.
    pub(super) fn remove_beside(file: &Path) -> io::Result<()> {
        let (folder, name) = beside(file)?;
        match fs::remove_file(folder.join(name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// What a single file is marked as; `None`: it is no copy of ours.
    pub(super) fn of_file(file: &Path) -> io::Result<Option<Self>> {
        let (folder, name) = beside(file)?;
        let text = read(&folder.join(name))?;
        Ok(text.map(|text| serde_json::from_str(&text)).transpose()?)
    }

    /// What a data folder is marked as; `None`: it is no copy of ours.
    pub(super) fn of(data: &Path) -> io::Result<Option<Self>> {
        let text = read(&data.join(MARK))?;
        Ok(text.map(|text| serde_json::from_str(&text)).transpose()?)
    }

    /// Lets the copy go: it has the settings of the original again, and what was set in it meanwhile.
    pub(super) fn let_go(mut self, data: &Path) -> io::Result<()> {
        if self.is_of_mariadb() {
            rename(data, |name| name.strip_suffix(HELD_FILE).map(str::to_owned))?;
            self.held = false;
            return write(data, MARK, &serde_json::to_string(&self)?);
        }
        if std::mem::take(&mut self.held) {
            let current = read(&data.join(SETTINGS))?.unwrap_or_default();
            write(data, SETTINGS, &free(&current, &self.settings))?;
            write(data, MARK, &serde_json::to_string(&self)?)?;
        }
        Ok(())
    }
}

/// What tells one start of this machine from another.
fn boot() -> Option<String> {
    let id = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    Some(id.trim().to_owned())
}

/// The folder of a file, and the name of the mark in it.
fn beside(file: &Path) -> io::Result<(&Path, String)> {
    let name = file.file_name().map(|name| format!("{}.{MARK}", name.to_string_lossy()));
    file.parent().zip(name).ok_or_else(|| io::ErrorKind::InvalidInput.into())
}

/// Gives files of the data folder other names.
fn rename(data: &Path, to: impl Fn(&str) -> Option<String>) -> io::Result<()> {
    for entry in fs::read_dir(data)? {
        let entry = entry?;
        let fresh = entry.file_name().to_str().and_then(&to);
        if let Some(fresh) = fresh.filter(|_| entry.file_type().is_ok_and(|kind| kind.is_file())) {
            fs::rename(entry.path(), data.join(fresh))?;
        }
    }
    fs::File::open(data)?.sync_all()
}

fn lines_of_ours() -> impl Iterator<Item = String> {
    HELD.iter().map(|(name, value)| format!("{name} = '{value}'\n"))
}

fn held(settings: &str) -> String {
    let end = if settings.is_empty() || settings.ends_with('\n') { "" } else { "\n" };
    let lines: String = lines_of_ours().collect();
    format!("{settings}{end}{lines}")
}

/// `current` without what was said for the copy. Whatever wrote the file anew meanwhile (ALTER SYSTEM) left one line of each name.
fn free(current: &str, before: &str) -> String {
    if current == held(before) {
        return before.to_owned();
    }
    let ours: Vec<String> = lines_of_ours().collect();
    let is_ours = |line: &&str| ours.iter().any(|our| *our == **line);
    let mut text: String = current.split_inclusive('\n').filter(|line| !is_ours(line)).collect();
    for line in before.lines() {
        let name = line.split('=').next().unwrap_or_default().trim();
        if HELD.iter().any(|(held, _)| *held == name) && !text.lines().any(|known| known == line) {
            text.push_str(line);
            text.push('\n');
        }
    }
    text
}

/// A file of the data folder; no link, which could lead anywhere.
fn read(path: &Path) -> io::Result<Option<String>> {
    match fs::symlink_metadata(path) {
        Ok(meta) if meta.is_file() => fs::read_to_string(path).map(Some),
        Ok(_) => Err(io::Error::new(io::ErrorKind::InvalidData, "it is no file")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Durable, whole or not at all, and of the user whose folder it is.
fn write(data: &Path, name: &str, text: &str) -> io::Result<()> {
    let owner = fs::metadata(data)?;
    let fresh: PathBuf = data.join(format!("{name}.strongroom"));
    match fs::remove_file(&fresh) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = fs::File::options().create_new(true).write(true).open(&fresh)?;
    io::Write::write_all(&mut file, text.as_bytes())?;
    file.set_permissions(std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
    if rustix::process::geteuid().is_root() {
        chown(&fresh, Some(owner.uid()), Some(owner.gid()))?;
    }
    file.sync_all()?;
    fs::rename(&fresh, data.join(name))?;
    fs::File::open(data)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_of_a_replica_is_none_until_it_is_let_go() {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path();
        let replica = ["master.info", "master-one.info", "relay-log.info", "multi-master.info"];
        for name in replica.iter().chain(&["mysql-bin.000001", "ibdata1"]) {
            fs::write(data.join(name), name).unwrap();
        }
        let names = || {
            let entries = fs::read_dir(data).unwrap().flatten();
            entries
                .map(|entry| entry.file_name().into_string().unwrap())
                .collect::<std::collections::BTreeSet<_>>()
        };
        let before = names();
        let mark =
            Mark::new(Purpose::Restored, "shop", &"db".parse().unwrap(), LineageId(1), Position::new(7));
        mark.of_mariadb().hold(data).unwrap();
        assert!(replica.iter().all(|name| !data.join(name).exists()), "{:?}", names());
        let held = Mark::of(data).unwrap().unwrap();
        assert!(held.held);
        held.let_go(data).unwrap();
        let mut after = names();
        assert!(after.remove(MARK) && !Mark::of(data).unwrap().unwrap().held);
        assert_eq!(after, before);
    }

    #[test]
    fn a_copy_is_held_and_let_go_with_the_settings_that_it_came_with() {
        let before = "archive_mode = 'on'\nwork_mem = '8MB'\n";
        let copy = held(before);
        assert!(
            copy.starts_with(before) && copy.contains("\narchive_mode = 'off'\n"),
            "the last line counts"
        );
        assert_eq!(free(&copy, before), before);
        assert_eq!(free(&held("port = 1"), "port = 1"), "port = 1");
        // ALTER SYSTEM keeps one line of each name.
        let set = "work_mem = '8MB'\narchive_mode = 'off'\nmax_logical_replication_workers = '0'\nsynchronous_standby_names = ''\nport = '7'\n";
        assert_eq!(free(set, before), "work_mem = '8MB'\nport = '7'\narchive_mode = 'on'\n");
    }
}
