use std::net::{IpAddr, Ipv4Addr};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::*;

struct Fine;

impl Watched for Fine {
    async fn metrics(&self) -> String {
        "fine 1\n# EOF\n".into()
    }

    async fn ready(&self) -> Result<(), String> {
        Err("the pool is away".into())
    }
}

async fn served() -> Endpoint {
    let any = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
    Endpoint::serve(any, Arc::new(Fine)).await.unwrap()
}

async fn ask(endpoint: &Endpoint, request: &str) -> String {
    let mut stream = TcpStream::connect(endpoint.address()).await.unwrap();
    // Whoever is refused early may find the connection closed while still writing.
    let _ = stream.write_all(request.as_bytes()).await;
    let mut text = Vec::new();
    let _ = stream.read_to_end(&mut text).await;
    String::from_utf8_lossy(&text).into_owned()
}

async fn get(endpoint: &Endpoint, path: &str) -> String {
    ask(endpoint, &format!("GET {path} HTTP/1.1\r\nHost: here\r\n\r\n")).await
}

#[tokio::test]
async fn metrics_health_and_readiness_are_answered_and_nothing_else() {
    let endpoint = served().await;
    let page = get(&endpoint, "/metrics").await;
    assert!(page.starts_with("HTTP/1.1 200 OK\r\n") && page.ends_with("fine 1\n# EOF\n"), "{page}");
    assert!(page.contains(OPEN_METRICS), "{page}");
    assert!(get(&endpoint, "/healthz").await.starts_with("HTTP/1.1 200 "));
    let ready = get(&endpoint, "/readyz").await;
    assert!(ready.starts_with("HTTP/1.1 503 ") && ready.ends_with("the pool is away\n"), "{ready}");
    assert!(get(&endpoint, "/../etc/passwd").await.starts_with("HTTP/1.1 404 "));
    let posted =
        ask(&endpoint, "POST /metrics HTTP/1.1\r\nHost: here\r\nContent-Length: 4\r\n\r\nabcd").await;
    assert!(posted.starts_with("HTTP/1.1 405 "), "{posted}");
}

#[tokio::test]
async fn a_head_that_does_not_end_is_refused() {
    let endpoint = served().await;
    let long = format!("GET /metrics HTTP/1.1\r\nX: {}\r\n\r\n", "x".repeat(HEAD_BYTES * 2));
    assert!(!ask(&endpoint, &long).await.starts_with("HTTP/1.1 200 "));
    assert!(get(&endpoint, "/metrics").await.starts_with("HTTP/1.1 200 "));
}

#[tokio::test]
async fn those_who_connect_and_say_nothing_do_not_keep_the_others_out() {
    let endpoint = served().await;
    let mut silent = Vec::new();
    for _ in 0..2 * CONNECTIONS {
        silent.push(TcpStream::connect(endpoint.address()).await.unwrap());
    }
    assert!(get(&endpoint, "/metrics").await.starts_with("HTTP/1.1 200 "));
}

#[tokio::test]
async fn a_port_that_is_taken_is_refused_with_its_address() {
    let endpoint = served().await;
    let error = Endpoint::serve(endpoint.address(), Arc::new(Fine)).await.unwrap_err();
    assert_eq!(error.code(), "metrics.listen");
    assert!(error.to_string().contains(&endpoint.address().to_string()));
}
