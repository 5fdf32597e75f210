//! Redis on a volume: what a backup of it holds loads, also when the server was in the middle of something, and with timestamps in
//! its append-only file it goes back to a second.

use std::process::{Child, Command, Stdio};

use super::*;

const PASSWORD: &str = "a password of Redis";

/// A server with its data in a folder of a volume, ended whatever happens.
struct Redis {
    child: Child,
    socket: PathBuf,
}

impl Redis {
    /// `None`, said loudly: there is none on this machine.
    fn start(folder: &Path, data: &Path, settings: &str) -> Option<Self> {
        if Command::new("redis-server").arg("--version").output().is_err() {
            eprintln!("SKIPPED: no redis-server (tests/setup/debian test installs it)");
            return None;
        }
        fs::create_dir_all(folder).expect("a folder");
        fs::create_dir_all(data).expect("a folder");
        let socket = folder.join("redis.sock");
        let config = folder.join("redis.conf");
        let lines = format!(
            "port 0\nunixsocket {}\ndir {}\nsave \"\"\nrequirepass \"{PASSWORD}\"\nlogfile {}\n{settings}\n",
            socket.display(),
            data.display(),
            folder.join("log").display()
        );
        fs::write(&config, lines).expect("it can be written");
        let child = Command::new("redis-server")
            .arg(&config)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("redis-server starts");
        let server = Self { child, socket };
        let since = Instant::now();
        while server.ask(&["ping"]) != "PONG" {
            let said = fs::read_to_string(folder.join("log")).unwrap_or_default();
            assert!(since.elapsed() < Duration::from_secs(30), "Redis does not start: {said}");
            thread::sleep(Duration::from_millis(50));
        }
        Some(server)
    }

    fn ask(&self, words: &[&str]) -> String {
        let answer = Command::new("redis-cli")
            .args(["-s", text(&self.socket), "--no-auth-warning"])
            .args(words)
            .env("REDISCLI_AUTH", PASSWORD)
            .output()
            .expect("redis-cli starts");
        String::from_utf8_lossy(&answer.stdout).trim().to_owned()
    }

    fn stop(mut self) {
        self.ask(&["shutdown", "nosave"]);
        let _ = self.child.wait();
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Backs up the volume as the configuration says, and brings it back beside.
fn back_up_and_restore(ground: &Ground, socket: &Path, to: &str) -> (PathBuf, String) {
    let password = ground.path("redis.password");
    fs::write(&password, format!("{PASSWORD}\n")).expect("it can be written");
    fs::set_permissions(&password, std::os::unix::fs::PermissionsExt::from_mode(0o600)).expect("it is ours");
    let config = ground.config(&format!(
        "[[database]]\nname = \"cache\"\nvolume = \"db\"\nengine = \"redis\"\nhost = \"{}\"\npassword_file = \"{}\"\n",
        socket.display(),
        password.display()
    ));
    let line = ["backup", "run", "--volume", "db", "--config", text(&config)];
    let answer = ground.call(line).env("RUST_LOG", "warn,strongroom=info").run().ok();
    assert!(!answer.stderr.contains(PASSWORD), "the password is nowhere");
    ground.run(["restore", "run", "--volume", "db", "--latest", "--to-volume", to, "--yes"]).ok();
    let back = ground.path(&format!("mnt-{to}"));
    fs::create_dir_all(&back).expect("a mount point can be made");
    ground.run(["volume", "mount", to, text(&back)]).ok();
    (back, answer.stderr)
}

#[test]
fn a_backup_of_redis_has_what_was_answered_before_it_and_its_append_only_file_goes_back_to_a_second() {
    let test =
        "a_backup_of_redis_has_what_was_answered_before_it_and_its_append_only_file_goes_back_to_a_second";
    if !is_root(test) {
        return;
    }
    let mut ground = Ground::new();
    ground.init();
    ground.start_driver("2GiB");
    let mount = ground.mounted_volume("db", "256MiB");
    let there = ground.path("redis");

    // In memory alone: a dump is made for the backup.
    if let Some(server) = Redis::start(&there, &mount.join("data"), "") {
        server.ask(&["set", "order", "1"]);
        let (back, said) = back_up_and_restore(&ground, &server.socket, "first");
        assert!(said.contains("a dump of"), "{said}");
        server.ask(&["set", "order", "2"]);
        // Nothing was written to the volume since, and yet there is something new.
        let (again, _) = back_up_and_restore(&ground, &server.socket, "second");
        server.stop();
        for (back, expected, volume) in [(back, "1", "first"), (again, "2", "second")] {
            let restored = Redis::start(&ground.path(volume), &back.join("data"), "").expect("there is one");
            assert_eq!(restored.ask(&["get", "order"]), expected);
            restored.stop();
            unmount(&ground, volume);
        }

        // An append-only file that is just being rewritten, and writers.
        let appending = "appendonly yes\naof-timestamp-enabled yes";
        let server = Redis::start(&there, &mount.join("aof"), appending).expect("there is one");
        server.ask(&["debug", "populate", "200000"]);
        server.ask(&["bgrewriteaof"]);
        for _ in 0..300 {
            server.ask(&["incr", "orders"]);
        }
        thread::sleep(Duration::from_millis(1100));
        let second =
            std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("a clock").as_secs();
        thread::sleep(Duration::from_millis(1100));
        assert_eq!(server.ask(&["flushall"]), "OK");
        let (back, said) = back_up_and_restore(&ground, &server.socket, "third");
        assert!(said.contains("an append-only file up to the snapshot"), "{said}");
        server.stop();
        let data = back.join("aof");
        let settings = format!("{appending}\naof-load-truncated yes");
        let restored = Redis::start(&ground.path("third"), &data, &settings).expect("there is one");
        assert_eq!(restored.ask(&["get", "orders"]), "", "up to the snapshot, with the mistake");
        restored.stop();
        unmount(&ground, "third");

        // To the second before the mistake, in a fresh copy.
        ground.run(["restore", "run", "--volume", "db", "--latest", "--to-volume", "fourth", "--yes"]).ok();
        let back = ground.path("mnt-fourth");
        fs::create_dir_all(&back).expect("a mount point can be made");
        ground.run(["volume", "mount", "fourth", text(&back)]).ok();
        let data = back.join("aof");
        let cut = Command::new("redis-check-aof")
            .args(["--truncate-to-timestamp", &second.to_string()])
            .arg(data.join("appendonlydir/appendonly.aof.manifest"))
            .output()
            .expect("redis-check-aof starts");
        assert!(cut.status.success(), "{}", String::from_utf8_lossy(&cut.stdout));
        let restored = Redis::start(&ground.path("fourth"), &data, &settings).expect("there is one");
        assert_eq!(restored.ask(&["get", "orders"]), "300");
        restored.stop();
        unmount(&ground, "fourth");
    }
    unmount(&ground, "db");
    ground.stop_driver();
    ground.assert_nothing_leaks();
}
