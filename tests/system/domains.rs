//! Tenants of one repository, through the program: each with a key of its own, and an operator who reads none of them.

use std::fs;
use std::path::{Path, PathBuf};

use crate::content::{assert_same, write_image};
use crate::ground::{Ground, text};
use crate::json_output::undocumented_fields;

const SIZE: u64 = 8 << 20;

struct Tenant {
    key: PathBuf,
    image: PathBuf,
}

impl Tenant {
    /// A domain with a key file of its own.
    fn add(ground: &Ground, name: &str) -> Self {
        let (key, image) = (ground.path(&format!("{name}-key")), ground.path(&format!("{name}.img")));
        let line = ["repository", "domain", "add", name, "--new-key-file", text(&key)];
        assert_eq!(undocumented_fields(&ground.run(line).ok().json()), [""; 0]);
        Self { key, image }
    }

    fn key(&self) -> [&str; 2] {
        ["--key-file", text(&self.key)]
    }

    fn back_up(&self, ground: &Ground, volume: &str) -> serde_json::Value {
        let line = ["backup", "image", "--volume", volume, text(&self.image)];
        ground.run(line.into_iter().chain(self.key())).ok().json()
    }

    fn points(&self, ground: &Ground) -> Vec<serde_json::Value> {
        let list = ground.run(["points", "list"].into_iter().chain(self.key())).ok().json();
        list["points"].as_array().expect("a list of points").clone()
    }

    #[track_caller]
    fn brings_back(&self, ground: &Ground, volume: &str) {
        let back = ground.path("back.img");
        let _ = fs::remove_file(&back);
        let line = ["restore", "run", "--volume", volume, "--latest", "--yes", "--to-file", text(&back)];
        ground.run(line.into_iter().chain(self.key())).ok();
        assert_same(&back, &self.image);
    }
}

fn stored_bytes(ground: &Ground, shelf: &str) -> u64 {
    fn below(path: &Path) -> u64 {
        let entries = fs::read_dir(path).map(|entries| entries.flatten().collect::<Vec<_>>());
        entries
            .unwrap_or_default()
            .iter()
            .map(|entry| match entry.metadata() {
                Ok(kind) if kind.is_dir() => below(&entry.path()),
                Ok(kind) => kind.len(),
                Err(_) => 0,
            })
            .sum()
    }
    let repository = ground.repository().strip_prefix("file://").unwrap_or(ground.repository());
    below(&Path::new(repository).join(shelf))
}

#[test]
fn two_tenants_with_equal_content_share_a_repository_and_nothing_else() {
    let ground = Ground::new();
    ground.run(["init", "--shared"]).ok();
    let (a, b) = (Tenant::add(&ground, "one"), Tenant::add(&ground, "two"));
    for tenant in [&a, &b] {
        write_image(&tenant.image, SIZE, 2 << 20, 1);
    }
    let first = a.back_up(&ground, "disk");
    let once = stored_bytes(&ground, "packs");
    let second = b.back_up(&ground, "disk");
    let twice = stored_bytes(&ground, "packs");
    assert_eq!(first["new_bytes"], second["new_bytes"], "nothing of the other's is found again");
    assert!(twice > once * 19 / 10 && twice < once * 21 / 10, "{once} and then {twice}");
    assert_eq!(a.back_up(&ground, "disk")["new_bytes"], 0, "its own is");

    assert_eq!((a.points(&ground).len(), b.points(&ground).len()), (2, 1));
    a.brings_back(&ground, "disk");
    b.brings_back(&ground, "disk");
    let of_b = b.points(&ground)[0]["id"].as_str().unwrap().to_owned();
    let by_a = |line: &[&str]| ground.call(line.iter().copied().chain(a.key())).run();
    by_a(&["points", "show", &of_b]).refused(1, "domain.others-point");
    by_a(&["repository", "domain", "add", "three", "--new-key-file", text(&ground.path("three"))])
        .refused(1, "domain.not-operator");
    by_a(&["points", "list", "--domain", "2"]).refused(1, "domain.wrong-key");
    by_a(&["backup", "image", "--volume", "disk", text(&a.image), "--domain", "9"])
        .refused(1, "domain.wrong-key");
    // The same machine has both keys, and mistakes one for the other.
    ground
        .call(["backup", "image", "--volume", "only-of-a", text(&a.image)].into_iter().chain(a.key()))
        .run()
        .ok();
    ground
        .call(["backup", "image", "--volume", "only-of-a", text(&a.image)].into_iter().chain(b.key()))
        .run()
        .refused(1, "domain.moved");
    // The operator sees that they are there, and reads nothing.
    let list = ground.run(["points", "list"]).ok().json();
    assert_eq!((list["points"].as_array().unwrap().len(), list["sealed_points"].as_u64()), (0, Some(4)));
    ground.call(["points", "show", &of_b]).run().refused(1, "domain.others-point");
    ground.call(["repository", "domain", "close", "9", "--yes"]).run().refused(1, "domain.unknown");
    let domains = ground.run(["repository", "domain", "list"]).ok().json();
    assert_eq!(domains["domains"][1]["name"], "one");
    assert_eq!(undocumented_fields(&domains), [""; 0]);
    let domains = ground.run(["repository", "domain", "list"].into_iter().chain(b.key())).ok().json();
    assert!(domains["domains"].as_array().unwrap().iter().all(|domain| domain["name"].is_null()));
}

#[test]
fn the_operator_frees_and_checks_for_all_and_a_domain_rotates_alone() {
    let ground = Ground::new();
    ground.run(["init", "--shared"]).ok();
    let (a, b) = (Tenant::add(&ground, "one"), Tenant::add(&ground, "two"));
    for (tenant, seed) in [(&a, 1), (&b, 2)] {
        write_image(&tenant.image, SIZE, 2 << 20, seed);
        tenant.back_up(&ground, "disk");
    }
    write_image(&a.image, SIZE, 2 << 20, 3);
    a.back_up(&ground, "disk");
    let old = a.points(&ground)[0]["id"].as_str().unwrap().to_owned();
    ground.run(["points", "forget", &old].into_iter().chain(a.key())).ok();
    let pruned = ground.run(["repository", "prune", "--at-once"].into_iter().chain(a.key())).ok().json();
    assert!(pruned["sweep"].is_null(), "the operator sweeps: {pruned}");
    let before = stored_bytes(&ground, "packs");
    let swept = ground.run(["repository", "prune", "--at-once"]).ok().json();
    assert!(swept["sweep"]["deleted_objects"].as_u64() > Some(0), "{swept}");
    assert!(stored_bytes(&ground, "packs") < before * 3 / 4);

    let spare = ground.path("spare");
    ground
        .run(
            ["repository", "key", "add", "--new-key-file", text(&spare), "--label", "spare"]
                .into_iter()
                .chain(a.key()),
        )
        .ok();
    let slots = ground.run(["repository", "key", "list"].into_iter().chain(a.key())).ok().json();
    let of_spare = |slot: &&serde_json::Value| slot["label"] == "spare";
    let slot = slots["slots"].as_array().unwrap().iter().find(of_spare).unwrap()["slot"]
        .as_str()
        .unwrap()
        .to_owned();
    ground.run(["repository", "key", "rotate", "--remove", &slot].into_iter().chain(a.key())).ok();
    ground.call(["points", "list", "--key-file", text(&spare)]).run().refused(1, "key.wrong");
    ground.run(["repository", "key", "rotate"]).ok();
    write_image(&a.image, SIZE, 2 << 20, 4);
    a.back_up(&ground, "disk");
    for tenant in [&a, &b] {
        tenant.brings_back(&ground, "disk");
        ground.run(["repository", "check", "--read-data"].into_iter().chain(tenant.key())).ok();
    }
    ground.run(["repository", "check", "--read-data"]).ok();
    ground.run(["repository", "audit"]).ok();
    ground.run(["repository", "scrub"]).ok();

    // A machine with nothing but the bucket and the domain's key.
    let back = ground.path("bare.img");
    ground
        .call(["restore", "run", "--volume", "disk", "--latest", "--yes", "--to-file", text(&back)])
        .args(["--repository", ground.repository(), "--key-file", text(&b.key)])
        .env("HOME", ground.path("bare"))
        .env("XDG_CACHE_HOME", ground.path("bare"))
        .run()
        .ok();
    assert_same(&back, &b.image);

    let closed = ground.run(["repository", "domain", "close", "two", "--forget-points", "--yes"]).ok().json();
    assert_eq!(closed["forgotten"], 1, "{closed}");
    assert_eq!(undocumented_fields(&closed), [""; 0]);
    assert_ne!(ground.run(["points", "list"].into_iter().chain(b.key())).json()["type"], "result");
    a.brings_back(&ground, "disk");
}
