//! The story that `make quickstart` tells, with the binary under test and less data.

use std::process::Command;

use crate::call::binary;
use crate::kernel::is_root;

fn tell(repository: Option<(String, Vec<(String, String)>)>) {
    let mut story = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/quickstart/story"));
    story.env("STRONGROOM", binary()).env("STORY_MEGABYTES", "40").env_remove("STRONGROOM_REPOSITORY");
    if let Some((url, env)) = repository {
        story.env("STRONGROOM_REPOSITORY", url).envs(env);
    }
    let output = story.output().expect("the story starts");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    println!("{said}");
    assert!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
    assert!(said.contains("without a mismatch"), "{said}");
}

#[test]
fn the_story_ends_well_in_a_directory() {
    if is_root("the_story_ends_well_in_a_directory") {
        tell(None);
    }
}

#[test]
fn the_story_ends_well_in_a_real_bucket() {
    const NAME: &str = "the_story_ends_well_in_a_real_bucket";
    if let Some(server) = is_root(NAME).then(|| crate::s3::server(NAME)).flatten() {
        tell(Some((server.fresh_prefix(), server.env())));
    }
}
