//! Copies that get the points of some volumes only.

use std::collections::BTreeSet;
use std::sync::Arc;

use strongroom_model::{Failure as _, RecoveryPointId, World};
use strongroom_object_store::memory::MemoryStore;
use strongroom_repository::check::{CheckOptions, ReadData};
use strongroom_repository::copy::{Chosen, CopyReport};
use strongroom_repository::keys::{KeyFile, NewKey, Unlock};
use strongroom_repository::store::ObjectStore;
use strongroom_repository::sweep::SweepOptions;
use strongroom_repository::{InitOptions, Point, Repository};

use crate::world::{self, abilities, image, options, restore};

type Store = Arc<dyn ObjectStore>;

struct Story {
    world: World,
    key: Unlock,
    repository: Repository,
    copy: Store,
}

impl Story {
    async fn begin(seed: u64) -> Self {
        Self::begin_in(Arc::new(MemoryStore::default()), seed, false).await
    }

    /// With a repository in this store, which key domains can share or not.
    async fn begin_in(store: Store, seed: u64, shared: bool) -> Self {
        let world = world::world(seed);
        let key = Unlock::KeyFile(KeyFile::generate(&*world.entropy));
        let init = InitOptions { shared, ..world::init_options() };
        let repository =
            Repository::init(store, world.clone(), init, std::slice::from_ref(&key)).await.unwrap();
        Self { world, key, repository, copy: Arc::new(MemoryStore::default()) }
    }

    async fn back_up(&self, volume: &str, content: &[u8]) -> RecoveryPointId {
        world::back_up(&self.repository, &self.world, volume, content).await
    }

    /// Copies the points of volumes whose names begin like this.
    async fn copy(&self, prefix: &str) -> CopyReport {
        let takes = |point: &Point| point.volume.as_str().starts_with(prefix);
        let chosen = Chosen { takes: &takes, rule: prefix.to_owned() };
        let chosen = (!prefix.is_empty()).then_some(&chosen);
        self.repository.copy_to(&self.copy, Some(abilities()), chosen, &|_, _| {}).await.unwrap()
    }

    async fn opened(&self) -> Repository {
        Repository::open(Arc::clone(&self.copy), self.world.clone(), &self.key, options()).await.unwrap()
    }

    async fn comes_back(&self, point: RecoveryPointId, content: &[u8]) -> bool {
        restore(&self.opened().await, point).await.is_ok_and(|restored| restored == content)
    }

    /// What is damaged there, as far as points of such volumes go.
    async fn damages(&self, prefix: &str) -> usize {
        let takes = |point: &Point| point.volume.as_str().starts_with(prefix);
        let options = CheckOptions { read: ReadData::All, ..CheckOptions::default() };
        self.opened().await.check_chosen(&options, &takes, &|_, _| {}).await.unwrap().damages.len()
    }

    async fn data_packs(&self) -> BTreeSet<String> {
        let page = self.copy.list("packs/", None).await.unwrap();
        page.objects.into_iter().map(|object| object.name).collect()
    }
}

fn some(seed: u64) -> Vec<u8> {
    image(seed, 40 * world::CHUNK_BYTES as usize)
}

#[tokio::test]
async fn a_copy_by_a_rule_has_the_chosen_points_whole_and_no_data_of_the_others() {
    let story = Story::begin(41).await;
    let (db, tmp) = (some(1), some(2));
    let (kept, left) = (story.back_up("db-1", &db).await, story.back_up("tmp-1", &tmp).await);
    let report = story.copy("db").await;
    assert_eq!(report.points, 1);
    assert!(story.comes_back(kept, &db).await && !story.comes_back(left, &tmp).await);
    assert_eq!(story.damages("db").await, 0);
    assert!(story.damages("").await > 0, "without the rule what was left out is missing");
    let again = story.copy("db").await;
    assert_eq!((again.packs, again.records), (0, 0), "nothing is sent twice");

    // What a chosen point shares with others comes along, also where the other was left out before.
    let both = story.back_up("db-2", &tmp).await;
    story.copy("db").await;
    assert!(story.comes_back(both, &tmp).await && story.damages("db").await == 0);
}

#[tokio::test]
async fn a_rule_that_becomes_wider_brings_what_was_left_out() {
    let story = Story::begin(42).await;
    let (db, tmp) = (some(1), some(2));
    let (kept, left) = (story.back_up("db-1", &db).await, story.back_up("tmp-1", &tmp).await);
    story.copy("db").await;
    let few = story.data_packs().await.len();
    story.copy("tmp").await;
    assert!(story.comes_back(left, &tmp).await && story.comes_back(kept, &db).await, "what is there stays");
    assert!(story.data_packs().await.len() > few);
    let late = some(3);
    let later = story.back_up("other", &late).await;
    story.copy("tmp").await;
    assert!(!story.comes_back(later, &late).await);
    story.copy("").await;
    assert!(story.comes_back(later, &late).await);
    assert_eq!(story.opened().await.check(true, &|_, _| {}).await.unwrap().damages, []);
}

#[tokio::test]
async fn what_a_sweep_writes_anew_goes_where_the_old_pack_was() {
    let story = Story::begin(43).await;
    let (mut db, tmp) = (some(1), some(2));
    let old = story.back_up("db-1", &db).await;
    let lost = story.back_up("tmp-1", &tmp).await;
    let half = db.len() / 2;
    db[half..].copy_from_slice(&some(5)[half..]);
    let kept = story.back_up("db-1", &db).await;
    let mut other = tmp.clone();
    other[half..].copy_from_slice(&some(6)[half..]);
    story.back_up("tmp-1", &other).await;
    story.copy("db").await;
    story.repository.forget(old, "test").await.unwrap();
    story.repository.forget(lost, "test").await.unwrap();
    let swept = SweepOptions { min_hole_ratio: 0.01, max_rewrite_bytes: 4 << 30 };
    let swept = story.repository.sweep(&swept).await.unwrap();
    assert!(swept.rewritten_packs >= 2, "{swept:?}");
    story.copy("db").await;
    assert!(story.comes_back(kept, &db).await);
    assert_eq!(story.damages("db").await, 0);
    assert!(story.damages("tmp").await > 0, "what was left out is left out as it was rewritten");
}

#[tokio::test]
async fn a_promoted_copy_by_a_rule_forgets_what_never_was_there_and_takes_backups() {
    let story = Story::begin(44).await;
    let (db, tmp) = (some(1), some(2));
    let (kept, left) = (story.back_up("db-1", &db).await, story.back_up("tmp-1", &tmp).await);
    story.copy("db").await;
    let promoted =
        Repository::promote(Arc::clone(&story.copy), story.world.clone(), &story.key, "test").await;
    let promoted = promoted.unwrap();
    assert_eq!((promoted.points, promoted.forgotten.contains(&left)), (1, true), "{promoted:?}");
    assert!(story.comes_back(kept, &db).await);
    // The content that never arrived is not taken for stored.
    let opened = story.opened().await;
    let new = world::back_up(&opened, &story.world, "tmp-1", &tmp).await;
    assert!(restore(&opened, new).await.unwrap() == tmp);
    assert_eq!(opened.check(true, &|_, _| {}).await.unwrap().damages, []);
}

#[tokio::test]
async fn a_rule_of_the_operator_leaves_out_nothing_of_other_domains_and_a_tenant_has_none() {
    let store: Store = Arc::new(MemoryStore::default());
    let story = Story::begin_in(Arc::clone(&store), 45, true).await;
    let tenant = Unlock::KeyFile(KeyFile::generate(&*story.world.entropy));
    let key = (NewKey::Holder(tenant.clone()), "tenant".to_owned());
    story.repository.add_domain("web", &[key], world::CHEAP).await.unwrap();
    let of_tenant = Repository::open(store, story.world.clone(), &tenant, options()).await.unwrap();
    let (db, tmp, web) = (some(1), some(2), some(3));
    let (kept, left) = (story.back_up("db-1", &db).await, story.back_up("tmp-1", &tmp).await);
    let theirs = world::back_up(&of_tenant, &story.world, "tmp-web", &web).await;
    for _ in 0..2 {
        story.copy("db").await;
        assert!(story.comes_back(kept, &db).await && !story.comes_back(left, &tmp).await);
        let copy = Repository::open(Arc::clone(&story.copy), story.world.clone(), &tenant, options()).await;
        assert!(restore(&copy.unwrap(), theirs).await.unwrap() == web);
        assert_eq!(story.damages("db").await, 0);
    }

    let chosen = Chosen { takes: &|_| true, rule: "mine".to_owned() };
    let elsewhere: Store = Arc::new(MemoryStore::default());
    let refused = of_tenant.copy_to(&elsewhere, Some(abilities()), Some(&chosen), &|_, _| {}).await;
    assert_eq!(refused.unwrap_err().code(), "domain.not-operator");
}
