//! Write-only keys: what their holder can do, and what not.

use strongroom_model::Failure;

use super::*;
use crate::keys::{KeyFile, RecipientKey};
use crate::pack::PackPlace;
use crate::simulation::world::{Trial, backup, options, restore};
use crate::sweep::SweepOptions;

const ALL: SweepOptions = SweepOptions { min_hole_ratio: 0.0, max_rewrite_bytes: u64::MAX };

/// An owner, and the agent of a machine that may be stolen.
async fn owner_and_agent(seed: u64) -> (Trial, Repository, Trial) {
    let (trial, owner) = Trial::begin(seed).await;
    let split = Rotation { data_seal: Some(DataSeal::Split), ..Rotation::default() };
    owner.rotate_keys(split).await.unwrap();
    let unlock = Unlock::KeyFile(KeyFile::generate(&*trial.world.entropy));
    let key = NewKey::Holder(unlock.clone());
    owner.add_slot(&key, Grants::WriteOnly, "host 7", PassphraseCost::TEST).await.unwrap();
    let agent = Trial { unlock, ..trial.clone() };
    (trial, owner, agent)
}

fn reads_nothing(error: &(dyn std::error::Error + Send + Sync + 'static)) -> bool {
    strongroom_model::chain(error).contains("a write-only key does not hold")
}

#[tokio::test]
async fn it_backs_up_and_cannot_read_what_it_just_stored() {
    let (_, owner, stolen) = owner_and_agent(920).await;
    let agent = stolen.open("agent").await;
    assert_eq!(agent.grants(), Grants::WriteOnly);
    let first = backup(&agent, "db", &vec![1, 2, 3], None).await.unwrap();
    let parent = agent.fold().await.unwrap().points[&first.point].clone();
    let packs = agent.known_fold().packs.len();
    // The second shares chunks by their ids, without reading any.
    let second = backup(&agent, "db", &vec![1, 2, 4], Some(&parent)).await.unwrap();
    assert_eq!(agent.known_fold().packs.len(), packs + 2, "one pack of data and one of maps");
    for point in [first.point, second.point] {
        let error = restore(&agent, point).await.unwrap_err();
        assert!(reads_nothing(&*error), "{error:?}");
    }
    assert_eq!(restore(&owner, first.point).await.unwrap(), [1, 2, 3]);
    assert_eq!(restore(&owner, second.point).await.unwrap(), [1, 2, 4]);
    // What an owner stores it cannot read either.
    let third = backup(&owner, "web", &vec![9], None).await.unwrap();
    assert!(reads_nothing(&*restore(&agent, third.point).await.unwrap_err()));
    assert!(owner.check(true, &|_, _| {}).await.unwrap().is_whole());
}

#[tokio::test]
async fn it_frees_space_by_copying_what_it_cannot_read() {
    let (_, owner, stolen) = owner_and_agent(921).await;
    let agent = stolen.open("agent").await;
    let old = backup(&agent, "db", &vec![1, 2, 3, 4], None).await.unwrap();
    let parent = agent.fold().await.unwrap().points[&old.point].clone();
    let new = backup(&agent, "db", &vec![1, 2, 9, 9], Some(&parent)).await.unwrap();
    agent.forget(old.point, "test").await.unwrap();
    agent.sweep(&ALL).await.unwrap();
    let swept = agent.sweep(&ALL).await.unwrap();
    assert!(swept.waits_for.is_empty(), "{swept:?}");
    assert!(
        owner.fold().await.unwrap().packs.values().any(|pack| !pack.holes.is_empty()),
        "one was rewritten"
    );
    assert_eq!(restore(&owner, new.point).await.unwrap(), [1, 2, 9, 9]);
    assert!(owner.check(true, &|_, _| {}).await.unwrap().is_whole());
}

#[tokio::test]
async fn damage_that_it_cannot_see_through_is_not_given_a_fresh_hash() {
    let (trial, _, stolen) = owner_and_agent(922).await;
    let agent = stolen.open("agent").await;
    backup(&agent, "db", &vec![1, 2, 3, 4], None).await.unwrap();
    let fold = agent.fold().await.unwrap();
    let place: PackPlace = fold
        .packs
        .values()
        .map(|pack| pack.place)
        .find(|place| place.kind == crate::layout::PackKind::Data)
        .unwrap();
    let name = place.name();
    let whole = trial.store.object(name.as_str()).unwrap();
    for at in [3, 100, 20_000, whole.len() - 40] {
        let mut damaged = whole.to_vec();
        damaged[at] ^= 1;
        trial.store.replace(name.as_str(), damaged);
        let rewritten = crate::pack::rewrite(&agent.inner.context, place, &[0].into()).await;
        assert!(rewritten.is_err(), "byte {at}");
    }
    trial.store.replace(name.as_str(), whole);
    crate::pack::rewrite(&agent.inner.context, place, &[0].into()).await.unwrap();
}

#[tokio::test]
async fn switched_on_later_it_opens_nothing_that_is_older() {
    let (trial, owner) = Trial::begin(923).await;
    let old = backup(&owner, "db", &vec![1, 2, 3], None).await.unwrap();
    let unlock = Unlock::KeyFile(KeyFile::generate(&*trial.world.entropy));
    let key = NewKey::Holder(unlock.clone());
    let early = owner.add_slot(&key, Grants::WriteOnly, "early", PassphraseCost::TEST).await.unwrap_err();
    assert_eq!(early.code(), "key.write-only-off");
    let split = Rotation { data_seal: Some(DataSeal::Split), ..Rotation::default() };
    owner.rotate_keys(split).await.unwrap();
    owner.add_slot(&key, Grants::WriteOnly, "host 7", PassphraseCost::TEST).await.unwrap();
    let agent = Trial { unlock, ..trial.clone() }.open("agent").await;
    // It sees the points by the checkpoint, and neither their maps nor their data.
    let point = agent.fold().await.unwrap().points[&old.point].clone();
    assert_eq!(agent.map(&point).await.unwrap_err().code(), "seal.unknown-epoch");
    let new = backup(&agent, "db", &vec![1, 2, 4], None).await.unwrap();
    assert_eq!(restore(&owner, old.point).await.unwrap(), [1, 2, 3]);
    assert_eq!(restore(&owner, new.point).await.unwrap(), [1, 2, 4]);
}

#[tokio::test]
async fn it_cannot_make_keys_nor_get_better_ones_by_a_rotation() {
    let (trial, owner, stolen) = owner_and_agent(924).await;
    let agent = stolen.open("agent").await;
    let recipient = RecipientKey::generate(&*trial.world.entropy);
    let key = NewKey::Recipient(recipient.recipient());
    for grants in [Grants::Everything, Grants::WriteOnly] {
        let error = agent.add_slot(&key, grants, "thief", PassphraseCost::TEST).await.unwrap_err();
        assert_eq!(error.code(), "key.not-owner");
    }
    assert_eq!(agent.rotate_keys(Rotation::default()).await.unwrap_err().code(), "key.not-owner");
    // It writes a slot by its own means, and its record, which the journal takes.
    let entropy = &*trial.world.entropy;
    let own = Keyring::fresh(DataSeal::Split, entropy);
    let (now, cost) = (trial.world.clock.now(), PassphraseCost::TEST);
    let slot =
        KeySlot::make(agent.id(), &own, &key, Grants::Everything, "thief", now, cost, entropy).unwrap();
    let added = agent.store_slot(&slot, None).await.unwrap();
    agent.journal().say(Event::KeyAdded(added)).await.unwrap();
    // Its own slot, said to grant everything.
    let own_slot =
        agent.list_keys().await.unwrap().into_iter().find(|slot| slot.label() == "host 7").unwrap();
    let text = String::from_utf8(own_slot.encode().to_vec()).unwrap().replace("write-only", "everything");
    trial.store.replace(ObjectName::key_slot(own_slot.id()).as_str(), text);

    let KeysError::LeftBehind { slots } = owner.rotate_keys(Rotation::default()).await.unwrap_err() else {
        panic!("they are not renewed")
    };
    assert_eq!(slots.len(), 2);
    let rotation = Rotation { leave_behind: true, ..Rotation::default() };
    owner.rotate_keys(rotation).await.unwrap();
    let thief = Trial { unlock: Unlock::Recipient(recipient), ..trial.clone() };
    assert!(thief.try_open(options("thief", None)).await.is_err());
    let point = backup(&owner, "db", &vec![1], None).await.unwrap().point;
    assert!(restore(&agent, point).await.is_err());
    assert!(agent.fold().await.is_err(), "left behind");
}

#[tokio::test]
async fn after_a_rotation_it_writes_under_the_new_keys_and_still_reads_nothing() {
    let (_, owner, stolen) = owner_and_agent(925).await;
    let agent = stolen.open("agent").await;
    backup(&agent, "db", &vec![1], None).await.unwrap();
    let rotated = owner.rotate_keys(Rotation::default()).await.unwrap();
    let point = backup(&agent, "db", &vec![2], None).await.unwrap().point;
    assert_eq!(agent.sealing_epoch(), rotated.epoch);
    assert!(reads_nothing(&*restore(&agent, point).await.unwrap_err()));
    assert_eq!(restore(&owner, point).await.unwrap(), [2]);
    // Switched off, there is no such key any more.
    let open = Rotation { data_seal: Some(DataSeal::Open), ..Rotation::default() };
    assert_eq!(owner.rotate_keys(open.clone()).await.unwrap_err().code(), "key.left-behind");
    owner.rotate_keys(Rotation { leave_behind: true, ..open }).await.unwrap();
    assert!(agent.fold().await.is_err());
}
