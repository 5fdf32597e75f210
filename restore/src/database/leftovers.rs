//! Ending the servers that a killed command left: those of database engines that work below a folder of ours.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// How long a server may take to end that is told to drop everything.
const SERVER_ENDS: Duration = Duration::from_secs(10);

const LOOK_EVERY: Duration = Duration::from_millis(100);

/// What is ended, by the names of the processes: the servers, and who talks to them for us.
const PROGRAMS: [&str; 4] = ["postgres", "mariadbd", "mariadb", "mariadb-binlog"];

/// Ends the servers that work below a folder. Whoever calls it knows that nobody minds them any more.
pub(super) fn end_servers(folder: &Path) {
    let told = Instant::now();
    // As the machine itself calls it, when it says where a server works.
    let folder = fs::canonicalize(folder).unwrap_or_else(|_| folder.to_owned());
    loop {
        let servers = servers_below(&folder);
        if servers.is_empty() || told.elapsed() > SERVER_ENDS * 2 {
            // What keeps it is seen when the volume cannot be unmounted.
            return;
        }
        let is_patient = told.elapsed() <= SERVER_ENDS;
        for (server, name) in servers {
            // PostgreSQL ends at once by this; MariaDB would write everything down first.
            let signal = if is_patient && name == "postgres" { Signal::QUIT } else { Signal::KILL };
            let _ = kill_process(server, signal);
        }
        std::thread::sleep(LOOK_EVERY);
    }
}

/// Each stands in its data folder, or in the folder that it was started in.
fn servers_below(folder: &Path) -> Vec<(Pid, String)> {
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let found = processes.filter_map(|process| {
        let is_below = fs::read_link(process.path().join("cwd")).is_ok_and(|place| place.starts_with(folder));
        let name = is_below.then(|| fs::read_to_string(process.path().join("comm")).ok()).flatten()?;
        let name = name.trim_end().to_owned();
        let number = process.file_name().to_str()?.parse().ok().and_then(Pid::from_raw)?;
        PROGRAMS.contains(&name.as_str()).then_some((number, name))
    });
    found.collect()
}
