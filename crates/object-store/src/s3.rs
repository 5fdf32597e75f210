//! Objects in a bucket.
use crate::memory::MemoryStore;
use crate::settings::S3Settings;
/// for now
pub type S3Store = MemoryStore;
impl S3Store {
    /// for now
    pub async fn connect(_bucket: &str, _prefix: &str, _settings: &S3Settings) -> Self {
        Self::default()
    }
}
