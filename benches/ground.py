"""What the measurements stand on: commands and what they cost, loop devices, a driver with a pool. All of it goes away again."""

import json
import os
import pathlib
import shutil
import subprocess
import tempfile
import time
import traceback

ROOT = pathlib.Path(__file__).resolve().parent.parent
TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
BINARY = os.environ.get("STRONGROOM_TEST_BINARY", str(TARGET / "release" / "strongroom"))
TEMPORARY = pathlib.Path(os.environ.get("TMPDIR", "/var/tmp"))
KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30


def run(*words, cwd=None):
    done = subprocess.run([str(word) for word in words], cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(map(str, words))}: {done.stdout}{done.stderr}")
    return done.stdout.strip()


def timed(*words):
    began = time.monotonic()
    run(*words)
    return (time.monotonic() - began) * 1000


def load():
    return os.getloadavg()[0]


def row(*cells):
    print("| " + " | ".join(str(cell) for cell in cells) + " |", flush=True)


def table(title, *heads):
    print(f"\n{title}\n")
    row(*heads)
    row(*("---" for _ in heads))


class Ground:
    """A driver whose pool is a loop device on a file, and equal devices beside it; all of it goes away again."""

    def __init__(self, stack, tidy=0, gib=6, sparse=False):
        self.stack, self.gib, self.sparse = stack, gib, sparse
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="strongroom-bench-", dir=TEMPORARY))
        stack.callback(shutil.rmtree, self.folder, ignore_errors=True)
        self.endpoint = self.folder / "run" / "csi.sock"
        self.pool = self.device("pool")
        words = [BINARY, "driver", "--pool", self.pool, "--endpoint", self.endpoint, "--node-id", "bench"]
        words += ["--state-dir", self.folder / "state", "--tidy-above", tidy, "--mount-root", self.folder]
        log = open(self.folder / "driver.log", "w")
        self.driver = subprocess.Popen([str(word) for word in words], stdout=log, stderr=log)
        stack.callback(self.stop)
        for _ in range(200):
            if self.endpoint.exists():
                break
            time.sleep(0.05)
        self.strongroom("volume", "list")

    def device(self, name):
        file = self.folder / f"{name}.img"
        run(*(("truncate", "-s") if self.sparse else ("fallocate", "-l")), f"{self.gib}G", file)
        device = run("losetup", "-f", "--show", "--direct-io=on", "-b", "4096", file)
        self.stack.callback(lambda: subprocess.run(["losetup", "-d", device]))
        return device

    def stop(self):
        for line in reversed(pathlib.Path("/proc/self/mountinfo").read_text().splitlines()):
            place = line.split()[4]
            if place.startswith(f"{self.folder}/m"):
                subprocess.run(["umount", place])
        for line in run("losetup", "-n", "-O", "NAME,BACK-FILE").splitlines():
            if f"{self.folder}/state/pool/" in line:
                subprocess.run(["losetup", "-d", line.split()[0]])
        self.driver.terminate()
        self.driver.wait()
        subprocess.run(["umount", self.folder / "state" / "pool"])

    def strongroom(self, *words):
        return run(BINARY, *words, "--endpoint", self.endpoint)

    def timed(self, *words):
        return timed(BINARY, *words, "--endpoint", self.endpoint)

    def shown(self, name):
        return json.loads(self.strongroom("volume", "show", name, "--output", "json"))["volume"]

    def mounted(self, name, fs, size="1GiB"):
        self.strongroom("volume", "create", name, "--size", size, "--fs", fs)
        folder = self.folder / f"m-{name}"
        folder.mkdir()
        self.strongroom("volume", "mount", name, folder)
        return folder


def apart(work, *words):
    """Does some work in a process of its own: what a child is said to have held in memory begins with what its parent held."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            work(*words)
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) != 0:
        raise SystemExit(f"{work.__name__} failed")


class Cost:
    """What a command took: seconds by the clock, seconds of processor in itself and its children, the most memory of one of them."""

    def __init__(self, wall, cpu, peak_mib, output, code):
        self.wall, self.cpu, self.peak_mib, self.output, self.code = wall, cpu, peak_mib, output, code

    def answer(self):
        """The last line, as JSON."""
        return json.loads(self.output.strip().splitlines()[-1])


def processor_seconds(pid):
    """User and system time of a process that runs, such as a service."""
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def measured(*words, env=None, cwd=None, limit=None):
    """Runs a command to its end (or for `limit` seconds: then its code is None) and answers its cost. A failure ends the run."""
    words = [str(word) for word in words]
    with tempfile.TemporaryFile() as out:
        began = time.monotonic()
        process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT, env={**os.environ, **(env or {})}, cwd=cwd)
        late = False
        while limit and not late:
            done, status, usage = os.wait4(process.pid, os.WNOHANG)
            if done:
                break
            late = time.monotonic() - began > limit
            time.sleep(0.01)
        if late:
            process.kill()
        if late or not limit:
            _, status, usage = os.wait4(process.pid, 0)
        wall = time.monotonic() - began
        process.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0)
        output = out.read().decode(errors="replace")
    code = None if late else process.returncode
    # borg says 1 where it only warns.
    if code not in (None, 0) and not (code == 1 and words[0].endswith("borg")):
        raise SystemExit(f"{' '.join(words)} failed with {code}: {output}")
    return Cost(wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024, output, code)
