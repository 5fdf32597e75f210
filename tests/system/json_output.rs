//! What programs read: every command answers one object, and every field of it is documented.

use std::fs;

use serde_json::Value;

use crate::content::write_image;
use crate::ground::{Ground, text};

/// Fields whose insides are told elsewhere: what was published, what the store can do, names that people chose.
const OPAQUE: [&str; 7] = ["info", "abilities", "labels", "target", "delete", "rewrite", "not_rewritten"];

/// The names of all fields of a result, without those that every object has.
fn names(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                found.push(name.clone());
                if !OPAQUE.contains(&name.as_str()) {
                    names(value, found);
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| names(item, found)),
        _ => {}
    }
}

/// The fields of a result that docs/json-output.md does not tell of.
pub(crate) fn undocumented_fields(result: &Value) -> Vec<String> {
    let document = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/json-output.md"))
        .expect("the document");
    let mut found = Vec::new();
    names(result, &mut found);
    found.retain(|name| !document.contains(&format!("`{name}`")));
    found
}

#[test]
fn every_result_is_one_object_whose_fields_are_documented() {
    let document = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/json-output.md"))
        .expect("the document");
    let ground = Ground::new();
    ground.init();
    let image = ground.path("disk.img");
    write_image(&image, 8 << 20, 2 << 20, 1);
    ground.back_up_image("disk", &image).ok();
    write_image(&image, 8 << 20, 2 << 20, 2);
    ground.back_up_image("disk", &image).ok();
    let points = ground.points("disk");
    let back = ground.path("back.img");
    let second = format!("file://{}", ground.path("second").display());
    let third = format!("file://{}", ground.path("third").display());
    let (image, back, key) = (text(&image), text(&back), ground.key());
    let config = ground.config("");
    // Without the driver, status says so and looks at the repository alone.
    let mut undocumented = Vec::new();
    for line in [
        vec!["version"],
        vec!["init", "--repository", &second, "--key-file", text(&key)],
        vec!["backup", "image", "--volume", "disk", image],
        vec!["points", "list"],
        vec!["points", "show", &points[0]],
        vec!["points", "hold", &points[0]],
        vec!["points", "release", &points[0]],
        vec!["restore", "plan", "--volume", "disk", "--latest", "--to-file", back],
        vec!["restore", "run", "--volume", "disk", "--latest", "--to-file", back, "--yes"],
        vec!["points", "forget", &points[0]],
        vec!["repository", "check", "--read-data"],
        vec!["repository", "scrub", "--share", "50%"],
        vec!["repository", "repair"],
        vec!["repository", "stats"],
        vec!["repository", "prune", "--dry-run"],
        vec!["repository", "prune"],
        vec!["repository", "rebuild-index"],
        vec!["repository", "key", "list"],
        vec!["repository", "copy", "--to", &third],
        vec!["repository", "extend-locks"],
        vec!["repository", "copy", "--promote", "--yes", "--repository", &third],
        vec!["repository", "key", "generate", text(&ground.path("private"))],
        vec!["repository", "key", "recovery-kit", "--to", text(&ground.path("kit"))],
        vec!["repository", "key", "write-only", "on"],
        vec!["repository", "key", "add", "--write-only", "--new-key-file", text(&ground.path("agent-key"))],
        vec!["repository", "key", "rotate"],
        vec!["status", "--config", text(&config)],
    ] {
        let answer = ground.run(line.clone());
        assert!(matches!(answer.code, Some(0 | 1)), "{answer}");
        let result = answer.json();
        assert_eq!(result["type"], "result", "{answer}");
        assert_eq!(result["version"], 1, "{answer}");
        let words = result["command"].as_str().unwrap_or_default();
        assert!(line.join(" ").starts_with(words) && !words.is_empty(), "{answer}");
        for before in answer.stdout.lines().rev().skip(1) {
            let object: Value = serde_json::from_str(before).expect("standard output is JSON only");
            assert_eq!(object["type"], "progress", "{answer}");
        }
        let mut found = Vec::new();
        names(&result, &mut found);
        found.retain(|name| !document.contains(&format!("`{name}`")));
        found.sort();
        found.dedup();
        if !found.is_empty() {
            undocumented.push(format!("{words}: {}", found.join(", ")));
        }
    }
    assert!(undocumented.is_empty(), "docs/json-output.md lacks {undocumented:#?}");
}
