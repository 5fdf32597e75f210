//! A file as one object: one request whose body is streamed from the file.

use std::fs::File;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;

use aws_sdk_s3::config::Config;
use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::primitives::{ByteStream, Length};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use md5::{Digest as _, Md5};
use strongroom_repository::layout::ObjectName;
use strongroom_repository::store::{ObjectStore as _, PART_BYTES, StoreError};

use super::S3Store;

/// How much of the file is in memory at once.
const PIECE_BYTES: usize = 1 << 20;

impl S3Store {
    pub(super) async fn write_file(
        &self,
        name: &ObjectName,
        file: &File,
        bytes: u64,
    ) -> Result<(), StoreError> {
        let broken = |cause: &dyn std::fmt::Display| StoreError::Unavailable {
            location: self.location(),
            name: name.as_str().to_owned(),
            reason: format!("the file that is to be sent cannot be read: {cause}"),
        };
        // A descriptor of its own, with an offset of its own; the file may have no name.
        let path = PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()));
        let opened = File::open(&path).map_err(|cause| broken(&cause))?;
        let sums = tokio::task::spawn_blocking(move || Sums::of(&opened, bytes));
        let sums = sums.await.map_err(|cause| broken(&cause))?.map_err(|cause| broken(&cause))?;
        let body = ByteStream::read_from()
            .path(&path)
            .length(Length::Exact(bytes))
            .buffer_size(PIECE_BYTES)
            .build()
            .await
            .map_err(|cause| broken(&cause))?;
        let request = self
            .put_request(name)
            .content_length(i64::try_from(bytes).unwrap_or(i64::MAX))
            .content_md5(sums.md5)
            .set_checksum_crc32(self.checksum().map(|_| sums.crc32))
            .body(body);
        let request =
            request.customize().config_override(Config::builder().timeout_config(self.time_for(bytes)));
        request.send().await.map(drop).map_err(|error| self.error(name.as_str(), error))
    }

    /// As slow a line as a part may have.
    fn time_for(&self, bytes: u64) -> TimeoutConfig {
        let parts = u32::try_from(bytes.div_ceil(PART_BYTES as u64)).unwrap_or(u32::MAX).max(1);
        TimeoutConfig::builder()
            .connect_timeout(self.connect)
            .operation_attempt_timeout(self.attempt.saturating_mul(parts))
            .build()
    }
}

/// What a store compares the body with.
struct Sums {
    md5: String,
    crc32: String,
}

impl Sums {
    fn of(file: &File, bytes: u64) -> std::io::Result<Self> {
        let (mut md5, mut crc32) = (Md5::new(), crc32fast::Hasher::new());
        let (mut piece, mut at) = (vec![0; PIECE_BYTES], 0);
        while at < bytes {
            let length = usize::try_from(bytes - at).unwrap_or(PIECE_BYTES).min(PIECE_BYTES);
            file.read_exact_at(&mut piece[..length], at)?;
            md5.update(&piece[..length]);
            crc32.update(&piece[..length]);
            at += length as u64;
        }
        Ok(Self {
            md5: STANDARD.encode(md5.finalize()),
            crc32: STANDARD.encode(crc32.finalize().to_be_bytes()),
        })
    }
}
