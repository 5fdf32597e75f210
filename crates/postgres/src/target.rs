//! Where a server is, as whom to come, and how much to trust the line.

use std::fmt;
use std::path::PathBuf;

use strongroom_server_line::TlsMode;

/// Where a PostgreSQL server is and how to come in.
#[derive(Debug, Clone)]
pub struct Target {
    /// A host, an address, or the folder of a Unix socket (it begins with `/`).
    pub host: String,
    /// The port, which also names the socket.
    pub port: u16,
    /// The role.
    pub user: String,
    /// The database for SQL; replication needs none.
    pub database: String,
    /// The file whose first line is the password.
    pub password_file: Option<PathBuf>,
    /// A file in the form of `~/.pgpass`, looked at when there is no password file.
    pub pgpass: Option<PathBuf>,
    /// Whether and how to encrypt.
    pub tls: TlsMode,
    /// Who signed the server's certificate. Without it: whom this machine trusts.
    pub tls_ca: Option<PathBuf>,
    /// How we call ourselves in `pg_stat_replication`.
    pub application: String,
}

impl Target {
    /// The folder of the Unix socket, where it is one.
    #[must_use]
    pub fn socket(&self) -> Option<PathBuf> {
        self.host.starts_with('/').then(|| PathBuf::from(&self.host).join(format!(".s.PGSQL.{}", self.port)))
    }
}

/// Host and port, for messages.
impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}
