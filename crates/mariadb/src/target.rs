//! Where a server is, as whom to come, and how much to trust the line.

use std::fmt;
use std::path::{Path, PathBuf};

use strongroom_server_line::TlsMode;

/// Where a MariaDB server is and how to come in.
#[derive(Debug, Clone)]
pub struct Target {
    /// A host, an address, or the path of a Unix socket or of the folder that has `mysqld.sock` (it begins with `/`).
    pub host: String,
    /// The port.
    pub port: u16,
    /// The account.
    pub user: String,
    /// The file whose first line is the password.
    pub password_file: Option<PathBuf>,
    /// Whether and how to encrypt.
    pub tls: TlsMode,
    /// Who signed the server's certificate. Without it: whom this machine trusts.
    pub tls_ca: Option<PathBuf>,
    /// How we call ourselves in `SHOW SLAVE HOSTS`.
    pub application: String,
}

impl Target {
    /// The Unix socket, where it is one.
    #[must_use]
    pub fn socket(&self) -> Option<PathBuf> {
        let path = Path::new(&self.host);
        path.is_absolute().then(|| if path.is_dir() { path.join("mysqld.sock") } else { path.to_owned() })
    }
}

/// Host and port, or the socket, for messages.
impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.starts_with('/') {
            f.write_str(&self.host)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}
