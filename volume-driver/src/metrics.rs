//! What the driver tells about itself: `--metrics-listen`.
//!
//! A page has three parts: what was asked of the driver since it started ([`Calls`]), what a survey of pool and volumes
//! found, and how old that survey is. The survey is made for a scrape, on a thread of its own, one at a time and at most once
//! a second; a scrape waits for it a little and then shows the last one. So however slow a filesystem is, a scrape
//! neither hangs nor piles up behind another, and the age says so.
//!
//! How many lines a page has is bounded: by the number of our own methods, and by the 2,000 volumes that a survey lists.

mod calls;
mod page;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use prometheus_client::registry::Registry;
use strongroom_model::chain;
use strongroom_monitoring::{Watched, collected};

pub(crate) use calls::{Calls, CountCalls};

use crate::Volumes;
use crate::driver::Survey;

/// A survey younger than this is shown again.
const FRESH: Duration = Duration::from_secs(1);

/// How long a scrape waits for a survey.
const PATIENCE: Duration = Duration::from_secs(3);

/// A survey and when it was made.
#[derive(Debug, Clone)]
struct Surveyed {
    survey: Arc<Survey>,
    at: Instant,
    took: Duration,
}

/// The metrics of a driver.
#[derive(Debug)]
pub(crate) struct DriverMetrics {
    volumes: Volumes,
    calls: Calls,
    /// How many sentences the start had to report.
    findings: usize,
    began: Instant,
    last: Arc<Mutex<Option<Surveyed>>>,
    /// Held while a survey is made.
    surveying: Arc<tokio::sync::Mutex<()>>,
}

impl DriverMetrics {
    pub(crate) fn new(volumes: Volumes, calls: Calls, findings: usize) -> Self {
        Self {
            volumes,
            calls,
            findings,
            began: Instant::now(),
            last: Arc::default(),
            surveying: Arc::default(),
        }
    }

    fn last(&self) -> Option<Surveyed> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Makes a survey, unless there is a fresh one or one is being made.
    async fn refresh(&self) {
        if self.last().is_some_and(|last| last.at.elapsed() < FRESH) {
            return;
        }
        let Ok(turn) = Arc::clone(&self.surveying).try_lock_owned() else { return };
        let (volumes, last) = (self.volumes.clone(), Arc::clone(&self.last));
        // A task of its own: it goes on when the scrape gives up.
        let making = tokio::spawn(async move {
            let _turn = turn;
            let began = Instant::now();
            match volumes.survey().await {
                Ok(survey) => {
                    let made =
                        Surveyed { survey: Arc::new(survey), at: Instant::now(), took: began.elapsed() };
                    *last.lock().unwrap_or_else(PoisonError::into_inner) = Some(made);
                }
                Err(error) => tracing::warn!(error = chain(&error), "the volumes could not be surveyed"),
            }
        });
        let _ = tokio::time::timeout(PATIENCE, making).await;
    }
}

impl Watched for DriverMetrics {
    async fn metrics(&self) -> String {
        self.refresh().await;
        let mut registry = Registry::default();
        self.calls.register(&mut registry);
        let (node, findings, uptime) = (self.volumes.node().to_owned(), self.findings, self.began.elapsed());
        registry.register_collector(collected(move |page| page::process(page, &node, findings, uptime)));
        if let Some(last) = self.last() {
            registry.register_collector(collected(move |page| {
                page::survey(page, &last.survey)?;
                page::freshness(page, last.at.elapsed(), last.took)
            }));
        }
        let mut text = String::new();
        // Writing into a string cannot fail.
        let _ = prometheus_client::encoding::text::encode(&mut text, &registry);
        text
    }

    async fn ready(&self) -> Result<(), String> {
        self.volumes.capacity().await.map(drop).map_err(|error| chain(&error))
    }
}
