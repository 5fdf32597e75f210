//! Two tenants and an operator, in one repository.

use strongroom_model::Failure;

use super::*;
use crate::keys::{KeyFile, Unlock};
use crate::layout::{ObjectKind, PackKind};
use crate::pack::{PackPlace, read_footer};
use crate::seal::{self, BlobKind};
use crate::simulation::world::{Trial, backup, chunk, options, restore};
use crate::sweep::SweepOptions;

const ALL: SweepOptions = SweepOptions { min_hole_ratio: 0.0, max_rewrite_bytes: u64::MAX };

/// A shared repository, its operator, and as many tenants as are asked for, each with a key of their own.
async fn shared(seed: u64, tenants: usize) -> (Trial, Repository, Vec<Trial>) {
    let (trial, operator) = Trial::begin_shared(seed).await;
    let mut all = Vec::new();
    for number in 1..=tenants {
        let unlock = Unlock::KeyFile(KeyFile::generate(&*trial.world.entropy));
        let key = (NewKey::Holder(unlock.clone()), format!("tenant {number}"));
        let added = operator.add_domain(&format!("t{number}"), &[key], PassphraseCost::TEST).await.unwrap();
        assert_eq!(added.0, u32::try_from(number).unwrap());
        all.push(Trial { unlock, ..trial.clone() });
    }
    (trial, operator, all)
}

#[tokio::test]
async fn equal_content_of_two_domains_is_stored_twice_and_each_reads_its_own() {
    let (_, operator, tenants) = shared(700, 2).await;
    let (a, b) = (tenants[0].open("a").await, tenants[1].open("b").await);
    assert_eq!((a.domain(), b.domain(), operator.domain()), (1, 2, 0));
    let of_a = backup(&a, "db", &vec![1, 2, 3], None).await.unwrap();
    let of_b = backup(&b, "db", &vec![1, 2, 3], None).await.unwrap();
    assert_eq!(restore(&a, of_a.point).await.unwrap(), [1, 2, 3]);
    assert_eq!(restore(&b, of_b.point).await.unwrap(), [1, 2, 3]);
    assert!(restore(&a, of_b.point).await.is_err());
    assert!(restore(&operator, of_a.point).await.is_err());
    let fold = a.fold().await.unwrap();
    assert_eq!((fold.points.len(), fold.sealed.len(), fold.foreign_points()), (1, 2, 1));
    let data: Vec<_> = fold.packs.values().filter(|pack| pack.place.kind == PackKind::Data).collect();
    assert_eq!(data.len(), 2);
    let mut ids = BTreeSet::new();
    for (tenant, pack) in data.iter().flat_map(|pack| [(&a, pack), (&b, pack)]) {
        if let Ok(footer) = read_footer(&tenant.inner.context, pack.place).await {
            assert_eq!(footer.domain(), tenant.domain());
            ids.extend(footer.rows().iter().map(|row| row.id));
        }
    }
    assert_eq!(ids.len(), 6, "three chunks in each of the two");
}

#[tokio::test]
async fn a_domain_dedups_within_itself_and_its_parent_is_found() {
    let (_, _, tenants) = shared(701, 2).await;
    let a = tenants[0].open("a").await;
    let first = backup(&a, "db", &vec![1, 2, 3], None).await.unwrap();
    let packs = a.known_fold().packs.len();
    let parent = a.known_fold().points[&first.point].clone();
    backup(&a, "db", &vec![1, 2, 3, 4], Some(&parent)).await.unwrap();
    assert_eq!(a.known_fold().packs.len(), packs + 2);
    // Another machine of the same domain sees the names, too.
    let again = tenants[0].open("c").await;
    let fold = again.fold().await.unwrap();
    assert!(fold.points.values().all(|point| point.volume.as_str() == "db" && point.info.agent == "a"));
    assert!(fold.points.values().any(|point| point.parent == Some(first.point)));
}

#[tokio::test]
async fn no_name_of_a_domain_stands_in_anything_that_another_opens() {
    let (_, operator, tenants) = shared(702, 2).await;
    let (a, b) = (tenants[0].open("a").await, tenants[1].open("secret-host").await);
    let point = backup(&b, "secret-volume", &vec![1], None).await.unwrap().point;
    b.hold(point, "secret-hold").await.unwrap();
    b.hold(point, "secret-other").await.unwrap();
    b.release(point, "secret-other").await.unwrap();
    assert_eq!(b.fold().await.unwrap().points[&point].held.iter().collect::<Vec<_>>(), ["secret-hold"]);
    b.open_session("secret-purpose").await.unwrap();
    b.release(point, "secret-hold").await.unwrap();
    b.forget(point, "secret-reason").await.unwrap();
    let session = b.known_fold().sessions.values().next().unwrap().clone();
    assert_eq!(
        (b.unveil(&session.agent), b.unveil(&session.purpose)),
        ("secret-host".into(), "secret-purpose".into())
    );
    for other in [&a, &operator] {
        let fold = other.fold().await.unwrap();
        assert_eq!(other.unveil(&fold.sessions.values().next().unwrap().agent), "(sealed, domain 2)");
        for number in 1..=fold.number {
            let (record, _) = other.journal().fetch(number).await.unwrap().unwrap();
            assert!(!format!("{record:?}").contains("secret"), "{record:?}");
        }
        assert!(!format!("{fold:?}").contains("secret"));
    }
}

/// Everything that these keys open of the objects of a repository, and the objects as they are.
async fn all_it_opens(trial: &Trial, who: &Repository) -> Vec<Vec<u8>> {
    let (context, id) = (&who.inner.context, who.id());
    let mut opened = Vec::new();
    for name in trial.store.names("") {
        let sealed = trial.store.object(&name).unwrap();
        let plain = match ObjectName::parse(&name).unwrap().1 {
            ObjectKind::Journal(number) => {
                let (ring, binding) = (&who.journal().keyring, number.to_le_bytes());
                seal::open(ring, id, BlobKind::JournalRecord, &binding, &sealed).ok()
            }
            ObjectKind::Checkpoint(number) => {
                let (ring, binding) = (&who.journal().keyring, number.to_le_bytes());
                seal::open(ring, id, BlobKind::Checkpoint, &binding, &sealed).ok()
            }
            ObjectKind::IndexRun(key) => {
                seal::open(&context.keyring, id, BlobKind::IndexRun, &key, &sealed).ok()
            }
            ObjectKind::Pack(kind, object) => {
                let place = PackPlace { kind, object, bytes: sealed.len() as u64 };
                if let Ok(footer) = read_footer(context, place).await {
                    for row in footer.rows() {
                        opened.push(row.id.bytes().to_vec());
                        let range = usize::try_from(row.offset).unwrap()..usize::try_from(row.end()).unwrap();
                        let entry = crate::pack::open_entry(&footer, row, &sealed[range]);
                        opened.extend(entry.ok().map(|plain| plain.to_vec()));
                    }
                }
                None
            }
            _ => None,
        };
        opened.extend(plain);
        opened.push(sealed.to_vec());
    }
    opened
}

fn holds(opened: &[Vec<u8>], needle: &[u8]) -> bool {
    opened.iter().any(|bytes| bytes.windows(needle.len()).any(|window| window == needle))
}

#[tokio::test]
async fn nothing_that_a_key_opens_holds_bytes_ids_or_names_of_another_domain() {
    let (trial, operator, tenants) = shared(712, 2).await;
    let (a, b) = (tenants[0].open("a").await, tenants[1].open("secret-host").await);
    let fills: Vec<u8> = vec![1, 2, 200];
    backup(&a, "volume-of-a", &vec![1, 2, 100], None).await.unwrap();
    let point = backup(&b, "secret-volume", &fills, None).await.unwrap().point;
    b.hold(point, "secret-hold").await.unwrap();
    for one in [&a, &b] {
        one.fold().await.unwrap();
        one.journal().checkpoint_now().await;
    }
    operator.fold().await.unwrap();
    let (of_a, of_b, of_operator) = (
        all_it_opens(&trial, &a).await,
        all_it_opens(&trial, &b).await,
        all_it_opens(&trial, &operator).await,
    );
    operator.learn_domains().await.unwrap();
    let of_learned = all_it_opens(&trial, &operator).await;
    let ids: Vec<_> = fills.iter().map(|fill| b.chunk_hasher().id(&chunk(*fill))).collect();
    // The search finds what is there: everything of B's own, and A's own plain bytes.
    assert!(ids.iter().all(|id| holds(&of_b, id.bytes())) && holds(&of_b, &chunk(200)[..64]));
    assert!(holds(&of_a, &chunk(1)[..64]) && holds(&of_a, &chunk(100)[..64]));
    for (who, opened) in [("A", &of_a), ("the operator", &of_operator)] {
        assert!(!ids.iter().any(|id| holds(opened, &id.bytes()[..16])), "{who} found an id");
    }
    for (who, opened) in [("A", &of_a), ("the operator", &of_operator), ("the sweeper", &of_learned)] {
        assert!(!holds(opened, &chunk(200)[..64]), "{who} found plain bytes");
        assert!(!holds(opened, b"secret"), "{who} found a name");
    }
    // Whoever sweeps sees ids, and cannot make them.
    assert!(ids.iter().all(|id| holds(&of_learned, id.bytes())));
    assert!(!fills.iter().any(|fill| holds(&of_learned, operator.chunk_hasher().id(&chunk(*fill)).bytes())));
    let in_2 = crate::chunk::ChunkHasher::new(&operator.inner.context.keyring, 2);
    assert!(!fills.iter().any(|fill| holds(&of_learned, in_2.id(&chunk(*fill)).bytes())));
}

#[tokio::test]
async fn the_operator_sweeps_for_all_and_reads_nothing() {
    let (_, operator, tenants) = shared(703, 2).await;
    let (a, b) = (tenants[0].open("a").await, tenants[1].open("b").await);
    let old = backup(&a, "db", &vec![1, 2, 3, 4], None).await.unwrap();
    let parent = a.fold().await.unwrap().points[&old.point].clone();
    let new = backup(&a, "db", &vec![1, 2, 9, 9], Some(&parent)).await.unwrap();
    let kept = backup(&b, "db", &vec![1, 2, 3, 4], None).await.unwrap();
    let gone = backup(&b, "other", &vec![5, 6], None).await.unwrap();
    a.forget(old.point, "test").await.unwrap();
    b.forget(gone.point, "test").await.unwrap();
    let error = a.sweep(&ALL).await.unwrap_err();
    assert_eq!(error.code(), "domain.not-operator");
    let before = operator.fold().await.unwrap().packs.len();
    let swept = operator.sweep(&ALL).await.unwrap();
    assert!(swept.unreadable.is_empty() && swept.deleted_objects > 0, "{swept:?}");
    assert!(swept.rewritten_packs > 0, "{swept:?}");
    assert!(operator.fold().await.unwrap().packs.len() < before);
    assert_eq!(restore(&a, new.point).await.unwrap(), [1, 2, 9, 9]);
    assert_eq!(restore(&b, kept.point).await.unwrap(), [1, 2, 3, 4]);
    for one in [&a, &b, &operator] {
        let checked = one.check(true, &|_, _| {}).await.unwrap();
        assert!(checked.is_whole(), "{checked:?}");
    }
    assert!(operator.audit(&|_, _| {}).await.unwrap().wrong_checkpoints.is_empty());
}

fn flip(trial: &Trial, name: &str) {
    let mut bytes = trial.store.object(name).unwrap().to_vec();
    bytes[100] ^= 1;
    trial.store.replace(name, bytes);
}

#[tokio::test]
async fn damage_to_a_domain_is_seen_by_the_operator_who_cannot_read_it() {
    let (trial, operator, tenants) = shared(704, 2).await;
    let a = tenants[0].open("a").await;
    let point = backup(&a, "db", &vec![1, 2, 3, 4], None).await.unwrap().point;
    let fold = a.fold().await.unwrap();
    for kind in [PackKind::Data, PackKind::Map] {
        let place = fold.packs.values().map(|pack| pack.place).find(|place| place.kind == kind).unwrap();
        flip(&trial, place.name().as_str());
        let checked = operator.check(true, &|_, _| {}).await.unwrap();
        assert_eq!(checked.damages.len(), 1, "{checked:?}");
        let own = a.check(true, &|_, _| {}).await.unwrap();
        assert_eq!((own.damages.len(), own.damages[0].loses[0].point), (1, point), "{own:?}");
        if kind == PackKind::Map {
            assert_eq!(checked.damages[0].loses[0].volume.as_str(), "domain-1");
        }
        // The other tenant sees it as well, and not what it costs.
        let other = tenants[1].open("b").await.check(true, &|_, _| {}).await.unwrap();
        assert!(other.damages.iter().all(|damage| damage.loses.is_empty()), "{other:?}");
        flip(&trial, place.name().as_str());
    }
}

#[tokio::test]
async fn a_domain_rotates_alone_and_its_running_agents_follow() {
    let (_, operator, tenants) = shared(705, 2).await;
    let (a, b) = (tenants[0].open("a").await, tenants[1].open("b").await);
    let stolen = Unlock::KeyFile(KeyFile::generate(&*tenants[0].world.entropy));
    let slot = a
        .add_slot(&NewKey::Holder(stolen.clone()), Grants::Everything, "stolen", PassphraseCost::TEST)
        .await
        .unwrap();
    let thief = Trial { unlock: stolen, ..tenants[0].clone() };
    let running = tenants[0].open("running").await;
    let at_thief = thief.open("thief").await;
    let old = backup(&a, "db", &vec![1, 2], None).await.unwrap();
    let of_b = backup(&b, "db", &vec![1, 2], None).await.unwrap();
    let (epochs, journal) = ((a.sealing_epoch(), b.sealing_epoch()), operator.sealing_epoch());
    let rotation = Rotation { remove: [slot.id()].into(), ..Rotation::default() };
    a.rotate_keys(rotation).await.unwrap();
    assert!(a.sealing_epoch() > epochs.0);
    assert_eq!((b.sealing_epoch(), operator.sealing_epoch()), (epochs.1, journal));
    let new = backup(&running, "db", &vec![7, 8], None).await.unwrap();
    assert_eq!(restore(&a, new.point).await.unwrap(), [7, 8]);
    assert_eq!(restore(&running, old.point).await.unwrap(), [1, 2]);
    assert_eq!(restore(&b, of_b.point).await.unwrap(), [1, 2]);
    // Whoever had the key sees that something came, neither what nor of which volume; and can add nothing.
    let fold = at_thief.fold().await.unwrap();
    assert!(fold.sealed.contains_key(&new.point) && !fold.points.contains_key(&new.point));
    assert!(backup(&at_thief, "db", &vec![1], None).await.is_err());
    assert!(thief.try_open(options("thief", None)).await.is_err());
    // The operator learns the new structure by itself.
    a.forget(old.point, "test").await.unwrap();
    operator.sweep(&ALL).await.unwrap();
    assert!(operator.check(false, &|_, _| {}).await.unwrap().is_whole());
    assert_eq!(restore(&a, new.point).await.unwrap(), [7, 8]);
}

#[tokio::test]
async fn the_operators_rotation_gives_every_domain_the_new_journal_and_closing_one_does_not() {
    let (_, operator, tenants) = shared(706, 2).await;
    let (a, b) = (tenants[0].open("a").await, tenants[1].open("b").await);
    let old = backup(&a, "db", &vec![1], None).await.unwrap();
    operator.rotate_keys(Rotation::default()).await.unwrap();
    let new = backup(&a, "db", &vec![2], None).await.unwrap();
    let again = tenants[0].open("again").await;
    assert_eq!(restore(&again, old.point).await.unwrap(), [1]);
    assert_eq!(restore(&again, new.point).await.unwrap(), [2]);
    operator.close_domain(2, false).await.unwrap();
    assert!(backup_fails(&b).await, "its journal ended");
    let error = tenants[1].try_open(options("b", None)).await.unwrap_err();
    assert!(
        ["domain.no-journal", "seal.unknown-epoch", "journal.sealed"].contains(&error.code()),
        "{error:?}"
    );
    backup(&again, "db", &vec![3], None).await.unwrap();
    assert_eq!(operator.forget_domain(1, "gone").await.unwrap(), 3);
    assert!(again.fold().await.unwrap().points.is_empty());
}

async fn backup_fails(repository: &Repository) -> bool {
    repository.open_session("db").await.is_err()
}

#[tokio::test]
async fn keys_of_a_domain_are_managed_in_it_alone() {
    let (_, operator, tenants) = shared(707, 2).await;
    let (a, b) = (tenants[0].open("a").await, tenants[1].open("b").await);
    let of_a: Vec<_> = a.list_keys().await.unwrap();
    assert_eq!(of_a.iter().filter(|slot| slot.grants() == Grants::Everything).count(), 1);
    assert_eq!(of_a.iter().filter(|slot| slot.grants() == Grants::Structure).count(), 1);
    let last = of_a.iter().find(|slot| slot.grants() == Grants::Everything).unwrap().id();
    assert_eq!(a.remove_key(last).await.unwrap_err().code(), "key.last");
    assert_eq!(b.remove_key(last).await.unwrap_err().code(), "key.no-such-slot");
    assert_eq!(operator.remove_key(last).await.unwrap_err().code(), "key.no-such-slot");
    let error = a.add_domain("mine", &[], PassphraseCost::TEST).await.unwrap_err();
    assert_eq!(error.code(), "domain.not-operator");
    let error = operator.add_domain("t1", &[], PassphraseCost::TEST).await.unwrap_err();
    assert_eq!(error.code(), "domain.name-taken");
    let names: Vec<_> =
        operator.list_domains().await.unwrap().into_iter().map(|domain| domain.name).collect();
    assert_eq!(names, [None, Some("t1".to_owned()), Some("t2".to_owned())]);
    assert!(a.list_domains().await.unwrap().iter().all(|domain| domain.name.is_none()));
    assert_eq!(a.find_domain("9").await.unwrap_err().code(), "domain.unknown");
    let write_only = Unlock::KeyFile(KeyFile::generate(&*tenants[0].world.entropy));
    a.add_slot(&NewKey::Holder(write_only.clone()), Grants::WriteOnly, "host", PassphraseCost::TEST)
        .await
        .unwrap();
    let host = Trial { unlock: write_only, ..tenants[0].clone() }.open("host").await;
    let point = backup(&host, "db", &vec![4, 5], None).await.unwrap().point;
    assert!(restore(&host, point).await.is_err());
    assert_eq!(restore(&a, point).await.unwrap(), [4, 5]);
}

#[tokio::test]
async fn a_key_of_another_domain_than_was_named_is_refused() {
    let (_, _, tenants) = shared(708, 2).await;
    let named = |domain| crate::OpenOptions { domain: Some(domain), ..options("a", None) };
    assert_eq!(tenants[0].try_open(named(1)).await.unwrap().domain(), 1);
    for wrong in [0, 2] {
        let error = tenants[0].try_open(named(wrong)).await.unwrap_err();
        assert_eq!(error.code(), "domain.wrong-key", "{error:?}");
    }
}

#[tokio::test]
async fn domains_on_one_machine_keep_their_memories_apart_and_volumes_do_not_move_unnoticed() {
    let (_, _, tenants) = shared(709, 2).await;
    let folder = tempfile::tempdir().unwrap();
    let open = |trial: &Trial| {
        let trial = trial.clone();
        let options = options("host", Some(folder.path().to_owned()));
        async move { trial.try_open(options).await.unwrap() }
    };
    let (a, b) = (open(&tenants[0]).await, open(&tenants[1]).await);
    backup(&a, "db", &vec![1, 2, 3], None).await.unwrap();
    let of_b = backup(&b, "db", &vec![1, 2, 3], None).await.unwrap();
    assert_eq!(restore(&b, of_b.point).await.unwrap(), [1, 2, 3]);
    let folders: BTreeSet<_> = std::fs::read_dir(folder.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    assert_eq!(folders, [1, 2].map(|domain| format!("{}-domain-{domain}", a.id())).into());
    let id = a.chunk_hasher().id(b"content");
    assert_ne!(id, b.chunk_hasher().id(b"content"));
    let volume = "db".parse().unwrap();
    a.assign_volume(&volume, "vol-1").unwrap();
    a.assign_volume(&volume, "vol-1").unwrap();
    b.assign_volume(&volume, "vol-2").unwrap();
    assert_eq!(b.assign_volume(&volume, "vol-1").unwrap_err().code(), "domain.moved");
}

#[tokio::test]
async fn a_checkpoint_holds_no_more_than_everybody_may_know() {
    let (_, operator, tenants) = shared(710, 1).await;
    let a = tenants[0].open("a").await;
    let point = backup(&a, "db", &vec![1], None).await.unwrap().point;
    a.hold(point, "audit").await.unwrap();
    a.journal().checkpoint_now().await;
    let again = tenants[0].open("again").await;
    assert_eq!(again.known_fold().points[&point].held.iter().collect::<Vec<_>>(), ["audit"]);
    assert_eq!(again.known_fold(), a.known_fold());
    let number = operator.fold().await.unwrap().number;
    let stored = operator.journal().load_checkpoint(number).await.unwrap().unwrap();
    assert!(stored.points.is_empty() && !format!("{stored:?}").contains("audit"));
    assert!(a.audit(&|_, _| {}).await.unwrap().wrong_checkpoints.is_empty());
}

#[tokio::test]
async fn a_repository_that_is_not_shared_knows_no_domains() {
    let (_, repository) = Trial::begin(711).await;
    let error = repository.add_domain("x", &[], PassphraseCost::TEST).await.unwrap_err();
    assert_eq!(error.code(), "domain.not-shared");
    assert!(!repository.is_shared() && repository.known_fold().domains.is_empty());
}
