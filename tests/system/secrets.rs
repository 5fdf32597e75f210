//! Keys and credentials are never said: not to the log, not in an error, not on a command line, not in a file we write.

use std::fs;
use std::process::Command;

use crate::content::write_image;
use crate::ground::{Ground, text};

const PASSPHRASE: &str = "correct horse battery staple 4711";
const CREDENTIAL: &str = "SecretAccessKeyThatNobodyMaySee";

#[test]
fn no_secret_is_printed_or_written_anywhere() {
    let ground = Ground::new();
    ground.init();
    let key = fs::read_to_string(ground.key()).expect("the key can be read");
    let hex = key.split('-').find(|part| part.len() == 64).expect("64 hexadecimal digits").to_owned();
    fs::write(ground.path("passphrase"), format!("{PASSPHRASE}\n")).expect("a file can be written");
    sh_mode(&ground, "passphrase");
    write_image(&ground.path("disk.img"), 8 << 20, 4 << 20, 1);

    let mut said = String::new();
    let config = ground.config("");
    for line in [
        vec!["repository", "key", "add", "--new-passphrase-file", text(&ground.path("passphrase"))],
        vec!["backup", "image", "--volume", "disk", text(&ground.path("disk.img"))],
        vec!["points", "list", "--passphrase-file", text(&ground.path("passphrase"))],
        vec!["repository", "check", "--read-data"],
        vec!["repository", "key", "list"],
        vec!["repository", "key", "generate", text(&ground.path("private"))],
        vec!["repository", "key", "recovery-kit", "--to", text(&ground.path("kit"))],
        vec!["repository", "key", "rotate"],
        vec!["points", "list", "--key-file", text(&ground.path("kit"))],
        vec![
            "restore",
            "run",
            "--volume",
            "disk",
            "--latest",
            "--yes",
            "--to-file",
            text(&ground.path("back.img")),
        ],
        vec!["status", "--config", text(&config)],
        vec!["points", "list", "--repository", "s3://127.0.0.1-nobody/x"],
    ] {
        let running = ground
            .call(line)
            .env("RUST_LOG", "trace")
            .env("AWS_ACCESS_KEY_ID", "AccessKey")
            .env("AWS_SECRET_ACCESS_KEY", CREDENTIAL)
            .env("AWS_REGION", "us-east-1")
            .env("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
            .start();
        let words = fs::read_to_string(format!("/proc/{}/cmdline", running.pid())).unwrap_or_default();
        let answer = running.wait();
        said.push_str(&words);
        said.push_str(&answer.stdout);
        said.push_str(&answer.stderr);
    }
    assert!(said.len() > 1000, "the log was on");
    let private = fs::read_to_string(ground.path("private")).expect("the private key can be read");
    let private = private.split('-').find(|part| part.len() == 64).expect("64 hexadecimal digits").to_owned();
    let kit = fs::read_to_string(ground.path("kit")).expect("the kit can be read");
    let kit = kit.lines().find_map(|line| line.trim().strip_prefix("K1  ")).expect("the kit has a key")[..19]
        .to_owned();
    for (secret, name) in [
        (hex.as_str(), "key"),
        (PASSPHRASE, "passphrase"),
        (CREDENTIAL, "credential"),
        (&private, "private key"),
        (&kit, "recovery kit's key"),
    ] {
        assert!(!said.contains(secret), "the {name} was printed: {}", around(&said, secret));
    }
    // Nothing but the files that were made to hold them.
    for secret in [hex.as_str(), PASSPHRASE, CREDENTIAL, &private, &kit] {
        let found =
            Command::new("grep").args(["-rlF", secret, text(ground.root())]).output().expect("grep runs");
        let found = String::from_utf8_lossy(&found.stdout).into_owned();
        let own = ["/key", "/passphrase", "/private", "/kit"];
        let strange: Vec<_> =
            found.lines().filter(|name| !own.iter().any(|own| name.ends_with(own))).collect();
        assert!(strange.is_empty(), "{strange:?}");
    }
}

fn sh_mode(ground: &Ground, name: &str) {
    use std::os::unix::fs::PermissionsExt as _;
    fs::set_permissions(ground.path(name), fs::Permissions::from_mode(0o600)).expect("the mode can be set");
}

fn around<'a>(text: &'a str, secret: &str) -> &'a str {
    text.lines().find(|line| line.contains(secret)).unwrap_or_default()
}
