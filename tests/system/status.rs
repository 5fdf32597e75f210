//! Status: red when something is not as it was promised, by exit code too.

use std::fs;
use std::thread;
use std::time::Duration;

use crate::content::write_files;
use crate::ground::{Ground, text};
use crate::kernel::is_root;

#[test]
fn status_is_0_healthy_1_at_risk_2_unprotected() {
    if !is_root("status_is_0_healthy_1_at_risk_2_unprotected") {
        return;
    }
    let mut ground = Ground::new();
    ground.init();
    ground.start_driver("2GiB");
    let mount = ground.mounted_volume("db", "128MiB");
    write_files(&mount, 4, 100_000, 1);
    let config = ground.config("");
    let status = |ground: &Ground| ground.run(["status", "--config", text(&config)]);

    // Covered, and never backed up: at risk.
    let answer = status(&ground);
    assert_eq!(answer.code, Some(1), "{answer}");

    ground.back_up_volume("db");
    let answer = status(&ground).ok();
    assert_eq!(answer.json()["volumes"][0]["health"], "healthy", "{answer}");
    assert_eq!(answer.json()["volumes"][0]["policy"], "everything", "{answer}");

    // The goal is missed.
    let strict = fs::read_to_string(&config).expect("it was written").replace("rpo = \"2h\"", "rpo = \"1s\"");
    fs::write(&config, strict).expect("it can be written");
    thread::sleep(Duration::from_millis(1200));
    let answer = status(&ground);
    assert_eq!(answer.code, Some(1), "{answer}");
    assert_eq!(answer.json()["volumes"][0]["health"], "at-risk", "{answer}");

    // A volume that no policy covers outweighs it.
    let narrow = fs::read_to_string(&config).expect("it was written").replace("[\"*\"]", "[\"db\"]");
    fs::write(&config, narrow).expect("it can be written");
    ground.run(["volume", "create", "forgotten", "--size", "64MiB"]).ok();
    let answer = status(&ground);
    assert_eq!(answer.code, Some(2), "{answer}");
    let unprotected = ground.run(["status", "--unprotected", "--config", text(&config)]);
    assert_eq!(unprotected.code, Some(2), "{unprotected}");
    let volumes = unprotected.json()["volumes"].clone();
    assert_eq!(volumes.as_array().map(Vec::len), Some(1), "{unprotected}");
    assert_eq!(volumes[0]["volume"], "forgotten", "{unprotected}");
    let told = ground.call(["status", "--config", text(&config)]).run();
    assert!(told.stdout.contains("NOT PROTECTED"), "{told}");

    ground.run(["volume", "unmount", "db"]).ok();
    ground.stop_driver();
    ground.assert_nothing_leaks();
}
