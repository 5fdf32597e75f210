//! Where the real servers are, and how the tests speak to them.

use std::sync::Arc;
use std::time::Duration;

use aws_credential_types::Credentials;
use aws_sdk_s3::config::SharedCredentialsProvider;
use jiff::Timestamp;
use strongroom_model::{Clock, Entropy, World};
use strongroom_object_store::S3Settings;
use strongroom_object_store::s3::S3Store;

/// A server that `tests/servers/with-s3` started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Server {
    Radosgw,
    LocalStack,
}

impl Server {
    /// Its URL, or nothing, said loudly.
    pub(crate) fn endpoint(self) -> Option<String> {
        let (variable, name) = match self {
            Self::Radosgw => ("STRONGROOM_TEST_S3", "Ceph radosgw"),
            Self::LocalStack => ("STRONGROOM_TEST_S3_LOCALSTACK", "LocalStack"),
        };
        let endpoint = std::env::var(variable).ok().filter(|url| !url.is_empty());
        if endpoint.is_none() {
            eprintln!("SKIPPED: no {name}; run under tests/servers/with-s3 ({variable} is not set)");
        }
        endpoint
    }
}

pub(crate) fn bucket() -> String {
    std::env::var("STRONGROOM_TEST_BUCKET").unwrap_or_else(|_| "strongroom-test".to_owned())
}

/// Quick to give up, as tests want it.
pub(crate) fn settings(endpoint: &str) -> S3Settings {
    S3Settings {
        endpoint: Some(endpoint.to_owned()),
        region: Some("us-east-1".to_owned()),
        attempt_timeout: Duration::from_secs(30),
        stall_timeout: Duration::from_secs(2),
        ..S3Settings::default()
    }
}

pub(crate) fn keys(secret: &str) -> SharedCredentialsProvider {
    SharedCredentialsProvider::new(Credentials::new("testing", secret, None, None, "test"))
}

/// A store below a prefix of its own.
pub(crate) async fn store(settings: &S3Settings) -> S3Store {
    let prefix = format!("tests/{}", hex(&scope()));
    S3Store::connect_as(&bucket(), &prefix, settings, keys("testing123")).await
}

pub(crate) fn scope() -> [u8; 16] {
    let mut id = [0; 16];
    SystemEntropy.fill(&mut id);
    id
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[derive(Debug)]
struct SystemClock;
impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }
}

#[derive(Debug)]
struct SystemEntropy;
impl Entropy for SystemEntropy {
    fn fill(&self, bytes: &mut [u8]) {
        use std::io::Read;
        std::fs::File::open("/dev/urandom").unwrap().read_exact(bytes).unwrap();
    }
}

pub(crate) fn world() -> World {
    World { clock: Arc::new(SystemClock), entropy: Arc::new(SystemEntropy) }
}
