//! Damage on purpose: each kind of object x flipped, cut, deleted, swapped. It is detected and named, or it does not
//! matter; never wrong bytes, never a panic.

use std::path::Path;

use strongroom_model::{RecoveryPointId, World};
use strongroom_repository::keys::{KeyFile, Unlock};
use strongroom_repository::layout::{ObjectKind, ObjectName, PackKind};

use crate::world;

/// A repository with two points of one volume, one of another, and their contents.
struct Ground {
    folder: tempfile::TempDir,
    world: World,
    key: KeyFile,
    points: Vec<(RecoveryPointId, Vec<u8>)>,
}

impl Ground {
    async fn new() -> Self {
        let (folder, world) = (tempfile::tempdir().unwrap(), world::world(11));
        let key = KeyFile::generate(&*world.entropy);
        let repository = world::init(folder.path(), &world, &[Unlock::KeyFile(key.clone())]).await;
        let mut points = Vec::new();
        let mut image = world::image(11, 500_000);
        for seed in 0..2 {
            image[seed * 100_000..][..20_000].copy_from_slice(&world::image(20 + seed as u64, 20_000));
            points.push((world::back_up(&repository, &world, "db", &image).await, image.clone()));
        }
        let other = world::image(13, 200_000);
        points.push((world::back_up(&repository, &world, "web", &other).await, other));
        // A slot that is not needed, and a checkpoint that the journal is long enough for.
        let spare = Unlock::KeyFile(KeyFile::generate(&*world.entropy));
        repository.add_key(&spare, "spare", world::CHEAP).await.unwrap();
        Self { folder, world, key, points }
    }

    fn names(&self, wanted: fn(&ObjectKind) -> bool) -> Vec<String> {
        let names = world::objects(self.folder.path());
        names
            .into_iter()
            .filter(|name| ObjectName::parse(name).is_some_and(|(_, kind)| wanted(&kind)))
            .collect()
    }
}

/// One way to damage an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Harm {
    /// One bit, at this share of the object in 64ths.
    Flip(usize),
    /// The end is missing, from this share on in 64ths.
    Cut(usize),
    Empty,
    Grow,
    Delete,
    /// The bytes of another object of the same kind.
    Swap,
}

impl Harm {
    fn all() -> Vec<Self> {
        let flips = (0..64).step_by(5).chain([63]).map(Self::Flip);
        let cuts = [1, 20, 40, 63].map(Self::Cut);
        flips.chain(cuts).chain([Self::Empty, Self::Grow, Self::Delete, Self::Swap]).collect()
    }

    /// Whether there was something to damage.
    fn inflict(self, folder: &Path, object: &str, others: &[String]) -> bool {
        let path = folder.join(object);
        let mut bytes = std::fs::read(&path).unwrap();
        match self {
            Self::Flip(share) => {
                let at = bytes.len() * share / 64;
                bytes[at] ^= 1 << (share % 8);
            }
            Self::Cut(share) => bytes.truncate(bytes.len() * share / 64),
            Self::Empty => bytes.clear(),
            Self::Grow => bytes.push(0),
            Self::Delete => {
                std::fs::remove_file(path).unwrap();
                return true;
            }
            Self::Swap => {
                let Some(other) = others.iter().find(|other| *other != object) else { return false };
                bytes = std::fs::read(folder.join(other)).unwrap();
            }
        }
        std::fs::write(path, bytes).unwrap();
        true
    }
}

/// What a person sees of the damage.
struct Verdict {
    /// Everything that was said, by opening, check and restore.
    said: String,
    /// How many points came back right.
    right: usize,
    /// Whether the check, if it came so far, said that all is whole.
    whole: bool,
}

async fn look(ground: &Ground, folder: &Path) -> Verdict {
    let mut verdict = Verdict { said: String::new(), right: 0, whole: false };
    let repository = match world::open(folder, &ground.world, &ground.key).await {
        Ok(repository) => repository,
        Err(error) => {
            verdict.said = strongroom_model::chain(&error);
            return verdict;
        }
    };
    match repository.check(true, &|_, _| {}).await {
        Ok(report) => {
            verdict.whole = report.is_whole();
            verdict.said = serde_json::to_string(&report).unwrap();
        }
        Err(error) => verdict.said = strongroom_model::chain(&error),
    }
    for (point, image) in &ground.points {
        match world::restore(&repository, *point).await {
            Ok(read) if read == *image => verdict.right += 1,
            Ok(_) => panic!("{point} came back with WRONG BYTES"),
            Err(error) => {
                verdict.said.push('\n');
                verdict.said.push_str(&error);
            }
        }
    }
    verdict
}

/// Damages every object of a kind in every way, one at a time; `judge` complains.
async fn every(
    wanted: fn(&ObjectKind) -> bool,
    judge: impl Fn(&str, Harm, &Verdict) -> Result<(), &'static str>,
) {
    let ground = Ground::new().await;
    let sound = look(&ground, ground.folder.path()).await;
    assert!(sound.whole && sound.right == ground.points.len(), "not even the sound one is: {}", sound.said);
    let names = ground.names(wanted);
    assert!(!names.is_empty(), "there is nothing of this kind to damage");
    let mut complaints = Vec::new();
    for object in &names {
        for harm in Harm::all() {
            let copy = tempfile::tempdir().unwrap();
            world::copy(ground.folder.path(), copy.path());
            if harm.inflict(copy.path(), object, &names) {
                let verdict = look(&ground, copy.path()).await;
                if let Err(complaint) = judge(object, harm, &verdict) {
                    let Verdict { said, right, whole } = verdict;
                    complaints.push(format!(
                        "{object} {harm:?}: {complaint} (right {right}, whole {whole}): {said}"
                    ));
                }
            }
        }
    }
    assert!(complaints.is_empty(), "{} complaints:\n{}", complaints.len(), complaints.join("\n"));
}

/// The damage was seen, and the object named: by its name, or as the journal's records are called.
fn seen_and_named(object: &str, _: Harm, verdict: &Verdict) -> Result<(), &'static str> {
    let record = object.strip_prefix("journal/").and_then(|number| number.parse::<u64>().ok());
    let record = record.map(|number| format!("record {number} "));
    let named = verdict.said.contains(object) || record.is_some_and(|record| verdict.said.contains(&record));
    match (verdict.whole, named) {
        (true, _) => Err("not seen"),
        (false, false) => Err("not named"),
        (false, true) => Ok(()),
    }
}

#[tokio::test]
async fn damage_of_a_data_pack_is_named_and_stops_the_restore() {
    every(|kind| matches!(kind, ObjectKind::Pack(PackKind::Data, _)), seen_and_named).await;
}

#[tokio::test]
async fn damage_of_a_map_pack_is_named_and_stops_the_restore() {
    every(|kind| matches!(kind, ObjectKind::Pack(PackKind::Map, _)), seen_and_named).await;
}

#[tokio::test]
async fn damage_of_a_journal_record_is_named() {
    every(
        |kind| matches!(kind, ObjectKind::Journal(_)),
        |object, harm, verdict| {
            // The end of a journal can be cut off unseen by a machine that never saw it (race 16): no bytes are wrong then.
            if harm == Harm::Delete && verdict.whole && verdict.right == 3 {
                return Ok(());
            }
            seen_and_named(object, harm, verdict)
        },
    )
    .await;
}

#[tokio::test]
async fn damage_of_the_head_is_named() {
    every(
        |kind| matches!(kind, ObjectKind::Head),
        |object, harm, verdict| match verdict.right {
            // JSON has many forms of one content: white space at the end, another name for a field that says nothing. The
            // head's checksum is over what it says.
            3 if verdict.whole && matches!(harm, Harm::Grow | Harm::Flip(_)) => Ok(()),
            0 if verdict.said.contains(object) || verdict.said.contains("no repository") => Ok(()),
            0 => Err("not named"),
            _ => Err("not seen"),
        },
    )
    .await;
}

#[tokio::test]
async fn damage_of_a_key_slot_is_named_or_another_slot_opens() {
    every(
        |kind| matches!(kind, ObjectKind::KeySlot(_)),
        |object, _, verdict| {
            let id = object.strip_prefix("keys/").unwrap();
            // A slot with a damaged salt cannot be told from one of another key: then all of them are meant.
            if verdict.right == 0 && verdict.said.contains("opens none of the repository's") {
                return Ok(());
            }
            match (verdict.right, verdict.whole, verdict.said.contains(id)) {
                // Another slot opened: the check still says which one is damaged.
                (3 | 0, false, true) => Ok(()),
                (3, true, _) => Err("not seen"),
                (_, _, false) => Err("not named"),
                _ => Err("some points came back and some did not"),
            }
        },
    )
    .await;
}

#[tokio::test]
async fn damage_of_what_can_be_made_again_costs_nothing() {
    every(
        |kind| matches!(kind, ObjectKind::IndexRun(_)),
        |_, _, verdict| if verdict.right == 3 { Ok(()) } else { Err("it cost points") },
    )
    .await;
}
