//! Every way in that a server may ask for, and the refusals.

use std::path::Path;
use std::process::Command;

use strongroom_model::{Failure as _, chain};
use strongroom_postgres::{Connection, PostgresError, ReplicationConnection, Target, TlsMode};

use crate::server::{PASSWORD, Server};

pub(crate) fn target(server: &Server) -> Target {
    Target {
        host: server.socket().to_str().expect("it can be made").to_owned(),
        port: server.port,
        user: "strongroom".into(),
        database: "postgres".into(),
        password_file: Some(server.password_file()),
        pgpass: None,
        tls: TlsMode::Prefer,
        tls_ca: None,
        application: "strongroom".into(),
    }
}

/// An authority and a certificate for `localhost` signed by it.
fn certificates(folder: &Path) {
    let run = |args: &[&str]| {
        let done = Command::new("openssl").args(args).current_dir(folder).output().expect("it can be made");
        assert!(done.status.success(), "{args:?}: {}", String::from_utf8_lossy(&done.stderr));
    };
    let ec = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];
    run(&[
        &["req", "-x509", "-days", "2", "-subj", "/CN=authority", "-keyout", "ca.key", "-out", "ca.crt"],
        &ec[..],
    ]
    .concat());
    run(&[&["req", "-subj", "/CN=localhost", "-keyout", "server.key", "-out", "server.csr"], &ec[..]]
        .concat());
    std::fs::write(folder.join("names"), "subjectAltName=DNS:localhost\n").expect("it can be made");
    run(&[
        "x509",
        "-req",
        "-in",
        "server.csr",
        "-CA",
        "ca.crt",
        "-CAkey",
        "ca.key",
        "-CAcreateserial",
        "-days",
        "2",
        "-sha384",
        "-extfile",
        "names",
        "-out",
        "server.crt",
    ]);
}

#[tokio::test]
async fn a_server_lets_in_by_scram_md5_and_tls_and_nobody_else() {
    let folder = tempfile::tempdir().unwrap();
    certificates(folder.path());
    let Some(server) = Server::start("") else { return };
    let socket = target(&server);
    let mut sql = Connection::open(&socket).await.unwrap();
    let rows = sql.ask("a question", "select 1, null, 'ä''ö'; select 2").await.unwrap();
    assert_eq!(rows, [vec![Some("1".into()), None, Some("ä'ö".into())], vec![Some("2".into())]]);
    let refused = sql.ask("nonsense", "select nonsense").await.unwrap_err();
    assert!(matches!(&refused, PostgresError::Refused { state, .. } if state == "42703"), "{refused:?}");
    assert_eq!(sql.ask("again", "select 3").await.unwrap().len(), 1, "a refusal does not end the connection");

    let older = Target { user: "md5er".into(), ..socket.clone() };
    ReplicationConnection::open(&older).await.unwrap();
    let network = Target { host: "localhost".into(), ..socket.clone() };
    assert!(
        !ReplicationConnection::open(&network).await.unwrap().is_encrypted(),
        "the server offers no TLS yet"
    );
    let required = Target { tls: TlsMode::Require, ..network.clone() };
    let error = ReplicationConnection::open(&required).await.unwrap_err();
    assert_eq!(error.code(), "postgres.not-encrypted");

    let wrong = folder.path().join("wrong");
    std::fs::write(&wrong, "wrong password\n").unwrap();
    std::fs::set_permissions(&wrong, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let error = Connection::open(&Target { password_file: Some(wrong), ..socket.clone() }).await.unwrap_err();
    assert_eq!(error.code(), "postgres.not-let-in");
    assert!(!chain(&error).contains("wrong password"), "a password is never shown: {error}");
    let error = Connection::open(&Target { password_file: None, ..socket.clone() }).await.unwrap_err();
    assert_eq!(error.code(), "postgres.no-password");

    // From here on the server speaks TLS, and binds SCRAM to it.
    for file in ["server.key", "server.crt"] {
        std::fs::copy(folder.path().join(file), server.data().join(file)).unwrap();
    }
    let data = server.data();
    let owner = std::os::unix::fs::MetadataExt::uid(&std::fs::metadata(&data).unwrap());
    std::os::unix::fs::chown(data.join("server.key"), Some(owner), None).unwrap();
    std::fs::set_permissions(data.join("server.key"), std::os::unix::fs::PermissionsExt::from_mode(0o600))
        .unwrap();
    std::os::unix::fs::chown(data.join("server.crt"), Some(owner), None).unwrap();
    server.sql("alter system set ssl = on");
    server.sql("select pg_reload_conf()");
    tokio::time::sleep(std::time::Duration::from_millis(500)).await;
    let authority = Some(folder.path().join("ca.crt"));
    for (tls, tls_ca) in [
        (TlsMode::Prefer, None),
        (TlsMode::Require, None),
        (TlsMode::VerifyCa, authority.clone()),
        (TlsMode::VerifyFull, authority.clone()),
    ] {
        let target = Target { tls, tls_ca, ..network.clone() };
        let connection = ReplicationConnection::open(&target)
            .await
            .unwrap_or_else(|error| panic!("{tls:?}: {}", chain(&error)));
        assert!(connection.is_encrypted(), "{tls:?}");
    }
    let by_number = Target {
        host: "127.0.0.1".into(),
        tls: TlsMode::VerifyFull,
        tls_ca: authority.clone(),
        ..network.clone()
    };
    assert_eq!(
        ReplicationConnection::open(&by_number).await.unwrap_err().code(),
        "postgres.not-encrypted",
        "another name"
    );
    ReplicationConnection::open(&Target { tls: TlsMode::VerifyCa, ..by_number }).await.unwrap();
    let other = Target { tls: TlsMode::VerifyCa, tls_ca: None, ..network };
    assert_eq!(
        ReplicationConnection::open(&other).await.unwrap_err().code(),
        "postgres.not-encrypted",
        "nobody here trusts it"
    );

    let system = ReplicationConnection::open(&socket).await.unwrap().identify().await.unwrap();
    assert_eq!(
        system.identifier.to_string(),
        server.sql("select system_identifier from pg_control_system()")
    );
    assert_eq!((system.timeline.0, system.segment_bytes), (1, 16 << 20));
    assert!(!PASSWORD.is_empty());
}
