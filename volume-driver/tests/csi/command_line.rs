//! `volume` and `snapshot` as a person types them.

use std::fs;

use clap::Parser;
use strongroom_console::{Captured, Console, Output};
use strongroom_driver::cli::{self, Command};

use crate::ground::{Ground, world};

#[derive(Debug, Parser)]
struct Line {
    #[command(subcommand)]
    command: Command,
}

/// Types `words` with the endpoint of `ground` behind them; a word of its own is what has no space in it.
async fn typed(ground: &Ground, words: &str, output: Output) -> (Result<(), String>, Captured) {
    let (console, captured) = Console::captured(output);
    let endpoint = ["--endpoint", ground.endpoint.as_str()];
    let line = ["strongroom"].into_iter().chain(words.split_whitespace()).chain(endpoint);
    let command = Line::try_parse_from(line).unwrap_or_else(|error| panic!("{words}: {error}")).command;
    let done = match cli::run(command, &console, &world()).await {
        Ok(_) => Ok(()),
        Err(failed) => {
            let code = failed.failure().code().to_owned();
            console.fail(&failed);
            Err(code)
        }
    };
    (done, captured)
}

async fn text(ground: &Ground, words: &str) -> String {
    let (done, captured) = typed(ground, words, Output::Text).await;
    assert_eq!(done, Ok(()), "{words}: {}", captured.stderr());
    captured.stdout()
}

async fn json(ground: &Ground, words: &str) -> serde_json::Value {
    let (done, captured) = typed(ground, words, Output::Json).await;
    assert_eq!(done, Ok(()), "{words}: {}", captured.stderr());
    serde_json::from_str(captured.stdout().lines().last().unwrap()).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_person_walks_the_whole_way_by_words() {
    let Some(ground) = Ground::new("the command line").await else { return };
    let mnt = ground.text("mnt");
    fs::create_dir(&mnt).unwrap();
    assert!(text(&ground, "volume list").await.contains("there are no volumes"));
    let made = json(&ground, "volume create db --size 64MiB --label team=a").await;
    assert_eq!(
        (made["created"].as_bool(), made["volume"]["size_bytes"].as_u64()),
        (Some(true), Some(64 << 20))
    );
    assert_eq!(json(&ground, "volume create db --size 64MiB --label team=a").await["created"], false);
    assert!(text(&ground, &format!("volume mount db {mnt}")).await.contains("is mounted at"));
    fs::write(ground.path("mnt/file"), "one").unwrap();
    let base = json(&ground, "snapshot create db --name before").await;
    let base = base["snapshot"]["id"].as_str().unwrap().to_owned();
    fs::write(ground.path("mnt/file"), "two").unwrap();
    let target = json(&ground, "snapshot create db").await;
    assert_eq!(target["snapshot"]["owner"], "user");
    let target = target["snapshot"]["id"].as_str().unwrap().to_owned();
    let diff = json(&ground, &format!("snapshot diff {base} {target}")).await;
    assert!(
        diff["changed_bytes"].as_u64() > Some(0) && diff["ranges"][0]["length_bytes"].as_u64() > Some(0),
        "{diff}"
    );
    assert!(
        text(&ground, &format!("snapshot diff {base} {target} --limit 1")).await.contains("of 64 MiB differ")
    );
    assert!(text(&ground, &format!("snapshot diff {base} {base}")).await.contains("nothing differs"));

    assert!(text(&ground, "volume expand db --size 96MiB").await.contains("db has 96 MiB"));
    text(&ground, &format!("volume create restored --from-snapshot {base}")).await;
    text(&ground, "volume clone db copy --label team=b").await;
    let list = text(&ground, "volume list").await;
    assert!(["db", "restored", "copy", &mnt].iter().all(|word| list.contains(word)), "{list}");
    assert_eq!(json(&ground, "volume list --label team=b").await["volumes"].as_array().unwrap().len(), 1);
    let show = text(&ground, "volume show db").await;
    assert!(show.contains("96 MiB") && show.contains("team=a") && show.contains("by-hand"), "{show}");
    let snapshots = text(&ground, "snapshot list db").await;
    assert!(snapshots.contains("before") && snapshots.contains(&target), "{snapshots}");

    let (refused, captured) = typed(&ground, "volume delete db", Output::Text).await;
    assert_eq!(refused, Err("driver.in-use".into()), "{}", captured.stderr());
    assert!(captured.stderr().contains("next:"), "{}", captured.stderr());
    assert!(text(&ground, "volume unmount db").await.contains(&mnt));
    for words in
        ["volume delete db".to_owned(), "volume delete copy".into(), format!("snapshot delete {base}")]
    {
        assert!(text(&ground, &words).await.contains("is deleted"), "{words}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_person_mistypes_is_told_with_code_and_remedy() {
    let Some(ground) = Ground::new("mistyped commands").await else { return };
    for (words, code) in [
        ("volume show nobody", "driver.not-found"),
        ("volume delete nobody", "driver.not-found"),
        ("volume create x --from-volume nobody", "driver.not-found"),
        ("volume create x --from-snapshot y", "driver.not-found"),
        ("snapshot create nobody", "driver.not-found"),
        ("snapshot delete snap-00000000000000000000000000000000", "driver.not-found"),
        ("snapshot diff a b", "driver.not-found"),
        ("volume create x --size 1PiB", "driver.pool-full"),
    ] {
        let (answer, captured) = typed(&ground, words, Output::Json).await;
        assert_eq!(answer, Err(code.to_owned()), "{words}: {}", captured.stderr());
        let error: serde_json::Value = serde_json::from_str(&captured.stdout()).unwrap();
        assert_eq!((&error["type"], &error["code"]), (&"error".into(), &code.into()));
        assert!(
            !captured.stderr().contains(&format!("[{code}]")),
            "the code is said once: {}",
            captured.stderr()
        );
    }
}
