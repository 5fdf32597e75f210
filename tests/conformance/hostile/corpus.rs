//! The strings.
//!
//! Those that look like paths carry [`MARK`], so that whatever they made would be found.

use crate::machine::Machine;

/// In every name that could become a file.
pub(crate) const MARK: &str = "strongroom-hostile";

pub(crate) fn strings() -> Vec<String> {
    let marked = [
        "../M",
        "../../M",
        "../../../../../../../../M",
        "../../../../etc/cron.d/M",
        "/M",
        "/etc/cron.d/M",
        "/tmp/M",
        "//M",
        "/./M",
        "/../M",
        "./M",
        "M/",
        "M/..",
        "M/../../..",
        "M/.",
        "..\\M",
        "..\\..\\M",
        "%2e%2e%2fM",
        "%2e%2e/%2e%2e/M",
        "..%2fM",
        "%252e%252e%252fM",
        "..%c0%afM",
        "\\040M",
        "\\056\\056\\057M",
        "M\0",
        "\0M",
        "../M\0.img",
        "-M",
        "--M",
        "-rf M",
        "--help",
        "M\n",
        "\nM",
        "M\r\nSet-Cookie: a",
        "M\t",
        "\u{1b}[31mM",
        "\u{7f}M",
        "\u{85}M",
        "M;touch /tmp/M",
        "$(touch /tmp/M)",
        "`touch /tmp/M`",
        "M|touch /tmp/M",
        "M&&touch /tmp/M",
        "M>/tmp/M",
        "~/M",
        "~root",
        "$HOME/M",
        "*",
        "?",
        "[a-z]",
        "{a,b}",
        "'M'",
        "\"M\"",
        "M,nouuid",
        "M=1",
        "ro,loop=/dev/loop0",
        "größe 日本 M",
        "\u{202e}M",
        "\u{200b}M",
        "\u{feff}M",
        "e\u{301}M",
        "\u{1f4a5}M",
        "%s%n%x M",
        "'; DROP TABLE volumes; --",
        "CON",
        "null",
        "true",
        "0",
        "-1",
        ".M",
        "...",
        "vol-",
        "snap-",
        "group-",
        "point:",
        "point:../M",
        "/proc/self/fd/0",
        "/proc/self/root/M",
        "/dev/null",
        "/sys",
        "/",
        "",
        ".",
        "..",
        " ",
        "   ",
    ];
    let mut all: Vec<String> = marked.iter().map(|text| text.replace('M', MARK)).collect();
    all.push("x".repeat(4096));
    all.push(format!("/{}", "a/".repeat(2040)));
    all.push(format!("{}{MARK}", "../".repeat(1000)));
    all.push("ü".repeat(64));
    all
}

/// Places of this machine that are not the driver's to touch, or not this way.
pub(crate) fn places(machine: &Machine) -> Vec<String> {
    let names = [
        "yard",
        "yard/outside",
        "yard/outside/canary",
        "yard/mounts",
        "yard/mounts/link",
        "yard/mounts/link/M",
        "yard/mounts/pods/link",
        "yard/mounts/pods/link/M",
        "yard/mounts/file",
        "yard/mounts/file/M",
        "yard/mounts/../outside",
        "yard/mounts/pods/../../outside/M",
        "yard/mounts-M",
        "yard/mountsM",
        "pool",
        "pool/volumes",
        "pool/volumes/M",
        "state",
        "state/driver.sqlite",
        "state/M",
        "csi.sock",
        "",
    ];
    names.iter().map(|name| machine.text(&name.replace('M', MARK))).collect()
}
