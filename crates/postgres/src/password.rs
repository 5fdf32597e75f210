//! Finding the password: a file of its own, or a line of `.pgpass`. It is never shown.

use strongroom_server_line::{Password, PasswordFileError, first_line, read};
use zeroize::Zeroizing;

use crate::{PostgresError, Target};

/// The password for this server and role, where there is one.
pub(crate) fn find(target: &Target) -> Result<Option<Password>, PostgresError> {
    if let Some(path) = &target.password_file {
        return first_line(path).map(Some).map_err(refused);
    }
    let Some(path) = target.pgpass.as_deref().filter(|path| path.exists()) else { return Ok(None) };
    let text = read(path).map_err(refused)?;
    Ok(text.lines().find_map(|line| matches(line, target)))
}

fn refused(error: PasswordFileError) -> PostgresError {
    PostgresError::PasswordFile { path: error.path, reason: error.reason }
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
}
