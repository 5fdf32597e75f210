"""Content for measurements: made from a seed, shaped like what volumes hold.

Bytes are woven from pools of a few MiB (words, log lines, records, instructions, database pages), cut into short slices at
random places. So it compresses like the real thing within a chunk, is not the same in any two chunks, and comes fast enough
that gigabytes take seconds. One file in twenty-five is a copy of another.
"""

import functools
import itertools
import json
import os
import random

KIB, MIB = 1 << 10, 1 << 20
POOL = 8 * MIB
PAGE = 8192


def words(rng):
    letters = "etaoinshrdlucmfwypvbgkjqxz"
    weights = [1 / (place + 3) for place in range(len(letters))]
    known = ["".join(rng.choices(letters, weights, k=rng.randint(2, 11))) for _ in range(8000)]
    # Sums, so that drawing does not add up all weights each time.
    return known, list(itertools.accumulate(1 / (place + 5) for place in range(len(known))))


def text_pool(rng):
    known, weights = words(rng)
    return " ".join(rng.choices(known, cum_weights=weights, k=POOL // 6)).encode()[:POOL]


def log_pool(rng):
    known, weights = words(rng)
    lines, size = [], 0
    while size < POOL:
        line = "2026-11-%02dT%02d:%02d:%02d.%06dZ %s[%d] %s %s id=%08x\n" % (
            rng.randint(1, 30), rng.randint(0, 23), rng.randint(0, 59), rng.randint(0, 59), rng.randint(0, 999_999),
            known[rng.randint(0, 20)], rng.randint(1, 4000), rng.choice(("INFO", "INFO", "INFO", "WARN", "ERROR")),
            " ".join(rng.choices(known, cum_weights=weights, k=rng.randint(3, 9))), rng.getrandbits(32))
        lines.append(line)
        size += len(line)
    return "".join(lines).encode()[:POOL]


def record_pool(rng):
    known, weights = words(rng)
    lines, size = [], 0
    while size < POOL:
        name, other = rng.choices(known, cum_weights=weights, k=2)
        line = json.dumps({"id": rng.randint(1, 10**9), "name": name, "tags": rng.choices(known[:300], k=2), "value": round(rng.random() * 1000, 4),
                           "active": rng.random() < 0.8, "owner": other, "key": "%016x" % rng.getrandbits(64)}) + "\n"
        lines.append(line)
        size += len(line)
    return "".join(lines).encode()[:POOL]


def program_pool(rng):
    """Instructions of 2 to 8 bytes, a few of them often: about 6 bits a byte, like machine code."""
    known = [rng.randbytes(rng.choice((2, 3, 3, 4, 5, 7, 8))) for _ in range(6000)]
    weights = [1 / (place + 20) for place in range(len(known))]
    return b"".join(rng.choices(known, weights, k=POOL // 4))[:POOL]


def page_pool(rng):
    """Pages of a database: a head, slots, rows of numbers and short texts from the end, some room between."""
    known, weights = words(rng)
    pages = []
    for _ in range(POOL // PAGE):
        rows, size, most = [], 0, int(PAGE * rng.uniform(0.6, 0.95))
        while size < most:
            row = rng.getrandbits(30).to_bytes(8, "little") + rng.getrandbits(16).to_bytes(4, "little") + (1).to_bytes(8, "little")
            row += " ".join(rng.choices(known, cum_weights=weights, k=rng.randint(1, 8))).encode().ljust(24)
            rows.append(row)
            size += len(row) + 4
        slots = b"".join((PAGE - 60 * place & 0xFFFF).to_bytes(2, "little") + len(row).to_bytes(2, "little") for place, row in enumerate(rows))
        body = b"".join(rows)[: PAGE - 24 - len(slots)]
        pages.append(bytes(24) + slots + bytes(PAGE - 24 - len(slots) - len(body)) + body)
    return pages


@functools.cache
def pools():
    """The same for every seed: what is made of them is not."""
    rng = random.Random(20261121)
    return {"text": text_pool(rng), "log": log_pool(rng), "records": record_pool(rng), "program": program_pool(rng)}, page_pool(rng)


class Weaver:
    """Bytes of each kind, from one seed."""

    def __init__(self, seed):
        self.rng = random.Random(seed)
        self.pools, self.pages = pools()

    def bytes(self, kind, size):
        if kind == "noise":
            return self.rng.randbytes(size)
        parts, have = [], 0
        if kind == "pages":
            while have < size:
                page = self.rng.choice(self.pages)
                parts.append(self.rng.getrandbits(64).to_bytes(8, "little") + page[8:])
                have += PAGE
        else:
            pool, rng = self.pools[kind], self.rng.random
            while have < size:
                at, length = int(rng() * (POOL - 4096)), 300 + int(rng() * 2700)
                parts.append(pool[at : at + length])
                have += length
        return b"".join(parts)[:size]


# kind, share of the bytes, smallest and largest file
MIX = (("noise", 0.30, 64 * KIB, 24 * MIB), ("pages", 0.25, 1 * MIB, 128 * MIB), ("program", 0.17, 8 * KIB, 6 * MIB),
       ("text", 0.10, 1 * KIB, 256 * KIB), ("log", 0.09, 256 * KIB, 48 * MIB), ("records", 0.09, 4 * KIB, 16 * MIB))


def fill(folder, size, seed, name="data"):
    """Files of about `size` bytes together, of all kinds."""
    weaver = Weaver(seed)
    rng = weaver.rng
    for kind, share, least, most in MIX:
        left, number, kept = int(size * share), 0, None
        while left > 0:
            inner = folder / name / f"{kind}-{number // 200}"
            inner.mkdir(parents=True, exist_ok=True)
            # Many small and few large ones, spread evenly over the powers of two.
            length = min(int(least * (most / least) ** rng.random()), left)
            content = kept if kept and len(kept) <= left and rng.random() < 0.04 else weaver.bytes(kind, length)
            (inner / f"{number}.{kind}").write_bytes(content)
            kept = content if len(content) <= 4 * MIB else kept
            left -= len(content)
            number += 1


def change(folder, blocks, more, seed, new="new"):
    """Writes `blocks` blocks of 4 KiB at random places of the files, as a database does, and `more` bytes of files in the folder `new`."""
    weaver = Weaver(seed)
    rng = weaver.rng
    files = sorted(path for path in (folder / "data").rglob("*") if path.is_file())
    places = [(path, at) for path in files for at in range(path.stat().st_size // 4096)]
    chosen = sorted(rng.sample(range(len(places)), min(blocks, len(places))))
    for place in chosen:
        path, at = places[place]
        kind = path.suffix[1:]
        content = weaver.bytes(kind, PAGE)[PAGE // 2 :] if kind == "pages" else weaver.bytes(kind, 4096)
        with open(path, "r+b") as file:
            file.seek(at * 4096)
            file.write(content)
    fill(folder, more, seed + 1, new)
    os.sync()
