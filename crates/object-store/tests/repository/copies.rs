//! Second copies: whole at every moment, whoever is killed; readable alone; and a second history only by promotion.

use std::sync::Arc;

use bytes::Bytes;
use strongroom_model::{Failure as _, RecoveryPointId, World};
use strongroom_object_store::copies::WithCopies;
use strongroom_object_store::faulty::{Failing, Fault, Faulty, Rule};
use strongroom_object_store::memory::MemoryStore;
use strongroom_object_store::record::Verb;
use strongroom_repository::copy::{CopyError, CopyReport, CopyState, copy_state};
use strongroom_repository::keys::{KeyFile, Unlock};
use strongroom_repository::layout::{ObjectKind, ObjectName};
use strongroom_repository::store::ObjectStore;
use strongroom_repository::sweep::SweepOptions;
use strongroom_repository::{OpenOptions, Repository};

use crate::world::{self, abilities, image, options, restore};

const SWEEP: SweepOptions = SweepOptions { min_hole_ratio: 0.01, max_rewrite_bytes: 4 << 30 };

type Store = Arc<dyn ObjectStore>;

struct Story {
    world: World,
    key: Unlock,
    first: Store,
    repository: Repository,
    /// Every point that is current, with its content.
    points: Vec<(RecoveryPointId, Vec<u8>)>,
    image: Vec<u8>,
}

impl Story {
    async fn begin(seed: u64) -> Self {
        let world = world::world(seed);
        let key = Unlock::KeyFile(KeyFile::generate(&*world.entropy));
        let first: Store = Arc::new(MemoryStore::default());
        let repository = world::init_in(Arc::clone(&first), &world, std::slice::from_ref(&key)).await;
        let image = image(seed, 40 * world::CHUNK_BYTES as usize);
        Self { world, key, first, repository, points: Vec::new(), image }
    }

    async fn back_up(&mut self, change: usize) {
        let at = change * world::CHUNK_BYTES as usize;
        self.image[at..at + 4096].fill(u8::try_from(change).unwrap() + 1);
        let point = world::back_up(&self.repository, &self.world, "db", &self.image).await;
        self.points.push((point, self.image.clone()));
    }

    /// The oldest point goes, and with it what it alone needs.
    async fn forget_and_sweep(&mut self) {
        let (oldest, _) = self.points.remove(0);
        self.repository.forget(oldest, "test").await.unwrap();
        self.repository.sweep(&SWEEP).await.unwrap();
    }

    async fn copy(&self, target: &Store) -> Result<CopyReport, CopyError> {
        self.repository.copy_to(target, Some(abilities()), None, &|_, _| {}).await
    }

    async fn open(&self, store: &Store) -> Result<Repository, String> {
        let opened = Repository::open(Arc::clone(store), self.world.clone(), &self.key, options()).await;
        opened.map_err(|error| strongroom_model::chain(&error))
    }

    /// Every point that the copy shows comes back as it was, and `check` finds nothing.
    async fn is_whole(&self, copy: &Store, known: &[(RecoveryPointId, Vec<u8>)]) -> usize {
        let opened = self.open(copy).await.unwrap();
        let fold = opened.fold().await.unwrap();
        for point in fold.points.values() {
            let (_, content) = known.iter().find(|(id, _)| *id == point.id).expect("a point that was made");
            assert!(restore(&opened, point.id).await.unwrap() == *content, "{} differs", point.id);
        }
        let checked = opened.check(true, &|_, _| {}).await.unwrap();
        assert!(checked.is_whole(), "{:?}", checked.damages);
        fold.points.len()
    }
}

fn memory() -> Store {
    Arc::new(MemoryStore::default())
}

async fn listed(store: &Store, prefix: &str) -> Vec<String> {
    store.list(prefix, None).await.unwrap().objects.into_iter().map(|object| object.name).collect()
}

#[tokio::test]
async fn a_copy_follows_the_repository_and_is_enough_when_the_repository_is_gone() {
    let mut story = Story::begin(1).await;
    let copy = memory();
    assert_eq!(copy_state(&*copy).await.unwrap(), CopyState::Nothing);
    story.back_up(1).await;
    story.back_up(2).await;
    let begun = story.copy(&copy).await.unwrap();
    assert!(begun.packs >= 4 && begun.records == begun.until, "{begun:?}");
    let again = story.copy(&copy).await.unwrap();
    assert_eq!((again.packs, again.records, again.copied_bytes), (0, 0, 0), "nothing is sent twice");
    story.back_up(3).await;
    story.forget_and_sweep().await;
    let next = story.copy(&copy).await.unwrap();
    assert!(next.packs >= 1 && next.packs < begun.packs + 3 && next.deleted_objects > 0, "{next:?}");
    let folders = ["packs/", "maps/", "keys/"];
    for folder in folders {
        assert_eq!(listed(&copy, folder).await, listed(&story.first, folder).await, "{folder}");
    }
    assert_eq!(story.is_whole(&copy, &story.points).await, 2);
}

#[tokio::test]
async fn a_copying_that_is_killed_at_any_request_leaves_a_whole_copy_and_the_next_goes_on() {
    let mut story = Story::begin(2).await;
    let copy: Store = memory();
    story.back_up(1).await;
    story.back_up(2).await;
    let mut known = story.points.clone();
    let mut deaths = 0;
    for round in 0.. {
        let mut died = false;
        // In every round more is new: a point, a point forgotten, packs swept and rewritten.
        let mut write = 1;
        loop {
            let faulty = Faulty::new(Arc::clone(&copy));
            for verb in [Verb::Create, Verb::Put, Verb::Delete] {
                faulty.plan(Rule::nth(write, verb, Fault::Dark));
            }
            let dying: Store = Arc::new(faulty);
            let done = story.copy(&dying).await;
            match copy_state(&*copy).await.unwrap() {
                CopyState::Nothing => assert!(round == 0 && done.is_err()),
                _ => drop(story.is_whole(&copy, &known).await),
            }
            if done.is_ok() {
                break;
            }
            (died, deaths, write) = (true, deaths + 1, write + 1);
        }
        assert!(died, "round {round} was never killed");
        if round == 2 {
            break;
        }
        story.back_up(round + 3).await;
        known = [known, story.points.clone()].concat();
        story.forget_and_sweep().await;
    }
    assert!(deaths > 10, "{deaths} deaths");
    assert_eq!(story.is_whole(&copy, &known).await, story.points.len());
}

#[tokio::test]
async fn nobody_writes_to_a_copy_before_it_is_promoted_and_nobody_copies_to_it_afterwards() {
    let mut story = Story::begin(3).await;
    let copy = memory();
    story.back_up(1).await;
    story.copy(&copy).await.unwrap();
    let before = listed(&copy, "").await;
    let opened = story.open(&copy).await.unwrap();
    assert!(opened.is_copy());
    assert_eq!(opened.open_session("backup").await.unwrap_err().code(), "journal.is-copy");
    assert_eq!(opened.sweep(&SWEEP).await.unwrap_err().code(), "journal.is-copy");
    assert_eq!(opened.forget(story.points[0].0, "x").await.unwrap_err().code(), "journal.is-copy");
    assert_eq!(listed(&copy, "").await, before, "nothing was written");

    let promote = || Repository::promote(Arc::clone(&copy), story.world.clone(), &story.key, "test");
    let promoted = promote().await.unwrap();
    assert!(!promoted.was_promoted && promoted.points == 1);
    assert!(promote().await.unwrap().was_promoted, "twice is once");
    // Now there are two histories, and neither touches the other.
    let own = story.open(&copy).await.unwrap();
    let mut image = story.image.clone();
    image[..4096].fill(77);
    let point = world::back_up(&own, &story.world, "db", &image).await;
    story.back_up(2).await;
    assert!(matches!(story.copy(&copy).await, Err(CopyError::Promoted { .. })));
    assert!(restore(&own, point).await.unwrap() == image);
    assert!(restore(&own, story.points[1].0).await.is_err());
}

#[tokio::test]
async fn a_promotion_in_the_middle_of_a_copying_refers_to_nothing_that_did_not_arrive() {
    let mut story = Story::begin(4).await;
    let copy = memory();
    story.back_up(1).await;
    story.copy(&copy).await.unwrap();
    // Published, forgotten and swept between two runs: the copy never gets the packs of this one.
    for change in [2, 3] {
        story.back_up(change).await;
    }
    let passed = story.points.remove(1).0;
    story.repository.forget(passed, "test").await.unwrap();
    story.repository.sweep(&SWEEP).await.unwrap();
    // Killed after so many new records, before the head.
    let faulty = Faulty::new(Arc::clone(&copy));
    faulty.plan(Rule::nth(4, Verb::Create, Fault::Dark));
    let dying: Store = Arc::new(faulty);
    story.copy(&dying).await.unwrap_err();

    let promoted = Repository::promote(Arc::clone(&copy), story.world.clone(), &story.key, "test").await;
    let promoted = promoted.unwrap();
    let own = story.open(&copy).await.unwrap();
    let fold = own.fold().await.unwrap();
    assert!(!fold.points.contains_key(&passed), "{promoted:?}");
    // The content of the point that is gone comes again: it is stored again, and comes back.
    let mut image = story.points[0].1.clone();
    let at = 2 * world::CHUNK_BYTES as usize;
    image[at..at + 4096].fill(3);
    let point = world::back_up(&own, &story.world, "db", &image).await;
    assert!(restore(&own, point).await.unwrap() == image);
    let checked = own.check(true, &|_, _| {}).await.unwrap();
    assert!(checked.is_whole(), "{:?}", checked.damages);
}

#[tokio::test]
async fn another_repository_or_a_fork_is_never_overwritten() {
    let mut story = Story::begin(5).await;
    story.back_up(1).await;
    let other = Story::begin(6).await;
    assert!(matches!(story.copy(&other.first).await, Err(CopyError::Other { .. })));
    assert!(matches!(story.copy(&story.first).await, Err(CopyError::NotACopy { .. })));
    let copy = memory();
    story.copy(&copy).await.unwrap();
    let until = story.repository.high_water().0;
    let fork = ObjectName::journal(until + 1);
    copy.put(&fork, Bytes::from_static(b"somebody else's")).await.unwrap();
    story.back_up(2).await;
    let error = story.copy(&copy).await.unwrap_err();
    assert!(matches!(error, CopyError::Forked { .. }) && error.code() == "copy.forked");
    assert_eq!(copy.get(&fork).await.unwrap(), "somebody else's");
    assert_eq!(story.is_whole(&copy, &story.points).await, 1, "the copy is as it was");
}

/// The objects of packs, data first.
async fn packs(store: &Store) -> Vec<ObjectName> {
    let names = [listed(store, "packs/").await, listed(store, "maps/").await].concat();
    let parsed = names.iter().filter_map(|name| ObjectName::parse(name));
    parsed.filter(|(_, kind)| matches!(kind, ObjectKind::Pack(..))).map(|(name, _)| name).collect()
}

#[tokio::test]
async fn packs_that_are_damaged_missing_or_out_of_reach_are_read_from_the_copy() {
    let mut story = Story::begin(7).await;
    story.back_up(1).await;
    story.back_up(2).await;
    let copy = memory();
    story.copy(&copy).await.unwrap();
    for (number, name) in packs(&story.first).await.into_iter().enumerate() {
        let whole = story.first.get(&name).await.unwrap();
        match number % 3 {
            0 => drop(story.first.delete(&name).await.unwrap()),
            1 => {
                // Every byte of it: header, entries, footer.
                let flipped: Vec<u8> = whole.iter().map(|byte| byte ^ 1).collect();
                story.first.put(&name, flipped.into()).await.unwrap();
            }
            _ => {
                let mut cut = whole.to_vec();
                cut[100] ^= 1;
                story.first.put(&name, cut.into()).await.unwrap();
            }
        }
    }
    let alone = story.open(&story.first).await.unwrap();
    assert!(restore(&alone, story.points[1].0).await.is_err());
    let both: Store = Arc::new(WithCopies::new(Arc::clone(&story.first), vec![Arc::clone(&copy)]));
    let opened = story.open(&both).await.unwrap();
    for (point, content) in &story.points {
        assert!(restore(&opened, *point).await.unwrap() == *content);
    }
    let faulty = Faulty::new(Arc::clone(&story.first));
    faulty.plan(Rule::every(Verb::GetRange, Fault::FailBefore(Failing::Unavailable)));
    let both: Store = Arc::new(WithCopies::new(Arc::new(faulty), vec![copy]));
    let opened = story.open(&both).await.unwrap();
    assert!(restore(&opened, story.points[1].0).await.unwrap() == story.points[1].1);
}

#[tokio::test]
async fn a_damaged_pack_is_not_copied_is_named_and_holds_up_nothing_else() {
    let mut story = Story::begin(8).await;
    story.back_up(1).await;
    let name = packs(&story.first).await.remove(0);
    let whole = story.first.get(&name).await.unwrap();
    let mut flipped = whole.to_vec();
    flipped[200] ^= 1;
    story.first.put(&name, flipped.into()).await.unwrap();
    let copy = memory();
    let report = story.copy(&copy).await.unwrap();
    assert!(report.lacks.keys().eq([name.as_str()]), "{report:?}");
    assert!(copy.head(&name).await.is_err(), "damage is not copied");
    let CopyState::Copy(_, mark) = copy_state(&*copy).await.unwrap() else { panic!("no copy") };
    assert_eq!(mark.lacks, [name.to_string()]);
    // Mended in the repository, it is brought along by the next run.
    story.first.put(&name, whole).await.unwrap();
    assert!(story.copy(&copy).await.unwrap().lacks.is_empty());
    assert_eq!(story.is_whole(&copy, &story.points).await, 1);
}

#[tokio::test]
async fn a_machine_that_saw_more_may_read_a_copy_that_is_behind() {
    let mut story = Story::begin(9).await;
    let folder = tempfile::tempdir().unwrap();
    let remembering = || OpenOptions { state_dir: Some(folder.path().to_owned()), ..options() };
    story.back_up(1).await;
    let copy = memory();
    story.copy(&copy).await.unwrap();
    story.back_up(2).await;
    let open =
        |store: &Store| Repository::open(Arc::clone(store), story.world.clone(), &story.key, remembering());
    open(&story.first).await.unwrap();
    let behind = open(&copy).await.unwrap();
    assert_eq!(behind.fold().await.unwrap().points.len(), 1);
    // It follows when the copy goes on.
    story.copy(&copy).await.unwrap();
    assert_eq!(behind.fold().await.unwrap().points.len(), 2);
}
