//! Finds out what a store can really do, by doing it.
//!
//! It works with any store, through the trait alone, and asks the adapter only what the verbs cannot show. Everything
//! it writes lies below `probe/<random>/` and is deleted again, as far as the store lets us.

use bytes::Bytes;
use futures::future::join_all;
use jiff::Timestamp;
use strongroom_model::World;
use strongroom_repository::abilities::{Abilities, CreateOnly};
use strongroom_repository::layout::ObjectName;
use strongroom_repository::store::{ObjectStore, StoreError};

/// How many names are raced for, and by how many.
const NAMES: usize = 8;
const RACERS: usize = 16;
/// How many objects are written, looked for, deleted and looked for again.
const ROUNDS: usize = 8;

/// Tries what the store does.
///
/// # Errors
/// When the store cannot be written to or read from at all. That it does something wrong is a result, not an error.
pub async fn probe(store: &dyn ObjectStore, world: &World) -> Result<Abilities, StoreError> {
    let mut id = [0; 16];
    world.entropy.fill(&mut id);
    let names = Names(id);
    let result = try_all(store, world, names).await;
    names.clean(store).await;
    result
}

async fn try_all(store: &dyn ObjectStore, world: &World, names: Names) -> Result<Abilities, StoreError> {
    // First what must work everywhere, so that a missing bucket or right is told as what it is.
    let clock_ahead_ms = clock_ahead(store, world, &names.scratch()).await?;
    let create_only = one_after_the_other(store, &names.created()).await?;
    let (create_only, most_winners) = match create_only {
        CreateOnly::Atomic => race(store, names).await?,
        lie => (lie, 0),
    };
    let seen = consistency(store, names).await?;
    let _ = store.delete(&names.scratch()).await;
    let claims = store.claims(&names.scratch()).await?;
    Ok(Abilities {
        probed_at: world.clock.now(),
        create_only,
        most_winners,
        read_after_write: seen.read_after_write,
        list_after_write: seen.list_after_write,
        delete_is_seen: seen.delete,
        claims,
        clock_ahead_ms,
    })
}

/// The names that one probe uses.
#[derive(Debug, Clone, Copy)]
struct Names([u8; 16]);

impl Names {
    fn scratch(self) -> ObjectName {
        ObjectName::probe(self.0, "scratch")
    }

    fn created(self) -> ObjectName {
        ObjectName::probe(self.0, "created")
    }

    fn raced(self, number: usize) -> ObjectName {
        ObjectName::probe(self.0, &format!("raced-{number}"))
    }

    fn round(self, number: usize) -> ObjectName {
        ObjectName::probe(self.0, &format!("round-{number}"))
    }

    /// Deletes what there may be. A store that does not let us delete keeps it: it is small.
    async fn clean(self, store: &dyn ObjectStore) {
        let rest = (0..NAMES).map(|number| self.raced(number));
        let rest = rest.chain((0..ROUNDS).map(|number| self.round(number)));
        let rest: Vec<_> = rest.chain([self.scratch(), self.created()]).collect();
        join_all(rest.iter().map(|name| store.delete(name))).await;
    }
}

/// How far the store's clock is ahead: against the middle of our own time before and after.
async fn clock_ahead(
    store: &dyn ObjectStore,
    world: &World,
    name: &ObjectName,
) -> Result<Option<i64>, StoreError> {
    let before = world.clock.now();
    store.put(name, Bytes::from_static(b"what time is it?")).await?;
    let written = world.clock.now();
    let info = store.head(name).await?;
    let after = world.clock.now();
    let (theirs, ours) = match info.store_time {
        Some(time) => (time, middle(written, after)),
        // What it wrote a moment ago it dated a moment ago.
        None => (info.last_modified, middle(before, written)),
    };
    // A store without a clock dates everything to the beginning of time.
    Ok((theirs != Timestamp::UNIX_EPOCH).then(|| theirs.as_millisecond() - ours))
}

fn middle(from: Timestamp, to: Timestamp) -> i64 {
    i64::midpoint(from.as_millisecond(), to.as_millisecond())
}

/// Two create-only writes of one name: the second must change nothing and say so.
async fn one_after_the_other(store: &dyn ObjectStore, name: &ObjectName) -> Result<CreateOnly, StoreError> {
    let (first, second) = (Bytes::from_static(b"the first"), Bytes::from_static(b"the second"));
    match store.create(name, first.clone()).await {
        Ok(()) => {}
        Err(StoreError::Rejected { .. }) => return Ok(CreateOnly::Unsupported),
        Err(error) => {
            // A lost answer does not mean that it was not done.
            if store.get(name).await.is_ok_and(|stands| stands == first) {
                tracing::debug!(%error, "a create-only write was done and its answer lost");
            } else {
                return Err(error);
            }
        }
    }
    let said = store.create(name, second).await;
    let stands = store.get(name).await?;
    match said {
        Ok(()) => Ok(CreateOnly::Ignored),
        Err(StoreError::Exists { .. }) if stands == first => Ok(CreateOnly::Atomic),
        Err(StoreError::Exists { .. }) => Ok(CreateOnly::Ignored),
        // The first one passed because the condition was not looked at.
        Err(StoreError::Rejected { .. }) => Ok(CreateOnly::Unsupported),
        Err(error) => Err(error),
    }
}

/// Sixteen create-only writes at once on each of eight names.
async fn race(store: &dyn ObjectStore, names: Names) -> Result<(CreateOnly, u32), StoreError> {
    let raced: Vec<_> = (0..NAMES).map(|number| names.raced(number)).collect();
    let racers = raced.iter().flat_map(|name| (0..RACERS).map(move |racer| (name, racer)));
    let answers = join_all(racers.map(|(name, racer)| async move {
        let body = Bytes::from(format!("racer {racer}"));
        (name, body.clone(), store.create(name, body).await)
    }))
    .await;
    let mut most = 0;
    let mut atomic = true;
    for name in &raced {
        let stands = store.get(name).await?;
        let winners: Vec<_> = answers
            .iter()
            .filter(|(of, _, answer)| *of == name && answer.is_ok())
            .map(|(_, body, _)| body)
            .collect();
        // Nobody may have heard that it won; but who heard it must be the one whose body stands there.
        atomic &= winners.len() <= 1 && winners.iter().all(|body| **body == stands);
        most = most.max(u32::try_from(winners.len()).unwrap_or(u32::MAX));
    }
    Ok((if atomic { CreateOnly::Atomic } else { CreateOnly::Racy }, most.max(u32::from(atomic))))
}

struct Seen {
    read_after_write: bool,
    list_after_write: bool,
    delete: bool,
}

/// Writes, looks, deletes and looks again.
async fn consistency(store: &dyn ObjectStore, names: Names) -> Result<Seen, StoreError> {
    let mut seen = Seen { read_after_write: true, list_after_write: true, delete: true };
    for number in 0..ROUNDS {
        let (name, body) = (names.round(number), Bytes::from(format!("round {number}")));
        store.put(&name, body.clone()).await?;
        seen.read_after_write &= match (store.get(&name).await, store.head(&name).await) {
            (Ok(stands), Ok(info)) => stands == body && info.bytes == body.len() as u64,
            (Err(StoreError::NotFound { .. }), _) | (_, Err(StoreError::NotFound { .. })) => false,
            (Err(error), _) | (_, Err(error)) => return Err(error),
        };
        seen.list_after_write &= is_listed(store, &name).await?;
        // A writer without the right to delete is a good thing to be: then there is nothing to look at.
        if store
            .delete(&name)
            .await
            .is_ok_and(|deleted| deleted == strongroom_repository::store::Deleted::Gone)
        {
            let gone = matches!(store.get(&name).await, Err(StoreError::NotFound { .. }))
                && matches!(store.head(&name).await, Err(StoreError::NotFound { .. }));
            seen.delete &= gone && !is_listed(store, &name).await?;
        }
    }
    Ok(seen)
}

async fn is_listed(store: &dyn ObjectStore, name: &ObjectName) -> Result<bool, StoreError> {
    let page = store.list(name.as_str(), None).await?;
    Ok(page.objects.iter().any(|object| object.name == name.as_str()))
}

#[cfg(test)]
mod tests;
