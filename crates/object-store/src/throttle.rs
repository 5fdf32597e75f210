//! Holds back what goes over the line to so many bytes a second, by the time of day.
//!
//! It stands above the wrapper that retries: waiting for one's turn is not a store that does not answer. A request goes at
//! once and at full speed, and those after it wait until what it moved is paid for; so the rate holds over some seconds,
//! and a part of 8 MiB is never cut. Which rate holds is asked again at least every second, also by those who wait.

use std::fmt::Debug;
use std::fs::File;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use strongroom_model::{Clock, DayWindow};
use strongroom_repository::abilities::Claims;
use strongroom_repository::layout::ObjectName;
use strongroom_repository::store::{Deleted, ListPage, ObjectInfo, ObjectStore, StoreError, Upload};
use tokio::sync::Mutex;
use tokio::time::Instant;

/// How many bytes a second may go at a time of day; the first that fits the moment counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RateLimit {
    /// When.
    pub window: DayWindow,
    /// Towards the store; `None`: as many as the line takes.
    pub upload: Option<u64>,
    /// From the store.
    pub download: Option<u64>,
}

/// The longest pause before the clock is looked at again.
const LOOK: Duration = Duration::from_secs(1);

#[derive(Debug, Clone, Copy)]
enum Way {
    Up,
    Down,
}

/// What was moved and is not paid for yet.
#[derive(Debug)]
struct Debt {
    bytes: f64,
    since: Instant,
}

#[derive(Debug)]
struct Line {
    limits: Vec<RateLimit>,
    zone: TimeZone,
    clock: Arc<dyn Clock>,
    up: Mutex<Debt>,
    down: Mutex<Debt>,
}

impl Line {
    fn rate(&self, way: Way) -> Option<u64> {
        let now = self.clock.now();
        let limit = self.limits.iter().find(|limit| limit.window.contains(now, &self.zone))?;
        match way {
            Way::Up => limit.upload,
            Way::Down => limit.download,
        }
    }

    /// Waits for one's turn, then owes `bytes`. Who comes first goes first.
    async fn pass(&self, way: Way, bytes: u64) {
        let mut debt = match way {
            Way::Up => self.up.lock().await,
            Way::Down => self.down.lock().await,
        };
        loop {
            let now = Instant::now();
            let passed = now.duration_since(debt.since).as_secs_f64();
            debt.since = now;
            let Some(rate) = self.rate(way) else {
                debt.bytes = 0.0;
                return;
            };
            #[expect(clippy::cast_precision_loss, reason = "a rate and a part are far below 2^52")]
            let (rate, bytes) = (rate.max(1) as f64, bytes as f64);
            debt.bytes = (debt.bytes - passed * rate).max(0.0);
            if debt.bytes == 0.0 {
                debt.bytes = bytes;
                return;
            }
            tokio::time::sleep(Duration::from_secs_f64((debt.bytes / rate).min(LOOK.as_secs_f64()))).await;
        }
    }

    /// Owes for what came although nobody knew how much it would be.
    async fn owe(&self, way: Way, bytes: usize) {
        #[expect(clippy::cast_precision_loss, reason = "an object in memory is far below 2^52 bytes")]
        match way {
            Way::Up => self.up.lock().await.bytes += bytes as f64,
            Way::Down => self.down.lock().await.bytes += bytes as f64,
        }
    }
}

/// A store that is used at a bounded rate.
#[derive(Debug)]
pub struct Throttle {
    inner: Arc<dyn ObjectStore>,
    line: Arc<Line>,
}

impl Throttle {
    /// Holds `inner` to `limits`, by the wall clock of `zone`.
    #[must_use]
    pub fn new(
        inner: Arc<dyn ObjectStore>,
        limits: Vec<RateLimit>,
        zone: TimeZone,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let debt = || Mutex::new(Debt { bytes: 0.0, since: Instant::now() });
        Self { inner, line: Arc::new(Line { limits, zone, clock, up: debt(), down: debt() }) }
    }
}

#[async_trait]
impl ObjectStore for Throttle {
    fn location(&self) -> String {
        self.inner.location()
    }

    async fn create(&self, name: &ObjectName, body: Bytes) -> Result<(), StoreError> {
        self.line.pass(Way::Up, body.len() as u64).await;
        self.inner.create(name, body).await
    }

    async fn put(&self, name: &ObjectName, body: Bytes) -> Result<(), StoreError> {
        self.line.pass(Way::Up, body.len() as u64).await;
        self.inner.put(name, body).await
    }

    async fn upload(&self, name: &ObjectName) -> Result<Box<dyn Upload>, StoreError> {
        let inner = self.inner.upload(name).await?;
        Ok(Box::new(ThrottledUpload { inner, line: Arc::clone(&self.line) }))
    }

    /// Where a rate holds, a file goes in parts: as one it would fill the line for as long as it takes.
    fn takes_files(&self) -> bool {
        self.line.rate(Way::Up).is_none() && self.inner.takes_files()
    }

    async fn put_file(&self, name: &ObjectName, file: &File, bytes: u64) -> Result<(), StoreError> {
        self.line.pass(Way::Up, bytes).await;
        self.inner.put_file(name, file, bytes).await
    }

    async fn get(&self, name: &ObjectName) -> Result<Bytes, StoreError> {
        self.line.pass(Way::Down, 0).await;
        let bytes = self.inner.get(name).await?;
        self.line.owe(Way::Down, bytes.len()).await;
        Ok(bytes)
    }

    async fn get_range(&self, name: &ObjectName, start: u64, length: u64) -> Result<Bytes, StoreError> {
        self.line.pass(Way::Down, length).await;
        self.inner.get_range(name, start, length).await
    }

    async fn head(&self, name: &ObjectName) -> Result<ObjectInfo, StoreError> {
        self.inner.head(name).await
    }

    async fn list(&self, prefix: &str, after: Option<&str>) -> Result<ListPage, StoreError> {
        self.inner.list(prefix, after).await
    }

    async fn delete(&self, name: &ObjectName) -> Result<Deleted, StoreError> {
        self.inner.delete(name).await
    }

    fn distrust(&self, name: &ObjectName) -> bool {
        self.inner.distrust(name)
    }

    fn lock_span(&self) -> Option<Duration> {
        self.inner.lock_span()
    }

    async fn prolong(&self, name: &ObjectName) -> Result<Option<Timestamp>, StoreError> {
        self.inner.prolong(name).await
    }

    async fn claims(&self, scratch: &ObjectName) -> Result<Claims, StoreError> {
        self.inner.claims(scratch).await
    }
}

#[derive(Debug)]
struct ThrottledUpload {
    inner: Box<dyn Upload>,
    line: Arc<Line>,
}

#[async_trait]
impl Upload for ThrottledUpload {
    async fn part(&self, number: u32, body: Bytes) -> Result<(), StoreError> {
        self.line.pass(Way::Up, body.len() as u64).await;
        self.inner.part(number, body).await
    }

    async fn complete(&self, parts: u32) -> Result<(), StoreError> {
        self.inner.complete(parts).await
    }

    async fn abort(&self) -> Result<(), StoreError> {
        self.inner.abort().await
    }
}

#[cfg(test)]
mod tests {
    use jiff::{SignedDuration, Timestamp};

    use super::*;
    use crate::memory::MemoryStore;

    /// The wall clock goes with tokio's own, which tests turn.
    #[derive(Debug)]
    struct Virtual(Timestamp, Instant);

    impl Clock for Virtual {
        fn now(&self) -> Timestamp {
            self.0 + SignedDuration::try_from(self.1.elapsed()).unwrap()
        }
    }

    fn throttle(begin: &str, limits: &[(&str, &str, Option<u64>)]) -> Throttle {
        let limit = |(from, to, rate): &(&str, &str, Option<u64>)| RateLimit {
            window: DayWindow { from: from.parse().unwrap(), to: to.parse().unwrap() },
            upload: *rate,
            download: rate.map(|rate| rate * 2),
        };
        let clock = Arc::new(Virtual(begin.parse().unwrap(), Instant::now()));
        let zone = TimeZone::get("Europe/Berlin").unwrap();
        Throttle::new(Arc::new(MemoryStore::default()), limits.iter().map(limit).collect(), zone, clock)
    }

    async fn put(store: &Throttle, number: u64, bytes: usize) {
        store.put(&ObjectName::journal(number), vec![0; bytes].into()).await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_rate_holds_over_some_seconds_whoever_sends() {
        let store = throttle("2026-07-01T09:00:00Z", &[("08:00", "18:00", Some(1000))]);
        let begun = Instant::now();
        let puts = (0..11).map(|number| put(&store, number, 1000));
        futures::future::join_all(puts).await;
        assert_eq!(begun.elapsed().as_secs(), 10, "the last one goes when ten are paid for");
        store.get_range(&ObjectName::journal(1), 0, 1000).await.unwrap();
        let begun = Instant::now();
        store.get_range(&ObjectName::journal(1), 0, 1000).await.unwrap();
        assert!((400..700).contains(&begun.elapsed().as_millis()), "the other way has a rate of its own");
    }

    #[tokio::test(start_paused = true)]
    async fn when_the_hour_changes_those_who_wait_go_on_at_the_new_rate() {
        // 17:59:50 in Berlin: ten seconds at 10 B/s, then none at all.
        let store = throttle("2026-07-01T15:59:50Z", &[("08:00", "18:00", Some(10))]);
        let begun = Instant::now();
        for number in 0..20 {
            put(&store, number, 1_000_000).await;
        }
        assert!((9..=11).contains(&begun.elapsed().as_secs()), "{:?}", begun.elapsed());
        // Out of every window nothing is held back.
        let begun = Instant::now();
        put(&store, 21, 50_000_000).await;
        assert_eq!(begun.elapsed().as_secs(), 0);
    }
}
