//! The messages of Docker's volume plugin protocol.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// How answers are labelled.
pub(super) const CONTENT_TYPE: &str = "application/vnd.docker.plugins.v1.1+json";

/// What Docker sends; which fields are filled depends on the call. What else it may send one day is ignored.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct Request {
    /// The volume.
    pub(super) name: String,
    /// What `docker volume create -o` was given. Docker sends `null` for none.
    pub(super) opts: Option<BTreeMap<String, String>>,
    /// One use by one container.
    #[serde(rename = "ID")]
    pub(super) id: String,
}

/// What is answered; only what a call has is sent.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Answer {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) implements: Option<Vec<&'static str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) mountpoint: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) volume: Option<Volume>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) volumes: Option<Vec<Volume>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) capabilities: Option<Capabilities>,
    /// Empty when all went well.
    pub(super) err: String,
}

/// A volume.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Volume {
    pub(super) name: String,
    /// Empty when it is not mounted.
    pub(super) mountpoint: String,
    pub(super) created_at: String,
    /// What `docker volume inspect` shows; not in lists.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) status: Option<serde_json::Map<String, serde_json::Value>>,
}

/// Where the volumes can be used.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Capabilities {
    /// `local`: on this machine.
    pub(super) scope: &'static str,
}
