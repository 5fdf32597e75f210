use clap::{CommandFactory as _, Parser};

use super::*;

#[derive(Debug, Parser)]
#[command(name = "strongroom")]
struct Line {
    #[command(subcommand)]
    command: Command,
}

fn read(words: &str) -> Result<Command, clap::Error> {
    Line::try_parse_from(["strongroom"].into_iter().chain(words.split_whitespace())).map(|line| line.command)
}

#[test]
fn the_command_line_is_the_one_that_is_fixed() {
    Line::command().debug_assert();
    for words in [
        "driver --pool /p --pool-size 10G --endpoint unix:///run/x.sock --node-id n --state-dir /s",
        "driver doctor",
        "driver doctor --repair --unstage-idle --endpoint /run/x.sock",
        "driver doctor --pool /p --state-dir /s",
        "volume create db --size 64MiB",
        "volume create db --size 64MiB --fs xfs --label a=b --label c=d",
        "volume create db --size 64MiB --from-snapshot snap-1",
        "volume create db --from-volume other",
        "volume create db --from-point rp-1 --repository file:///r --key-file /k",
        "volume list",
        "volume show db",
        "volume mount db /mnt",
        "volume unmount db",
        "volume expand db --size 1GiB",
        "volume clone db new",
        "volume delete db --endpoint /run/x.sock",
        "snapshot create db --name before",
        "snapshot list",
        "snapshot list db",
        "snapshot delete snap-1",
        "snapshot group create nightly db shop --label a=b",
        "snapshot group list",
        "snapshot group delete nightly",
        "volume modify db policy=hourly iops.write=100 label.a=",
        "volume detach db --node n",
        "snapshot diff snap-1 snap-2",
        "driver-thaw-watchdog 7 30000 /mnt",
    ] {
        read(words).unwrap_or_else(|error| panic!("{words}: {error}"));
    }
}

#[test]
fn what_contradicts_itself_is_refused() {
    for words in [
        "volume create db",
        "volume create db --size 10",
        "volume create db --size 1G --fs ntfs",
        "volume create db --size 1G --label a",
        "volume create db --from-volume a --from-snapshot b",
        "volume create db --from-point rp-1 --repository /r --fs xfs",
        "volume create db --from-point rp-1 --repository /r --label a=b",
        "volume create db --size 1G --repository file:///r",
        "driver --pool /p --endpoint /e --node-id a/b --state-dir /s",
        "driver --pool /p doctor",
        "driver doctor --pool /p",
    ] {
        assert!(read(words).is_err(), "{words}");
    }
}

#[test]
fn a_volume_from_a_recovery_point_is_a_restore() {
    let words = "volume create db --from-point rp-1 --size 1G --repository file:///r --endpoint /x.sock";
    assert_eq!(
        read(words).unwrap().elsewhere().unwrap(),
        [
            "restore",
            "run",
            "--yes",
            "--point",
            "rp-1",
            "--to-volume=db",
            "--endpoint=/x.sock",
            "--size=1073741824B",
            "--repository=file:///r"
        ]
    );
    assert_eq!(read("volume create db --size 1G").unwrap().elsewhere(), None);
}
