//! What tests kill the driver by is not in the program.

use std::fs;
use std::path::Path;
use std::process::Command;

fn gather(folder: &Path, found: &mut Vec<String>) {
    for entry in fs::read_dir(folder).expect("the sources can be listed") {
        let path = entry.expect("the sources can be listed").path();
        if path.is_dir() {
            gather(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).expect("a source file is text");
            let named = text.split("crash::point!(\"").skip(1).filter_map(|rest| rest.split('"').next());
            found.extend(named.map(str::to_owned));
        }
    }
}

#[test]
fn no_crash_point_is_in_the_program() {
    let mut points = Vec::new();
    gather(&Path::new(env!("CARGO_MANIFEST_DIR")).join("volume-driver/src"), &mut points);
    assert!(points.len() > 50, "the crash points were not found: {points:?}");
    let output = Command::new("grep")
        .args(["-a", "-o", "-w", "-F"])
        .args(points.iter().flat_map(|point| ["-e", point.as_str()]))
        .arg(env!("CARGO_BIN_EXE_strongroom"))
        .output()
        .expect("grep starts");
    let inside = String::from_utf8_lossy(&output.stdout);
    // 1: it looked at all of it and found nothing.
    assert!(output.status.code() == Some(1), "{inside} {}", String::from_utf8_lossy(&output.stderr));
}
