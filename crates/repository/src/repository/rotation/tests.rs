//! Rotation among other actors, crashes and thieves.

use std::sync::Arc;

use strongroom_model::Failure;

use super::*;
use crate::errors::OpenError;
use crate::keys::{KeyFile, RecipientKey};
use crate::record::KeyAdded;
use crate::simulation::store::{Faults, FaultyStore};
use crate::simulation::world::{Trial, backup, options, restore};
use crate::store::ObjectStore;

fn holder(trial: &Trial, unlock: Unlock) -> Trial {
    Trial { unlock, ..trial.clone() }
}

fn key(trial: &Trial) -> Unlock {
    Unlock::KeyFile(KeyFile::generate(&*trial.world.entropy))
}

async fn opens(trial: &Trial) -> Result<Repository, OpenError> {
    trial.try_open(options("someone", None)).await
}

#[tokio::test]
async fn after_a_rotation_every_key_opens_what_is_old_and_what_is_new() {
    let (trial, repository) = Trial::begin(900).await;
    let second = holder(&trial, key(&trial));
    repository.add_key(&second.unlock, "second", PassphraseCost::TEST).await.unwrap();
    let recipient = RecipientKey::generate(&*trial.world.entropy);
    let to = NewKey::Recipient(recipient.recipient());
    repository.add_slot(&to, Grants::Everything, "third", PassphraseCost::TEST).await.unwrap();
    let third = holder(&trial, Unlock::Recipient(recipient));

    let old = backup(&repository, "db", &vec![1, 2, 3], None).await.unwrap();
    let before = repository.sealing_epoch();
    let rotated = repository.rotate_keys(Rotation::default()).await.unwrap();
    assert!(rotated.epoch > before && rotated.left_behind.is_empty() && rotated.slots.len() == 3);
    let new = backup(&repository, "db", &vec![4, 2, 3], None).await.unwrap();
    for trial in [&trial, &second, &third] {
        let opened = opens(trial).await.unwrap();
        assert_eq!(opened.sealing_epoch(), rotated.epoch);
        assert_eq!(restore(&opened, old.point).await.unwrap(), [1, 2, 3]);
        assert_eq!(restore(&opened, new.point).await.unwrap(), [4, 2, 3]);
        assert!(opened.check(true, &|_, _| {}).await.unwrap().is_whole());
    }
    assert_eq!(opens(&second).await.unwrap().list_keys().await.unwrap().len(), 3);
}

#[tokio::test]
async fn an_agent_that_runs_meanwhile_takes_the_new_keys_and_goes_on() {
    let (trial, repository) = Trial::begin(901).await;
    let agent = trial.open("agent").await;
    backup(&agent, "db", &vec![1, 2, 3], None).await.unwrap();
    let session = agent.open_session("db").await.unwrap();
    let draft = crate::simulation::world::capture(&session, "db", &vec![4, 5], None).await.unwrap();
    let rotated = repository.rotate_keys(Rotation::default()).await.unwrap();
    let published = session.publish(draft, true).await.unwrap();
    assert_eq!(agent.sealing_epoch(), rotated.epoch);
    assert_eq!(restore(&repository, published.point).await.unwrap(), [4, 5]);
    // And a third, who looks only now.
    let after = backup(&agent, "db", &vec![6], None).await.unwrap();
    assert_eq!(restore(&trial.open("reader").await, after.point).await.unwrap(), [6]);
}

#[tokio::test]
async fn a_removed_key_opens_nothing_new_not_even_with_its_old_slot_put_back() {
    let (trial, repository) = Trial::begin(902).await;
    let thief = holder(&trial, key(&trial));
    let slot = repository.add_key(&thief.unlock, "thief", PassphraseCost::TEST).await.unwrap();
    backup(&repository, "db", &vec![1], None).await.unwrap();
    let stolen = opens(&thief).await.unwrap();
    let rotation = Rotation { remove: [slot.id()].into(), ..Rotation::default() };
    repository.rotate_keys(rotation).await.unwrap();
    let published = backup(&repository, "db", &vec![2], None).await.unwrap();

    assert_eq!(opens(&thief).await.unwrap_err().code(), "key.wrong");
    // The old slot from a copy of the bucket.
    repository.store().put(&ObjectName::key_slot(slot.id()), slot.encode()).await.unwrap();
    assert_eq!(opens(&thief).await.unwrap_err().code(), "seal.unknown-epoch");
    // What it held in memory reads the journal no further.
    assert_eq!(stolen.fold().await.unwrap_err().code(), "seal.unknown-epoch");
    assert!(restore(&stolen, published.point).await.is_err());
}

#[tokio::test]
async fn a_record_under_the_keys_of_before_is_not_believed() {
    let (trial, repository) = Trial::begin(903).await;
    let thief = holder(&trial, key(&trial));
    let slot = repository.add_key(&thief.unlock, "thief", PassphraseCost::TEST).await.unwrap();
    let stolen = opens(&thief).await.unwrap();
    let rotation = Rotation { remove: [slot.id()].into(), ..Rotation::default() };
    repository.rotate_keys(rotation).await.unwrap();
    // The thief can write to the bucket, knows the number of the next record, and even its predecessor's hash.
    let fold = repository.fold().await.unwrap();
    let again = KeyAdded { slot: slot.id(), kind: "key-file".to_owned(), hash: [0; 32], domain: None };
    let forged = stolen.journal().attempt(Arc::clone(&fold), Event::KeyAdded(again)).await;
    drop(forged);
    let error = repository.fold().await.unwrap_err();
    assert_eq!(error.code(), "journal.old-key", "{error:?}");
    assert_eq!(opens(&trial).await.unwrap_err().code(), "journal.old-key");
}

#[tokio::test]
async fn a_checkpoint_under_the_keys_of_before_is_not_believed() {
    let (trial, repository) = Trial::begin(904).await;
    let thief = holder(&trial, key(&trial));
    let slot = repository.add_key(&thief.unlock, "thief", PassphraseCost::TEST).await.unwrap();
    let stolen = opens(&thief).await.unwrap();
    backup(&repository, "db", &vec![1], None).await.unwrap();
    let mut lie = (*stolen.fold().await.unwrap()).clone();
    let rotation = Rotation { remove: [slot.id()].into(), ..Rotation::default() };
    repository.rotate_keys(rotation).await.unwrap();
    let honest = repository.fold().await.unwrap();
    // The thief takes the honest checkpoint away and writes one of their own about the time before.
    repository.store().delete(&ObjectName::checkpoint(honest.number)).await.unwrap();
    lie.points.clear();
    stolen.journal().write_checkpoint(&lie).await.unwrap();
    // And another one about the time after, so that the end of the journal is looked at first.
    let after = Fold { points: lie.points.clone(), ..(*honest).clone() };
    stolen.journal().write_checkpoint(&after).await.unwrap();
    let opened = opens(&trial).await.unwrap();
    assert_eq!(opened.known_fold(), honest);
}

#[tokio::test]
async fn a_slot_that_no_owner_made_is_given_nothing() {
    let (trial, repository) = Trial::begin(905).await;
    // Somebody with a key, but without the owner secret, writes a slot for their own public key and its record.
    let entropy = &*trial.world.entropy;
    let strange = Keyring::fresh(DataSeal::Open, entropy);
    let recipient = NewKey::Recipient(RecipientKey::generate(entropy).recipient());
    let (now, cost) = (trial.world.clock.now(), PassphraseCost::TEST);
    let slot = KeySlot::make(
        repository.id(),
        &strange,
        &recipient,
        Grants::Everything,
        "helper",
        now,
        cost,
        entropy,
    )
    .unwrap();
    let added = repository.store_slot(&slot, None).await.unwrap();
    repository.journal().say(Event::KeyAdded(added)).await.unwrap();

    let error = repository.rotate_keys(Rotation::default()).await.unwrap_err();
    assert_eq!(error.code(), "key.left-behind");
    let KeysError::LeftBehind { slots } = error else { panic!("{error:?}") };
    assert_eq!((slots.len(), slots[0].label.as_str()), (1, "helper"));
    let rotated =
        repository.rotate_keys(Rotation { leave_behind: true, ..Rotation::default() }).await.unwrap();
    assert_eq!((rotated.slots.len(), rotated.left_behind.len()), (1, 1));
    opens(&trial).await.unwrap();
}

#[tokio::test]
async fn keys_of_the_first_version_are_rotated_into_the_second() {
    let (trial, _) = Trial::begin(906).await;
    let trial = first_version(&trial).await;
    let repository = opens(&trial).await.unwrap();
    let other = holder(&trial, key(&trial));
    repository.add_key(&other.unlock, "other", PassphraseCost::TEST).await.unwrap();
    let slots = repository.list_keys().await.unwrap();
    assert!(slots.len() == 2 && slots.iter().all(|slot| slot.epoch().is_none()));
    let old = backup(&repository, "db", &vec![1, 2], None).await.unwrap();

    assert_eq!(repository.rotate_keys(Rotation::default()).await.unwrap_err().code(), "key.left-behind");
    let rotation = Rotation { keys: vec![other.unlock.clone()], ..Rotation::default() };
    let rotated = repository.rotate_keys(Rotation { cost: PassphraseCost::TEST, ..rotation }).await.unwrap();
    assert_eq!((rotated.slots.len(), rotated.left_behind.len()), (2, 0));
    for trial in [&trial, &other] {
        let opened = opens(trial).await.unwrap();
        assert_eq!(restore(&opened, old.point).await.unwrap(), [1, 2]);
        opened.rotate_keys(Rotation::default()).await.unwrap();
    }
}

/// The same world with a repository whose keys are of the first version.
async fn first_version(trial: &Trial) -> Trial {
    let store = FaultyStore::new(1, Faults::default());
    let bytes = trial.store.get(&ObjectName::head()).await.unwrap();
    let mut head = crate::head::Head::parse(&bytes).unwrap();
    let (entropy, now) = (&*trial.world.entropy, trial.world.clock.now());
    let ring = Keyring::generate(entropy);
    let slot =
        KeySlot::wrap(head.repository, &ring, &trial.unlock, "init", now, PassphraseCost::TEST, entropy);
    let slot = slot.unwrap();
    store.create(&ObjectName::key_slot(slot.id()), slot.encode()).await.unwrap();
    head.first_slots = vec![hex::encode(slot.id())];
    store.create(&ObjectName::head(), head.encode().into()).await.unwrap();
    Trial { store, ..trial.clone() }
}

/// Polls a future so often, and then drops it: a crash at that point.
async fn dies_after<T>(polls: usize, future: impl Future<Output = T>) -> Option<T> {
    let mut future = std::pin::pin!(future);
    for _ in 0..polls {
        let polled = std::future::poll_fn(|cx| std::task::Poll::Ready(future.as_mut().poll(cx))).await;
        if let std::task::Poll::Ready(output) = polled {
            return Some(output);
        }
        tokio::task::yield_now().await;
    }
    None
}

#[tokio::test]
async fn a_rotation_that_dies_anywhere_leaves_a_repository_that_every_key_opens() {
    for polls in (0..).step_by(9) {
        let (trial, repository) = Trial::begin(907).await;
        let second = holder(&trial, key(&trial));
        repository.add_key(&second.unlock, "second", PassphraseCost::TEST).await.unwrap();
        let old = backup(&repository, "db", &vec![1], None).await.unwrap();
        let before = repository.known_fold().keys.clone();
        // Each request is a step of its own.
        trial.store.set_faults(Faults { pauses: 1000, ..Faults::default() });
        let rotated = dies_after(polls, repository.rotate_keys(Rotation::default())).await;
        trial.store.set_faults(Faults::default());
        for trial in [&trial, &second] {
            let opened = opens(trial).await.unwrap();
            let committed = opened.known_fold().keys != before;
            assert_eq!(opened.sealing_epoch() > 1, committed, "after {polls} steps");
            assert_eq!(restore(&opened, old.point).await.unwrap(), [1]);
            let new = backup(&opened, "db", &vec![2], None).await.unwrap();
            for trial in [trial, &second] {
                assert_eq!(restore(&opens(trial).await.unwrap(), new.point).await.unwrap(), [2]);
            }
        }
        // And it can be done again.
        let again = opens(&second).await.unwrap().rotate_keys(Rotation::default()).await.unwrap();
        assert_eq!(again.slots.len(), 2, "after {polls} steps");
        opens(&trial).await.unwrap();
        if rotated.is_some() {
            assert!(polls > 5, "it has a few steps");
            break;
        }
    }
}

#[tokio::test]
async fn of_two_rotations_at_once_one_wins_and_the_other_says_so() {
    let (trial, one) = Trial::begin(908).await;
    let two = trial.open("two").await;
    let (first, second) =
        tokio::join!(one.rotate_keys(Rotation::default()), two.rotate_keys(Rotation::default()));
    let (won, lost) = if first.is_ok() { (first, second) } else { (second, first) };
    let won = won.unwrap();
    // The store answers in turn, so the second may also have begun when the first was done.
    if let Err(error) = lost {
        assert!(["key.raced", "journal.store"].contains(&error.code()), "{error:?}");
        assert_eq!(opens(&trial).await.unwrap().sealing_epoch(), won.epoch);
    }
    backup(&opens(&trial).await.unwrap(), "db", &vec![1], None).await.unwrap();
}
