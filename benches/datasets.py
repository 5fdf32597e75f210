"""The data sets that engines are measured with: made once from a seed, kept for the next run, each in two states.

    image     ext4 of 4 GiB, 70 % full with a realistic mix; then 1 % of its 4 KiB blocks written at random places of
              the files, and 50 MiB of new files
    postgres  ext4 with the data folder of a PostgreSQL server, after `pgbench -i`; then after some 10,000 transactions
    empty     ext4 of 1 TiB with 64 MiB of files; then with 16 MiB more

Needs root (loop mounts). The content comes from the seed alone; where ext4 puts it is the kernel's choice.
"""

import contextlib
import pathlib
import shutil
import subprocess

import content
from ground import GIB, MIB, apart, run

SEED = 4


@contextlib.contextmanager
def mounted(image):
    folder = image.with_suffix(".mnt")
    folder.mkdir(exist_ok=True)
    run("mount", "-o", "loop", image, folder)
    try:
        yield folder
    finally:
        run("umount", folder)
        folder.rmdir()


def formatted(image, size):
    image.unlink(missing_ok=True)
    run("truncate", "-s", size, image)
    run("mkfs.ext4", "-q", "-F", "-m", "0", "-U", "5eed5eed-0000-4000-8000-000000000004", "-E", "lazy_itable_init=1,nodiscard", image)


def make_image(before, after, scale):
    size = int(4 * GIB * scale)
    formatted(before, size)
    with mounted(before) as folder:
        content.fill(folder, int(size * 0.7), SEED)
    run("cp", "--sparse=always", before, after)
    with mounted(after) as folder:
        content.change(folder, size // 4096 // 100, int(50 * MIB * scale), SEED + 1)


def make_empty(before, after, scale):
    formatted(before, 1 << 40)
    with mounted(before) as folder:
        content.fill(folder, 64 * MIB, SEED)
    run("cp", "--sparse=always", before, after)
    with mounted(after) as folder:
        content.change(folder, 160, 16 * MIB, SEED + 1)


def make_postgres(before, after, scale):
    homes = sorted(pathlib.Path("/usr/lib/postgresql").glob("*/bin/pgbench"))
    if not homes:
        raise SystemExit("PostgreSQL is missing: tests/setup/debian bench")
    tools = homes[-1].parent
    # A server of nobody else: its socket lies in its own folder, and it listens nowhere.
    begun = "-k {0} -c listen_addresses= -c max_wal_size=256MB -c min_wal_size=80MB"

    def as_server(*words, cwd):
        run("setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups", *words, cwd=cwd)

    def served(folder, *work):
        cluster = folder / "cluster"
        as_server(tools / "pg_ctl", "-w", "-s", "-D", cluster, "-l", folder / "log", "-o", begun.format(folder), "start", cwd=folder)
        try:
            for words in work:
                as_server(*words, cwd=folder)
        finally:
            as_server(tools / "pg_ctl", "-w", "-s", "-D", cluster, "stop", cwd=folder)

    def pgbench(folder, *words):
        return [tools / "pgbench", "-h", folder, *words, "bench"]

    formatted(before, int(2 * GIB * max(scale, 0.25)))
    with mounted(before) as folder:
        shutil.chown(folder, "postgres", "postgres")
        as_server(tools / "initdb", "-D", folder / "cluster", "--no-sync", "--locale=C", "--encoding=UTF8", cwd=folder)
        served(folder, [tools / "createdb", "-h", folder, "bench"], pgbench(folder, "-i", "-q", "-s", max(1, int(50 * scale))))
    run("cp", "--sparse=always", before, after)
    with mounted(after) as folder:
        served(folder, pgbench(folder, "-n", "-c", 4, "-t", 2500, "--random-seed", SEED))


MAKERS = {"image": make_image, "postgres": make_postgres, "empty": make_empty}


def make(name, folder, scale):
    """The two states of a data set, made unless they are there."""
    folder.mkdir(parents=True, exist_ok=True)
    before, after, ready = (folder / f"{name}.{what}" for what in ("before", "after", f"ready-{scale}"))
    if not ready.exists():
        for old in folder.glob(f"{name}.*"):
            subprocess.run(["umount", "-q", old], check=False) if old.suffix == ".mnt" else None
            shutil.rmtree(old) if old.is_dir() else old.unlink()
        apart(MAKERS[name], before, after, scale)
        ready.touch()
    return before, after
