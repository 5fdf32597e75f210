//! A store in memory that loses answers, applies requests late or twice, fails, and hides objects from LIST:
//! all from one seed.
//!
//! Time is the runtime's paused clock: a request takes some milliseconds to get here and its answer some to get
//! back, and now and then its sender is paused for much longer, all drawn from the seed. So who comes before
//! whom is decided by the seed alone. Every request goes into a hash, the trace: two runs of one seed have the
//! same.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use jiff::{SignedDuration, Timestamp};

use super::oracle::Oracle;
use crate::layout::ObjectName;
use crate::store::{Deleted, ListPage, Listed, ObjectInfo, ObjectStore, StoreError, Upload};

/// How often, of a thousand requests, something goes wrong.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Faults {
    /// Applied, and the answer is lost.
    pub(crate) lost_answer: u32,
    /// Not applied now, but some time later; the answer is lost.
    pub(crate) late: u32,
    /// Applied now and once more later.
    pub(crate) twice: u32,
    /// Not applied at all.
    pub(crate) failed: u32,
    /// Of a thousand objects in a listing, so many are left out.
    pub(crate) hidden: u32,
    /// Of a thousand requests, so many come after their sender was paused for long.
    pub(crate) pauses: u32,
    /// How long such a pause may be.
    pub(crate) pause_ms: u64,
    /// How long a request or an answer may be under way; 0: no time passes.
    pub(crate) latency_ms: u64,
}

#[derive(Debug, Clone)]
enum Request {
    Create(String, Bytes),
    Put(String, Bytes),
    Delete(String),
}

/// A store with faults. Clones share everything.
#[derive(Debug, Clone)]
pub(crate) struct FaultyStore {
    shared: Arc<Mutex<State>>,
    /// Without faults and pauses: for whoever looks on.
    quiet: bool,
}

#[derive(Debug)]
struct State {
    objects: BTreeMap<String, (Bytes, Timestamp)>,
    locked: Vec<String>,
    now: Timestamp,
    random: u64,
    faults: Faults,
    under_way: Vec<Request>,
    log: Option<Vec<String>>,
    requests: u64,
    trace: blake3::Hasher,
    began: tokio::time::Instant,
    oracle: Option<Oracle>,
    /// Faults by plan: the next request of this verb on a name that begins like this meets this.
    planned: Vec<(&'static str, String, Fault)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    None,
    LostAnswer,
    Late,
    Twice,
    Failed,
}

impl FaultyStore {
    pub(crate) fn new(seed: u64, faults: Faults) -> Self {
        let shared = Arc::new(Mutex::new(State {
            objects: BTreeMap::new(),
            locked: Vec::new(),
            now: "2026-01-01T00:00:00Z".parse().unwrap(),
            random: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1,
            faults,
            under_way: Vec::new(),
            log: Some(Vec::new()),
            requests: 0,
            trace: blake3::Hasher::new(),
            began: tokio::time::Instant::now(),
            oracle: None,
            planned: Vec::new(),
        }));
        Self { shared, quiet: false }
    }

    /// The same store, as it is for one who meets no faults.
    pub(crate) fn quiet(&self) -> Self {
        Self { quiet: true, ..self.clone() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.lock().unwrap()
    }

    /// The next request of `verb` on a name that begins with `prefix` meets this fault.
    pub(crate) fn plan(&self, verb: &'static str, prefix: &str, fault: Fault) {
        self.state().planned.push((verb, prefix.to_owned(), fault));
    }

    pub(crate) fn set_faults(&self, faults: Faults) {
        self.state().faults = faults;
    }

    /// A number below `below`, from the seed.
    pub(crate) fn random(&self, below: u64) -> u64 {
        self.state().random() % below.max(1)
    }

    /// Lets the store's clock run.
    pub(crate) fn pass(&self, time: SignedDuration) {
        self.state().now += time;
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.state().now
    }

    /// Applies one request that is still under way, chosen at random; false when there is none.
    pub(crate) fn arrive(&self) -> bool {
        let mut state = self.state();
        if state.under_way.is_empty() {
            return false;
        }
        let chosen = usize::try_from(state.random()).unwrap_or(0) % state.under_way.len();
        let request = state.under_way.swap_remove(chosen);
        state.note("LATE", request.name(), Fault::None);
        let _ = state.apply(request);
        true
    }

    pub(crate) fn names(&self, prefix: &str) -> Vec<String> {
        self.state().below(prefix)
    }

    pub(crate) fn object(&self, name: &str) -> Option<Bytes> {
        self.state().objects.get(name).map(|(bytes, _)| bytes.clone())
    }

    pub(crate) fn remove(&self, name: &str) -> Option<Bytes> {
        self.state().objects.remove(name).map(|(bytes, _)| bytes)
    }

    /// From now on somebody looks on who judges what becomes of the objects.
    pub(crate) fn set_oracle(&self, oracle: Oracle) {
        self.state().oracle = Some(oracle);
    }

    /// Asks, or tells, who looks on.
    pub(crate) fn with_oracle<T>(&self, with: impl FnOnce(&mut Oracle) -> T) -> T {
        with(self.state().oracle.as_mut().unwrap())
    }

    /// Keeps no list of the requests.
    pub(crate) fn keep_no_log(&self) {
        self.state().log = None;
    }

    /// How many requests there were, and what they hash to.
    pub(crate) fn trace(&self) -> (u64, [u8; 32]) {
        let state = self.state();
        (state.requests, *state.trace.finalize().as_bytes())
    }

    pub(crate) fn replace(&self, name: &str, bytes: impl Into<Bytes>) {
        let now = self.now();
        self.state().objects.insert(name.to_owned(), (bytes.into(), now));
    }

    /// Puts a retention lock on an object.
    pub(crate) fn lock_object(&self, name: &str) {
        self.state().locked.push(name.to_owned());
    }

    pub(crate) fn unlock_objects(&self) {
        self.state().locked.clear();
    }

    /// All objects as they are now, and back.
    pub(crate) fn image(&self) -> BTreeMap<String, (Bytes, Timestamp)> {
        self.state().objects.clone()
    }

    pub(crate) fn put_back(&self, image: BTreeMap<String, (Bytes, Timestamp)>) {
        self.state().objects = image;
    }

    /// The requests since the last call, as `VERB name`.
    pub(crate) fn take_log(&self) -> Vec<String> {
        self.state().log.as_mut().map(std::mem::take).unwrap_or_default()
    }

    async fn step(&self, verb: &str, name: &str) -> Fault {
        if self.quiet {
            return Fault::None;
        }
        let pause_ms = {
            let mut state = self.state();
            let Faults { pauses, pause_ms, latency_ms, .. } = state.faults;
            let pause = if state.chance(pauses) { state.random() % pause_ms.max(1) } else { 0 };
            pause + state.random() % latency_ms.max(1)
        };
        self.wait(pause_ms).await;
        let mut state = self.state();
        let fault = state.fault(verb, name);
        state.note(verb, name, fault);
        fault
    }

    /// Others may do any number of things meanwhile.
    async fn wait(&self, ms: u64) {
        if self.state().faults.latency_ms > 0 {
            tokio::time::sleep(Duration::from_millis(ms + 1)).await;
        }
    }

    async fn answer_comes_back(&self) {
        let ms = {
            let mut state = self.state();
            state.random() % state.faults.latency_ms.max(1)
        };
        self.wait(ms).await;
    }

    async fn write(&self, verb: &str, request: Request) -> Result<(), StoreError> {
        let name = request.name().to_owned();
        let fault = self.step(verb, &name).await;
        let answer = {
            let mut state = self.state();
            match fault {
                Fault::None => state.apply(request),
                Fault::LostAnswer => {
                    let _ = state.apply(request);
                    Err(silence(&name))
                }
                Fault::Late => {
                    state.under_way.push(request);
                    Err(silence(&name))
                }
                Fault::Twice => {
                    let answer = state.apply(request.clone());
                    state.under_way.push(request);
                    answer
                }
                Fault::Failed => Err(silence(&name)),
            }
        };
        // A crash may come between the request and its answer.
        if !self.quiet {
            self.answer_comes_back().await;
        }
        tokio::task::yield_now().await;
        answer
    }

    async fn read(&self, verb: &str, name: &ObjectName) -> Result<(Bytes, Timestamp), StoreError> {
        match self.step(verb, name.as_str()).await {
            Fault::None | Fault::Twice => {}
            _ => return Err(silence(name.as_str())),
        }
        let found = self.state().objects.get(name.as_str()).cloned();
        if !self.quiet {
            self.answer_comes_back().await;
        }
        found.ok_or_else(|| StoreError::NotFound { name: name.as_str().to_owned() })
    }
}

impl Request {
    fn name(&self) -> &str {
        match self {
            Self::Create(name, _) | Self::Put(name, _) | Self::Delete(name) => name,
        }
    }
}

impl State {
    fn below(&self, prefix: &str) -> Vec<String> {
        let from = self.objects.range(prefix.to_owned()..).map(|(name, _)| name);
        from.take_while(|name| name.starts_with(prefix)).cloned().collect()
    }

    fn random(&mut self) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random >> 11
    }

    fn chance(&mut self, of_thousand: u32) -> bool {
        of_thousand > 0 && self.random() % 1000 < u64::from(of_thousand)
    }

    fn fault(&mut self, verb: &str, name: &str) -> Fault {
        if let Some(at) =
            self.planned.iter().position(|(planned, prefix, _)| *planned == verb && name.starts_with(prefix))
        {
            return self.planned.remove(at).2;
        }
        let Faults { lost_answer, late, twice, failed, .. } = self.faults;
        for (of_thousand, fault) in [
            (lost_answer, Fault::LostAnswer),
            (late, Fault::Late),
            (twice, Fault::Twice),
            (failed, Fault::Failed),
        ] {
            if self.chance(of_thousand) {
                return fault;
            }
        }
        Fault::None
    }

    fn note(&mut self, verb: &str, name: &str, fault: Fault) {
        self.requests += 1;
        let ms = u64::try_from(self.began.elapsed().as_millis()).unwrap();
        for part in [&ms.to_le_bytes()[..], verb.as_bytes(), name.as_bytes(), &[fault as u8]] {
            self.trace.update(part);
        }
        if let Some(log) = &mut self.log {
            let when = if ms > 0 { format!(" after {ms} ms") } else { String::new() };
            let how = if fault == Fault::None { String::new() } else { format!(" {fault:?}") };
            log.push(format!("{verb} {name}{how}{when}"));
        }
    }

    fn apply(&mut self, request: Request) -> Result<(), StoreError> {
        let now = self.now;
        let (name, written) = match &request {
            Request::Create(name, body) | Request::Put(name, body) => (name.clone(), Some(body.clone())),
            Request::Delete(name) => (name.clone(), None),
        };
        match request {
            Request::Create(name, _) if self.objects.contains_key(&name) => {
                return Err(StoreError::Exists { name });
            }
            Request::Create(name, body) | Request::Put(name, body) => {
                drop(self.objects.insert(name, (body, now)))
            }
            Request::Delete(name) => drop(self.objects.remove(&name)),
        }
        if let Some(oracle) = &mut self.oracle {
            oracle.sees(&name, written);
        }
        Ok(())
    }
}

fn silence(name: &str) -> StoreError {
    StoreError::Unavailable { location: "simulation".into(), name: name.into(), reason: "no answer".into() }
}

#[async_trait]
impl ObjectStore for FaultyStore {
    fn location(&self) -> String {
        "simulation".to_owned()
    }

    async fn create(&self, name: &ObjectName, body: Bytes) -> Result<(), StoreError> {
        self.write("CREATE", Request::Create(name.as_str().into(), body)).await
    }

    async fn put(&self, name: &ObjectName, body: Bytes) -> Result<(), StoreError> {
        self.write("PUT", Request::Put(name.as_str().into(), body)).await
    }

    async fn upload(&self, name: &ObjectName) -> Result<Box<dyn Upload>, StoreError> {
        Ok(Box::new(FaultyUpload { store: self.clone(), name: name.clone(), parts: Mutex::default() }))
    }

    async fn get(&self, name: &ObjectName) -> Result<Bytes, StoreError> {
        self.read("GET", name).await.map(|(bytes, _)| bytes)
    }

    async fn get_range(&self, name: &ObjectName, start: u64, length: u64) -> Result<Bytes, StoreError> {
        let (bytes, _) = self.read("GET", name).await?;
        let range = usize::try_from(start).unwrap()..usize::try_from(start + length).unwrap();
        if range.end > bytes.len() {
            let reason = "the range is beyond the end".to_owned();
            return Err(StoreError::Rejected {
                location: self.location(),
                name: name.as_str().into(),
                reason,
            });
        }
        Ok(bytes.slice(range))
    }

    async fn head(&self, name: &ObjectName) -> Result<ObjectInfo, StoreError> {
        let (bytes, last_modified) = self.read("HEAD", name).await?;
        Ok(ObjectInfo {
            bytes: bytes.len() as u64,
            last_modified,
            store_time: Some(self.now()),
            locked_until: None,
        })
    }

    async fn list(&self, prefix: &str, after: Option<&str>) -> Result<ListPage, StoreError> {
        if self.step("LIST", prefix).await == Fault::Failed {
            return Err(silence(prefix));
        }
        let mut state = self.state();
        let names = state.below(prefix);
        let mut objects = Vec::new();
        let hidden = if self.quiet { 0 } else { state.faults.hidden };
        for name in names {
            if after.is_some_and(|after| name.as_str() <= after) || state.chance(hidden) {
                continue;
            }
            let (bytes, last_modified) = &state.objects[&name];
            objects.push(Listed { name, bytes: bytes.len() as u64, last_modified: *last_modified });
            // Small pages, so that paging is tried as well.
            if objects.len() == 7 {
                return Ok(ListPage { objects, more: true });
            }
        }
        Ok(ListPage { objects, more: false })
    }

    async fn delete(&self, name: &ObjectName) -> Result<Deleted, StoreError> {
        if self.state().locked.iter().any(|locked| locked == name.as_str()) {
            return Ok(Deleted::Retained);
        }
        self.write("DELETE", Request::Delete(name.as_str().into())).await.map(|()| Deleted::Gone)
    }
}

#[derive(Debug)]
struct FaultyUpload {
    store: FaultyStore,
    name: ObjectName,
    parts: Mutex<BTreeMap<u32, Bytes>>,
}

#[async_trait]
impl Upload for FaultyUpload {
    async fn part(&self, number: u32, body: Bytes) -> Result<(), StoreError> {
        self.parts.lock().unwrap().insert(number, body);
        tokio::task::yield_now().await;
        Ok(())
    }

    async fn complete(&self, parts: u32) -> Result<(), StoreError> {
        let mut body = BytesMut::new();
        for number in 0..parts {
            body.extend_from_slice(&self.parts.lock().unwrap()[&number]);
        }
        self.store.write("PUT", Request::Put(self.name.as_str().into(), body.freeze())).await
    }

    async fn abort(&self) -> Result<(), StoreError> {
        Ok(())
    }
}
