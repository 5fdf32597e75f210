use super::*;

#[test]
fn three_ways_of_writing_an_endpoint_mean_the_same() {
    for text in ["unix:///run/x.sock", "unix:/run/x.sock", "/run/x.sock"] {
        assert_eq!(socket_path(text), Ok(PathBuf::from("/run/x.sock")), "{text}");
    }
    assert_eq!(socket_path("unix://x.sock"), Ok(PathBuf::from("x.sock")));
}

#[test]
fn what_is_no_unix_socket_is_refused() {
    assert_eq!(socket_path(""), Err(EndpointError::Empty));
    assert_eq!(socket_path("unix://"), Err(EndpointError::Empty));
    assert!(matches!(socket_path("tcp://127.0.0.1:1"), Err(EndpointError::Scheme { .. })));
    assert!(matches!(socket_path(&"x".repeat(108)), Err(EndpointError::TooLong { bytes: 108, .. })));
}

#[tokio::test]
async fn each_reason_for_not_connecting_has_its_own_error() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    assert!(matches!(connect(&at("none")).await, Err(ConnectError::Missing { .. })));
    std::fs::write(at("file"), "").unwrap();
    assert!(matches!(connect(&at("file")).await, Err(ConnectError::NotASocket { .. })));
    drop(std::os::unix::net::UnixListener::bind(at("dead")).unwrap());
    assert!(matches!(connect(&at("dead")).await, Err(ConnectError::Refused { .. })));
}
