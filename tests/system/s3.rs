//! The real S3 server that `tests/servers/with-s3` runs the tests beside.

use std::env;

/// Where the server is. Credentials come with the environment, as they do for a user.
#[derive(Debug)]
pub(crate) struct Server {
    endpoint: String,
    bucket: String,
}

/// The server, or `None`, said loudly, when the tests run without one.
pub(crate) fn server(test: &str) -> Option<Server> {
    match (env::var("STRONGROOM_TEST_S3"), env::var("STRONGROOM_TEST_BUCKET")) {
        (Ok(endpoint), Ok(bucket)) if !endpoint.is_empty() => Some(Server { endpoint, bucket }),
        _ => {
            println!("SKIPPED: {test} needs an S3 server: run it under tests/servers/with-s3");
            None
        }
    }
}

impl Server {
    /// A URL that no other test uses.
    pub(crate) fn fresh_prefix(&self) -> String {
        let unique =
            tempfile::Builder::new().prefix("").rand_bytes(12).tempdir().expect("a temporary directory");
        let name = unique.path().file_name().expect("it has a name").to_string_lossy().into_owned();
        format!("s3://{}/system/{name}", self.bucket)
    }

    /// Where it is.
    pub(crate) fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// What a command needs in its environment to reach it.
    pub(crate) fn env(&self) -> Vec<(String, String)> {
        let handed_on =
            ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION", "AWS_EC2_METADATA_DISABLED"];
        let mut env: Vec<_> =
            handed_on.iter().filter_map(|name| Some(((*name).to_owned(), env::var(name).ok()?))).collect();
        env.push(("AWS_ENDPOINT_URL".to_owned(), self.endpoint.clone()));
        env
    }
}
