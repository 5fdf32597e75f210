//! The client of the SDK, set up so that nothing happens behind our back.

use aws_config::meta::region::RegionProviderChain;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, environment, profile};
use aws_sdk_s3::Client;
use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::config::{
    Region, RequestChecksumCalculation, ResponseChecksumValidation, SharedCredentialsProvider,
    StalledStreamProtectionConfig,
};
use aws_smithy_http_client::tls;

use crate::settings::{ChecksumMode, S3Settings};

/// Where no region is configured anywhere. Stores other than AWS mostly do not care.
const FALLBACK_REGION: &str = "us-east-1";

pub(super) async fn connect(settings: &S3Settings, credentials: Option<SharedCredentialsProvider>) -> Client {
    let http = aws_smithy_http_client::Builder::new()
        .pool_idle_timeout(settings.idle_timeout)
        .tls_provider(tls::Provider::Rustls(tls::rustls_provider::CryptoMode::AwsLc))
        .build_https();
    let timeouts = TimeoutConfig::builder()
        .connect_timeout(settings.connect_timeout)
        .operation_attempt_timeout(settings.attempt_timeout)
        .build();
    let mut loader = aws_config::defaults(BehaviorVersion::latest())
        .region(region(settings))
        .http_client(http)
        .timeout_config(timeouts)
        .retry_config(RetryConfig::disabled())
        .stalled_stream_protection(StalledStreamProtectionConfig::disabled());
    if let Some(profile) = &settings.profile {
        loader = loader.profile_name(profile);
    }
    if let Some(credentials) = credentials {
        loader = loader.credentials_provider(credentials);
    }
    let shared = loader.load().await;
    let (send, check) = match settings.checksums {
        ChecksumMode::WhenSupported => {
            (RequestChecksumCalculation::WhenSupported, ResponseChecksumValidation::WhenSupported)
        }
        ChecksumMode::WhenRequired => {
            (RequestChecksumCalculation::WhenRequired, ResponseChecksumValidation::WhenRequired)
        }
    };
    let mut config = aws_sdk_s3::config::Builder::from(&shared)
        .request_checksum_calculation(send)
        .response_checksum_validation(check)
        .force_path_style(
            settings.path_style.unwrap_or(settings.endpoint.is_some() || shared.endpoint_url().is_some()),
        );
    if let Some(endpoint) = &settings.endpoint {
        config = config.endpoint_url(endpoint);
    }
    Client::from_conf(config.build())
}

/// What the settings say, or the SDK's chain, or the fallback. With an endpoint of one's own the chain is not followed
/// to the metadata service of a cloud: looking for that takes seconds where there is none.
fn region(settings: &S3Settings) -> RegionProviderChain {
    let chain = RegionProviderChain::first_try(settings.region.clone().map(Region::new));
    let chain = if settings.endpoint.is_some() {
        chain
            .or_else(environment::region::EnvironmentVariableRegionProvider::new())
            .or_else(profile::region::ProfileFileRegionProvider::new())
    } else {
        chain.or_default_provider()
    };
    chain.or_else(Region::from_static(FALLBACK_REGION))
}
