use std::os::unix::fs::PermissionsExt as _;

use super::*;

#[tokio::test]
async fn the_socket_and_the_folder_made_for_it_belong_to_its_owner_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("new/csi.sock");
    let socket = Socket::bind(&format!("unix://{}", path.display())).await.unwrap();
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(socket.path()), 0o600);
    assert_eq!(mode(path.parent().unwrap()), 0o700);
}

#[tokio::test]
async fn a_socket_that_nobody_answers_on_is_taken_over() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("csi.sock");
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    Socket::bind(path.to_str().unwrap()).await.unwrap();
}

#[tokio::test]
async fn a_driver_that_lives_is_not_pushed_aside() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("csi.sock");
    let first = Socket::bind(path.to_str().unwrap()).await.unwrap();
    assert!(matches!(Socket::bind(path.to_str().unwrap()).await, Err(ServeError::Taken { .. })));
    assert!(first.path().exists());
}

#[tokio::test]
async fn a_file_in_the_way_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("precious");
    std::fs::write(&path, "data").unwrap();
    assert!(matches!(Socket::bind(path.to_str().unwrap()).await, Err(ServeError::NotASocket { .. })));
    assert_eq!(std::fs::read(&path).unwrap(), b"data");
}

#[tokio::test]
async fn a_driver_that_cannot_start_leaves_no_socket() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("csi.sock");
    drop(Socket::bind(path.to_str().unwrap()).await.unwrap());
    assert!(!path.exists());
}
