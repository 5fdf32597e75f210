//! A proxy in front of a real S3 server that fails as planned: one request per connection, plain HTTP.
//!
//! It knows just enough of HTTP to find the end of a request. The server is told to close after its answer, so an
//! answer is what comes until then.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// What becomes of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The server answers "slow down" and does nothing.
    SlowDown,
    /// The connection is reset before the server hears of it.
    Reset,
    /// The server does it; the answer is lost.
    LoseAnswer,
    /// The server's answer breaks off in the middle of its body.
    CutBody,
    /// One bit of the answer's body is flipped.
    FlipBody,
    /// No answer at all.
    Stall,
    /// The answer begins, and half of its body never comes.
    StallBody,
    /// The server does nothing, and answers 200 with an error in its body.
    ErrorIn200,
}

/// The next `times` requests whose first line holds `line` meet this fault.
#[derive(Debug)]
struct Rule {
    line: &'static str,
    times: usize,
    fault: Fault,
}

/// One request in `one_in` meets one of `faults`, by a seed.
#[derive(Debug)]
struct Weather {
    state: u64,
    one_in: u64,
    faults: &'static [Fault],
}

impl Weather {
    fn next(&mut self) -> Option<Fault> {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        let fault = usize::try_from(self.state >> 40).unwrap() % self.faults.len();
        self.state.is_multiple_of(self.one_in).then(|| self.faults[fault])
    }
}

#[derive(Debug, Default)]
struct Plan {
    rules: Mutex<Vec<Rule>>,
    weather: Mutex<Option<Weather>>,
    seen: Mutex<Vec<String>>,
}

/// A running proxy; it ends when it is dropped.
#[derive(Debug)]
pub(crate) struct Proxy {
    pub(crate) endpoint: String,
    plan: Arc<Plan>,
    task: JoinHandle<()>,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Proxy {
    pub(crate) async fn before(upstream: &str) -> Self {
        let upstream = upstream.strip_prefix("http://").unwrap().to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let plan = Arc::<Plan>::default();
        let shared = Arc::clone(&plan);
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (plan, upstream) = (Arc::clone(&shared), upstream.clone());
                // What goes wrong here is seen by the client, and judged by the test.
                tokio::spawn(async move { serve(client, &upstream, &plan).await.ok() });
            }
        });
        Self { endpoint, plan, task }
    }

    /// `line` is part of the request's first line, such as `PUT` or `uploadId`.
    pub(crate) fn plan(&self, times: usize, line: &'static str, fault: Fault) {
        self.plan.rules.lock().unwrap().push(Rule { line, times, fault });
    }

    /// From now on one request in `one_in` meets one of `faults`, the same ones for the same seed and order of requests.
    #[allow(dead_code, reason = "this file is part of two test programs, and one of them plans every fault")]
    pub(crate) fn weather(&self, seed: u64, one_in: u64, faults: &'static [Fault]) {
        *self.plan.weather.lock().unwrap() = Some(Weather { state: seed | 1, one_in, faults });
    }

    /// How many requests whose first line holds `line` came by, the failed ones included.
    pub(crate) fn seen(&self, line: &str) -> usize {
        self.plan.seen.lock().unwrap().iter().filter(|seen| seen.contains(line)).count()
    }
}

impl Plan {
    fn fault(&self, line: &str) -> Option<Fault> {
        self.seen.lock().unwrap().push(line.to_owned());
        let mut rules = self.rules.lock().unwrap();
        if let Some(rule) = rules.iter_mut().find(|rule| rule.times > 0 && line.contains(rule.line)) {
            rule.times -= 1;
            return Some(rule.fault);
        }
        self.weather.lock().unwrap().as_mut()?.next()
    }
}

async fn serve(mut client: TcpStream, upstream: &str, plan: &Plan) -> std::io::Result<()> {
    let (head, body) = request(&mut client).await?;
    let line = head.lines().next().unwrap_or_default().to_owned();
    let fault = plan.fault(&line);
    match fault {
        Some(Fault::SlowDown) => {
            return answer(&mut client, "503 Slow Down", "<Error><Code>SlowDown</Code></Error>").await;
        }
        Some(Fault::ErrorIn200) => {
            let error =
                "<?xml version=\"1.0\"?>\n<Error><Code>InternalError</Code><Message>later</Message></Error>";
            return answer(&mut client, "200 OK", error).await;
        }
        Some(Fault::Reset) => return client.set_zero_linger(),
        Some(Fault::Stall) => std::future::pending().await,
        _ => {}
    }
    let mut server = TcpStream::connect(upstream).await?;
    let head = head.replacen("\r\n", "\r\nConnection: close\r\n", 1);
    server.write_all(head.as_bytes()).await?;
    server.write_all(&body).await?;
    let mut answer = Vec::new();
    server.read_to_end(&mut answer).await?;
    let at = find(&answer, b"\r\n\r\n").map_or(answer.len(), |at| at + 4);
    match fault {
        Some(Fault::LoseAnswer) => return client.set_zero_linger(),
        Some(Fault::CutBody) => client.write_all(&answer[..usize::midpoint(at, answer.len())]).await?,
        Some(Fault::FlipBody) => {
            answer[at] ^= 1;
            client.write_all(&answer).await?;
        }
        Some(Fault::StallBody) => {
            client.write_all(&answer[..usize::midpoint(at, answer.len())]).await?;
            tokio::time::sleep(Duration::from_secs(60)).await;
        }
        _ => client.write_all(&answer).await?,
    }
    client.shutdown().await
}

async fn answer(client: &mut TcpStream, status: &str, body: &str) -> std::io::Result<()> {
    let length = body.len();
    let head = format!(
        "HTTP/1.1 {status}\r\nConnection: close\r\nContent-Type: application/xml\r\nContent-Length: {length}\r\n\r\n"
    );
    client.write_all(format!("{head}{body}").as_bytes()).await?;
    client.shutdown().await
}

/// The head of a request, up to the empty line, and its body.
async fn request(client: &mut TcpStream) -> std::io::Result<(String, Vec<u8>)> {
    let mut bytes = Vec::new();
    let at = loop {
        if let Some(at) = find(&bytes, b"\r\n\r\n") {
            break at + 4;
        }
        if client.read_buf(&mut bytes).await? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
    };
    let body = bytes.split_off(at);
    let mut head = String::from_utf8_lossy(&bytes).into_owned();
    let field = |head: &str, name: &str| {
        head.lines().find_map(|line| {
            let (field, value) = line.split_once(':')?;
            field.eq_ignore_ascii_case(name).then(|| value.trim().to_owned())
        })
    };
    if field(&head, "expect").is_some() {
        client.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await?;
        let kept: Vec<_> =
            head.split("\r\n").filter(|line| !line.to_ascii_lowercase().starts_with("expect:")).collect();
        head = kept.join("\r\n");
    }
    let length: usize = field(&head, "content-length").map_or(0, |length| length.parse().unwrap());
    let mut body = body;
    while body.len() < length {
        if client.read_buf(&mut body).await? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok((head, body))
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}
