//! A copy whose server would write outside of the copy is never started: what lies there may be the live database's own.
//!
//! A data folder can have links: a tablespace of PostgreSQL is one, `pg_wal` may be one, MariaDB keeps files elsewhere by
//! links and by files that name a place. In a copy they lead where they led in the original.

use std::fs::{self, DirEntry};
use std::io;
use std::path::{Path, PathBuf};

/// What leads out of a copy, and to where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Outlet {
    pub(super) path: PathBuf,
    pub(super) to: PathBuf,
}

/// The first that leads out of a data folder of PostgreSQL: of all folders in which a server writes, each database's, each
/// tablespace. Links to settings, certificates and the place of messages lead to nothing that it changes here.
///
/// # Errors
/// When the folder cannot be read.
pub(super) fn of_postgres(data: &Path) -> io::Result<Option<Outlet>> {
    let writes = |entry: &DirEntry| {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        name.starts_with("pg_") && !name.ends_with(".conf") || matches!(&*name, "base" | "global")
    };
    first(data, writes)?.map_or_else(
        || {
            let below = ["base", "pg_tblspc"].map(|name| data.join(name));
            below.iter().find_map(|folder| first(folder, |_| true).transpose()).transpose()
        },
        |outlet| Ok(Some(outlet)),
    )
}

/// The first that leads out of a data folder of MariaDB: any link, and any `.isl`, which names where a table's file lies; in the
/// folder and in those of its databases.
///
/// # Errors
/// When the folder cannot be read.
pub(super) fn of_mariadb(data: &Path) -> io::Result<Option<Outlet>> {
    let mut folders = vec![data.to_owned()];
    for entry in fs::read_dir(data)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            folders.push(entry.path());
        }
    }
    for folder in folders {
        if let Some(outlet) = first(&folder, |_| true)? {
            return Ok(Some(outlet));
        }
        for entry in fs::read_dir(&folder)? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "isl") {
                let to = fs::read_to_string(&path)?;
                return Ok(Some(Outlet { path, to: PathBuf::from(to.trim()) }));
            }
        }
    }
    Ok(None)
}

/// The first link of a folder among those that matter.
fn first(folder: &Path, matters: impl Fn(&DirEntry) -> bool) -> io::Result<Option<Outlet>> {
    let mut links = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_symlink() && matters(&entry) {
            links.push(entry.path());
        }
    }
    links.sort();
    let Some(path) = links.into_iter().next() else { return Ok(None) };
    let to = fs::read_link(&path)?;
    Ok(Some(Outlet { path, to }))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn links_in_which_a_server_would_write_are_found_and_others_are_left() {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path();
        for name in ["base/5", "pg_tblspc", "pg_wal", "global"] {
            fs::create_dir_all(data.join(name)).unwrap();
        }
        symlink("/etc/ssl/server.crt", data.join("server.crt")).unwrap();
        symlink("/etc/postgresql/pg_hba.conf", data.join("pg_hba.conf")).unwrap();
        symlink("/var/log/postgresql", data.join("log")).unwrap();
        assert_eq!(of_postgres(data).unwrap(), None);
        symlink("/srv/fast", data.join("pg_tblspc/16400")).unwrap();
        let found = of_postgres(data).unwrap().unwrap();
        assert_eq!((found.path, found.to), (data.join("pg_tblspc/16400"), PathBuf::from("/srv/fast")));
        fs::remove_dir(data.join("pg_wal")).unwrap();
        symlink("/srv/wal", data.join("pg_wal")).unwrap();
        assert_eq!(of_postgres(data).unwrap().unwrap().to, PathBuf::from("/srv/wal"));
    }

    #[test]
    fn files_that_name_a_place_are_found_in_the_folders_of_mariadbs_databases() {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path();
        fs::create_dir_all(data.join("shop")).unwrap();
        fs::write(data.join("shop/t.frm"), "").unwrap();
        assert_eq!(of_mariadb(data).unwrap(), None);
        fs::write(data.join("shop/t.isl"), "/srv/fast/shop/t.ibd\n").unwrap();
        assert_eq!(of_mariadb(data).unwrap().unwrap().to, PathBuf::from("/srv/fast/shop/t.ibd"));
    }
}
