//! The journal alone: opening with few requests, silence, and stores with a single writer.

use strongroom_model::Failure;

use super::store::{Fault, Faults};
use super::world::{Trial, able, backup, options, restore};
use crate::abilities::{Abilities, CreateOnly};
use crate::errors::{JournalError, OpenError, SessionError, SweepError};
use crate::record::RestoreTested;
use crate::{OpenOptions, Repository};

async fn say_much(repository: &Repository, records: u64) {
    let point = strongroom_model::RecoveryPointId::from_bytes([1; 16]);
    for number in 0..records {
        let tested = RestoreTested { point, passed: true, detail: number.to_string() };
        repository.note_restore_tested(tested).await.unwrap();
    }
}

#[tokio::test]
async fn opening_reads_a_checkpoint_and_what_follows_it() {
    let (trial, repository) = Trial::begin(50).await;
    let point = backup(&repository, "db", &vec![1, 2], None).await.unwrap();
    say_much(&repository, 600).await;
    let fold = repository.fold().await.unwrap();
    let checkpoints = trial.store.names("journal/checkpoints/");
    assert_eq!(checkpoints.len(), 9, "one about every 64 records while the fold is small: {checkpoints:?}");

    trial.store.take_log();
    let fresh = trial.open("fresh").await;
    let requests = trial.store.take_log().len();
    assert!(requests < 64 + 16, "{requests} requests to open a journal of {} records", fold.number);
    assert_eq!(fresh.known_fold(), fold);

    // Without LIST: by doubling and bisection.
    trial.store.set_faults(Faults { hidden: 1000, ..Faults::default() });
    let fresh = trial.open("fresh").await;
    assert_eq!(fresh.known_fold(), fold);
    let requests = trial.store.take_log().len();
    assert!(requests < 64 + 48, "{requests} requests without LIST");
    trial.store.set_faults(Faults::default());

    // A bad checkpoint: an older one, then none.
    for name in checkpoints.iter().rev() {
        trial.store.replace(name, "not a checkpoint");
        assert_eq!(trial.open("fresh").await.known_fold(), fold);
    }
    assert_eq!(restore(&trial.open("fresh").await, point.point).await.unwrap(), [1, 2]);
    let audit = repository.audit(&|_, _| ()).await.unwrap();
    assert_eq!(audit.wrong_checkpoints.len(), 9);
}

#[tokio::test]
async fn opening_costs_the_same_few_requests_after_100_and_after_10000_records() {
    let (trial, repository) = Trial::begin(59).await;
    for records in [100, 10_000] {
        say_much(&repository, records - repository.high_water().0).await;
        trial.store.take_log();
        let fresh = trial.open("fresh").await;
        let log = trial.store.take_log();
        assert_eq!(fresh.known_fold(), repository.known_fold());
        assert!(log.len() < 64 + 16, "{} requests after {records} records", log.len());
        let lists = log.iter().filter(|request| request.starts_with("LIST")).count();
        assert!(lists <= 3, "{lists} pages of names after {records} records");
    }
    assert!(trial.store.names("journal/checkpoints/").len() > 100);
    repository.sweep(&crate::sweep::SweepOptions::default()).await.unwrap();
    let left = trial.store.names("journal/checkpoints/");
    assert_eq!(left.len(), 4, "a sweep leaves the newest few: {left:?}");
    assert_eq!(trial.open("fresh").await.known_fold(), repository.fold().await.unwrap());
    assert!(trial.store.names("journal/").len() >= 10_000, "records are never removed");
}

#[tokio::test]
async fn a_checkpoint_of_another_history_is_not_believed() {
    let (trial, repository) = Trial::begin(51).await;
    say_much(&repository, 10).await;
    let fold = repository.fold().await.unwrap();
    let mut lie = (*fold).clone();
    lie.hash = [7; 32];
    repository.journal().write_checkpoint(&lie).await.unwrap();
    assert_eq!(trial.open("fresh").await.known_fold(), fold);
}

#[tokio::test]
async fn an_append_costs_one_look_and_one_create() {
    let (trial, repository) = Trial::begin(52).await;
    trial.store.take_log();
    say_much(&repository, 1).await;
    let log = trial.store.take_log();
    assert_eq!(log.iter().map(|request| &request[..3]).collect::<Vec<_>>(), ["GET", "CRE"], "{log:?}");
}

#[tokio::test]
async fn a_store_that_is_silent_for_good_is_given_up_with_a_clear_word() {
    let (trial, repository) = Trial::begin(53).await;
    trial.store.set_faults(Faults { failed: 1000, ..Faults::default() });
    let point = strongroom_model::RecoveryPointId::from_bytes([1; 16]);
    let error = repository.forget(point, "test").await.unwrap_err();
    assert_eq!(error.code(), "journal.store");
    trial.store.set_faults(Faults::default());
    for _ in 0..8 {
        trial.store.plan("CREATE", "journal/", Fault::Late);
    }
    let tested = RestoreTested { point, passed: true, detail: "once".into() };
    let error = repository.note_restore_tested(tested).await.unwrap_err();
    assert_eq!(error.code(), "journal.unclear");
    // All eight arrive: one record.
    let before = repository.high_water().0;
    while trial.store.arrive() {}
    assert_eq!(repository.fold().await.unwrap().number, before + 1);
}

#[tokio::test]
async fn two_repositories_are_not_made_in_one_place() {
    let (trial, _) = Trial::begin(54).await;
    let init = crate::InitOptions {
        cost: crate::keys::PassphraseCost::TEST,
        ..crate::InitOptions::new(able(), options("x", None))
    };
    let store = std::sync::Arc::new(trial.store.clone());
    let error = Repository::init(store, trial.world.clone(), init, std::slice::from_ref(&trial.unlock))
        .await
        .unwrap_err();
    assert_eq!(error.code(), "init.exists");
}

#[tokio::test]
async fn a_wrong_key_is_told_and_a_second_key_opens_until_it_is_removed() {
    use crate::keys::{KeyFile, Passphrase, PassphraseCost, Unlock};
    let (trial, repository) = Trial::begin(55).await;
    let wrong = Trial { unlock: Unlock::KeyFile(KeyFile::generate(&*trial.world.entropy)), ..trial.clone() };
    let error = wrong.try_open(options("x", None)).await.unwrap_err();
    assert_eq!(error.code(), "key.wrong", "{error:?}");
    let passphrase = Unlock::Passphrase(Passphrase::new("correct horse".to_owned()).unwrap());
    let slot = repository.add_key(&passphrase, "in the safe", PassphraseCost::TEST).await.unwrap();
    let second = Trial { unlock: passphrase, ..trial.clone() };
    let opened = second.open("second").await;
    let first = opened
        .list_keys()
        .await
        .unwrap()
        .iter()
        .map(crate::keys::KeySlot::id)
        .find(|id| *id != slot.id())
        .unwrap();
    assert_eq!(opened.list_keys().await.unwrap().len(), 2);
    opened.remove_key(first).await.unwrap();
    assert!(trial.try_open(options("x", None)).await.is_err());
    assert_eq!(opened.remove_key(slot.id()).await.unwrap_err().code(), "key.last");
    assert_eq!(opened.remove_key([9; 8]).await.unwrap_err().code(), "key.no-such-slot");
    second.open("still").await;
}

fn without_create_only() -> Abilities {
    Abilities { create_only: CreateOnly::Ignored, most_winners: 16, ..able() }
}

#[tokio::test]
async fn with_a_single_writer_others_may_only_read() {
    let folder = tempfile::tempdir().unwrap();
    let state = Some(folder.path().to_owned());
    let (trial, first) = Trial::begin_with(60, without_create_only(), state.clone()).await;
    let point = backup(&first, "db", &vec![1, 2], None).await.unwrap();
    let reader = trial.open("other").await;
    assert_eq!(restore(&reader, point.point).await.unwrap(), [1, 2]);
    let refused = reader.forget(point.point, "test").await.unwrap_err();
    assert_eq!(refused.code(), "journal.only-reader");
    let refused = reader.sweep(&crate::sweep::SweepOptions::default()).await;
    assert!(matches!(refused, Err(SweepError::Journal(JournalError::OnlyReader { .. }))));

    let session = first.open_session("db").await.unwrap();
    let refused = first.sweep(&crate::sweep::SweepOptions::default()).await;
    assert!(matches!(refused, Err(SweepError::SessionOpen { .. })));
    session.close().await.unwrap();
    first.forget(point.point, "test").await.unwrap();
    assert_eq!(first.sweep(&crate::sweep::SweepOptions::default()).await.unwrap().deleted_objects, 2);
    assert!(first.journal().fetch(1).await.unwrap().unwrap().0.single_writer);
}

#[tokio::test]
async fn a_single_writer_sends_after_a_crash_what_it_was_about_to_send() {
    for fault in [Fault::None, Fault::LostAnswer, Fault::Late, Fault::Failed] {
        let folder = tempfile::tempdir().unwrap();
        let state = Some(folder.path().to_owned());
        let (trial, first) = Trial::begin_with(61, without_create_only(), state.clone()).await;
        trial.store.plan("PUT", "journal/", fault);
        trial.store.take_log();
        {
            let opening = first.open_session("db");
            tokio::pin!(opening);
            while trial.store.take_log().iter().all(|request| !request.starts_with("PUT journal/")) {
                let _ = futures::poll!(&mut opening);
            }
        }
        let before = first.high_water().0;
        drop(first);
        let again = trial.try_open(options("first", state)).await.unwrap();
        assert_eq!(again.high_water().0, before + 1, "{fault:?}");
        backup(&again, "db", &vec![1], None).await.unwrap();
        // The late PUT of the killed process lands after all that: with the very same bytes.
        while trial.store.arrive() {}
        again.audit(&|_, _| ()).await.unwrap();
    }
}

#[tokio::test]
async fn a_second_writer_is_noticed() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let state = |folder: &tempfile::TempDir| Some(folder.path().to_owned());
    let (trial, first) = Trial::begin_with(62, without_create_only(), state(&one)).await;
    // The same name on another machine: its disk knows nothing of what was sent.
    let second = trial.try_open(options("first", state(&two))).await.unwrap();
    let refused = second.open_session("db").await;
    assert!(matches!(refused, Err(SessionError::Journal(JournalError::TooSoon { .. }))), "{refused:?}");
    let stateless = trial.try_open(OpenOptions { state_dir: None, ..options("first", None) }).await.unwrap();
    let refused = stateless.open_session("db").await;
    assert!(matches!(refused, Err(SessionError::Journal(JournalError::NeedsState))), "{refused:?}");
    trial.store.pass(jiff::SignedDuration::from_mins(16));
    second.open_session("db").await.unwrap();
    let refused = first.open_session("db").await;
    assert!(matches!(refused, Err(SessionError::Journal(JournalError::SecondWriter { .. }))), "{refused:?}");
}

#[tokio::test]
async fn an_interrupted_init_is_completed_by_who_opens() {
    let (trial, repository) = Trial::begin(63).await;
    assert_eq!(repository.known_fold().keys.len(), 1);
    trial.store.remove("journal/00000000000000000001");
    let opened = trial.try_open(options("next", None)).await;
    assert!(!matches!(opened, Err(OpenError::NoRepository { .. })));
    assert_eq!(opened.unwrap().known_fold().keys.len(), 1);
}
