//! What is shipped for running the program (chart, manifests, units, compose file, job, alerts, dashboard) is held to the
//! program: tests/deploy/check.py says how.

use std::path::Path;
use std::process::Command;

use crate::call::binary;

#[test]
fn what_is_deployed_fits_the_program_and_what_kubernetes_knows() {
    let run = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/deploy/run");
    let checked = Command::new(run).arg("check").arg(binary()).output().expect("bash is here");
    let said = String::from_utf8_lossy(&checked.stderr);
    if checked.status.code() == Some(75) && std::env::var_os("CI").is_none() {
        println!("SKIPPED: the Python packages of tests/deploy cannot be had here\n{said}");
        return;
    }
    assert!(checked.status.success(), "{}{said}", String::from_utf8_lossy(&checked.stdout));
    assert!(said.contains("Ran "), "no check was made: {said}");
    for line in said.lines().filter(|line| line.contains("SKIPPED")) {
        println!("{line}");
    }
}
