//! Finding the password: a file of its own, or a line of `.pgpass`. It is never shown.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use zeroize::Zeroizing;

use crate::{PostgresError, Target};

/// A file with passwords is not longer than this.
const LARGEST_BYTES: u64 = 1 << 20;

pub(crate) type Password = Zeroizing<String>;

/// The password for this server and role, where there is one.
pub(crate) fn find(target: &Target) -> Result<Option<Password>, PostgresError> {
    if let Some(path) = &target.password_file {
        let text = read(path)?;
        let line = text.lines().next().unwrap_or_default();
        if line.is_empty() {
            return Err(refused(path, "its first line is empty"));
        }
        return Ok(Some(Zeroizing::new(line.to_owned())));
    }
    let Some(path) = target.pgpass.as_deref().filter(|path| path.exists()) else { return Ok(None) };
    let text = read(path)?;
    Ok(text.lines().find_map(|line| matches(line, target)))
}

fn refused(path: &Path, reason: impl Into<String>) -> PostgresError {
    PostgresError::PasswordFile { path: path.to_owned(), reason: reason.into() }
}

fn read(path: &Path) -> Result<Password, PostgresError> {
    let failed = |cause: std::io::Error| refused(path, cause.to_string());
    let found = std::fs::metadata(path).map_err(failed)?;
    if found.permissions().mode() & 0o077 != 0 {
        return Err(refused(path, "others than its owner may read it"));
    }
    if found.len() > LARGEST_BYTES {
        return Err(refused(path, "it is too large for a file of passwords"));
    }
    std::fs::read_to_string(path).map(Zeroizing::new).map_err(failed)
}

/// `host:port:database:user:password`, where `*` is anything and `\` takes the meaning from `:` and `\`. A socket's host is
/// `localhost`; a replication connection's database is `replication`.
fn matches(line: &str, target: &Target) -> Option<Password> {
    if line.starts_with('#') {
        return None;
    }
    let mut fields: [Zeroizing<String>; 5] = Default::default();
    let (mut at, mut escaped) = (0, false);
    for letter in line.chars() {
        match letter {
            '\\' if !escaped => escaped = true,
            // A password may hold colons.
            ':' if !escaped && at < 4 => at += 1,
            _ => {
                fields[at].push(letter);
                escaped = false;
            }
        }
    }
    let [host, port, database, user, password] = fields;
    let is = |field: &str, value: &str| field == "*" || field == value;
    let host_fits = if target.host.starts_with('/') {
        is(&host, "localhost") || *host == target.host
    } else {
        is(&host, &target.host)
    };
    let fits = at == 4
        && host_fits
        && is(&port, &target.port.to_string())
        && (is(&database, "replication") || *database == target.database)
        && is(&user, &target.user);
    fits.then_some(password)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::TlsMode;

    fn target() -> Target {
        Target {
            host: "db.example".into(),
            port: 5432,
            user: "strongroom".into(),
            database: "postgres".into(),
            password_file: None,
            pgpass: None,
            tls: TlsMode::Prefer,
            tls_ca: None,
            application: "strongroom".into(),
        }
    }

    #[test]
    fn the_first_line_of_pgpass_that_fits_counts() {
        let found = |line: &str| matches(line, &target()).map(|password| password.to_string());
        assert_eq!(found(r"db.example:5432:replication:strongroom:se:c\\ret").as_deref(), Some(r"se:c\ret"));
        assert_eq!(found("*:*:*:*:secret").as_deref(), Some("secret"));
        for other in
            ["other:5432:*:strongroom:x", "*:1:*:*:x", "*:*:shop:*:x", "*:*:*:me:x", "#*:*:*:*:x", "*:*:*"]
        {
            assert_eq!(found(other), None, "{other}");
        }
    }

    #[test]
    fn a_password_file_that_others_may_read_is_refused_and_not_shown() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("password");
        std::fs::write(&path, "hunter2\n").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        let target = Target { password_file: Some(path.clone()), ..target() };
        let error = find(&target).unwrap_err();
        assert!(!format!("{error:?} {error}").contains("hunter2"));
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        assert_eq!(find(&target).unwrap().unwrap().as_str(), "hunter2");
    }
}
