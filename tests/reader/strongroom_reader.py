#!/usr/bin/env python3
"""An independent reader of Strongroom repositories, written from docs/format.md alone.

It shares no code with the program that writes them. Where it can restore a volume bit for bit, the document is enough
to come back from a bucket and a key, whatever became of the program.

    strongroom_reader.py points  DIRECTORY KEY [--from-checkpoint]
    strongroom_reader.py restore DIRECTORY KEY POINT OUTPUT [--from-checkpoint]
    strongroom_reader.py logs    DIRECTORY KEY [--from-checkpoint]
    strongroom_reader.py log     DIRECTORY KEY LOG OUTPUT [--from-checkpoint]
    strongroom_reader.py scrub   DIRECTORY

DIRECTORY is a repository in a folder (any object store, copied), KEY a key file, a recipient's private key, or a file with a passphrase behind
`passphrase:`. Points are printed as JSON, one a line. With --from-checkpoint the newest checkpoint is believed instead
of the whole journal. `log` writes the bytes of a database's log from its first bundle that is kept. `scrub` needs no key: it compares the hash at the end of every pack.
"""

import argparse
import json
import os
import struct
import sys
from dataclasses import dataclass, field

import zstandard
from blake3 import blake3
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

CONTEXT = "strongroom 2026-11-21 format 1 "
KEY_SLOT, RECORD, CHECKPOINT, FOOTER, NAMES = 1, 2, 3, 5, 8
DATA, MAP, LOG = 0, 1, 2
CHUNK, DELTA, LEAF, NODE, ROOT, LOG_BYTES, LOG_INDEX = 1, 2, 3, 4, 5, 6, 7
SHELVES = {DATA: "packs", MAP: "maps", LOG: "logs"}
BLOCK = 4096


class Damaged(Exception):
    """Bytes are not what the document says they are."""


def need(condition, what):
    if not condition:
        raise Damaged(what)


# ---- sections 4 and 5: keys and the seal ---------------------------------------------------------------------------------------


def derive(context, *parts):
    return blake3(b"".join(parts), derive_key_context=CONTEXT + context).digest()


def aead(cipher, key):
    need(cipher in (1, 2), f"unknown cipher {cipher}")
    return AESGCM(key) if cipher == 1 else ChaCha20Poly1305(key)


def open_message(box, number, sealed, associated, what):
    try:
        return box.decrypt(struct.pack("<I8x", number), sealed, associated)
    except InvalidTag:
        raise Damaged(f"{what}: the seal is broken") from None


@dataclass
class Header:
    """The 80 bytes that every sealed thing begins with."""

    cipher: int
    flags: int
    epoch: int
    salt: bytes
    commitment: bytes

    @classmethod
    def parse(cls, magic, data):
        need(len(data) >= 80 and data[:8] == magic, "not the magic that was expected")
        version, cipher, flags, epoch = struct.unpack_from("<HBBI", data, 8)
        need(version == 1, f"format version {version}")
        return cls(cipher, flags, epoch, data[16:48], data[48:80])

    def key(self, purpose, secret):
        return self.committed(derive(f"{purpose} key", secret, self.salt))

    def committed(self, key):
        if derive("key commitment", key) != self.commitment:
            return None
        return aead(self.cipher, key)


def open_blob(secret_of_epoch, repository, kind, binding, sealed, what):
    """The plain bytes of a sealed blob; None when the key is another one."""
    header = Header.parse(b"SRGMBLOB", sealed)
    need(header.flags & ~1 == 0, f"{what}: unknown flags")
    box = header.key("blob", secret_of_epoch(header.epoch))
    if box is None:
        return None
    associated = sealed[:80] + repository + bytes([kind]) + binding
    plain = open_message(box, 0, sealed[80:], associated, what)
    if header.flags & 1:
        length = struct.unpack_from("<Q", plain)[0]
        plain = zstandard.ZstdDecompressor().decompress(plain[8:], max_output_size=length)
        need(len(plain) == length, f"{what}: another length than it says")
    return plain


def public_bytes(private):
    return X25519PrivateKey.from_private_bytes(private).public_key().public_bytes_raw()


def agreed(context, private, fresh, *rest):
    """The secret of what was sealed to the public half of `private`."""
    shared = X25519PrivateKey.from_private_bytes(private).exchange(X25519PublicKey.from_public_bytes(fresh))
    need(shared != bytes(32), "an agreement of zeros")
    return derive(context, shared, fresh, public_bytes(private), *rest)


@dataclass
class Keyring:
    identity: bytes
    masters: dict
    data: dict = field(default_factory=dict)  # epoch: private key that data is sealed to; None in a write-only ring
    domain: int = None  # in a shared repository: whose ring it is
    letters: bytes = None  # what its letters are opened with

    @classmethod
    def decode(cls, plain):
        version, count = struct.unpack_from("<HH", plain)
        need(version in (1, 2, 3), "keyring: unknown form")
        start, size = {1: (36, 36), 2: (68, 72), 3: (104, 72)}[version]
        need(len(plain) == start + size * count, "keyring: unknown form")
        rows = [plain[at : at + size] for at in range(start, len(plain), size)]
        epochs = [struct.unpack_from("<I", row)[0] for row in rows]
        if version == 1:
            return cls(plain[4:36], {epoch: row[4:] for epoch, row in zip(epochs, rows)}, {})
        data = {}
        for epoch, row in zip(epochs, rows):
            what = struct.unpack_from("<I", row, 4)[0]
            need(what <= version, "keyring: data keys of an unknown kind")
            if what:
                data[epoch] = row[40:] if what == 1 else None
        ring = cls(plain[4:36], {epoch: row[8:40] for epoch, row in zip(epochs, rows)}, data)
        if version == 3:
            ring.domain, ring.letters = struct.unpack_from("<I", plain, 68)[0], plain[72:104]
            need(all(epoch >> 20 == ring.domain for epoch in epochs), "keyring: an epoch of another domain")
        return ring

    def journal_key(self, epoch):
        """What the operator's master key gives for the journal."""
        return derive("journal key", self.master(epoch))

    def names_key(self, epoch):
        return derive("domain names key", self.master(epoch), self.identity)

    def master(self, epoch):
        need(epoch in self.masters, f"no master key of epoch {epoch}")
        return self.masters[epoch]

    def chunk_key(self, domain):
        return derive("chunk id key", self.identity, struct.pack("<I", domain))

    def map_key(self):
        return derive("map id key", self.identity)

    def log_key(self):
        return derive("log id key", self.identity)


def parse_key_file(text, prefix="strongroom-key-1-"):
    text = text.strip()
    body, _, checksum = text.rpartition("-")
    need(body.startswith(prefix) and len(body) == len(prefix) + 64, "not a key file")
    need(blake3(body.encode()).hexdigest()[:8] == checksum, "the key file is mistyped")
    return bytes.fromhex(body[len(prefix) :])


# ---- section 9: CBOR in one strict form --------------------------------------------------------------------


def cbor(data):
    value, at = cbor_item(data, 0)
    need(at == len(data), "bytes follow the end of the CBOR")
    return value


def cbor_item(data, at):
    major, low = data[at] >> 5, data[at] & 31
    at += 1
    if low < 24:
        number = low
    else:
        need(low <= 27, "CBOR of another form than the format uses")
        size = 1 << (low - 24)
        number = int.from_bytes(data[at : at + size], "big")
        at += size
    if major == 0:
        return number, at
    if major == 1:
        return -1 - number, at
    if major in (2, 3):
        need(at + number <= len(data), "CBOR ends too early")
        text = data[at : at + number]
        return (text if major == 2 else text.decode()), at + number
    if major == 4:
        items = []
        for _ in range(number):
            item, at = cbor_item(data, at)
            items.append(item)
        return items, at
    if major == 5:
        pairs = {}
        for _ in range(number):
            key, at = cbor_item(data, at)
            pairs[key], at = cbor_item(data, at)
        return pairs, at
    need(major == 7 and number in (20, 21), "CBOR of another form than the format uses")
    return number == 21, at


def fields(pairs, known, what):
    """Whoever understands a record only in part understands it wrongly."""
    need(set(pairs) <= set(known), f"unknown field in {what}; it was written by a newer version")
    return pairs


# How many fields the events of each kind have.
EVENTS = dict(zip(range(1, 17), [2, 1, 2, 9, 2, 2, 2, 3, 4, 2, 4, 1, 5, 3, 3, 2], strict=True))
EVENTS |= {17: 12, 18: 4, 19: 3}  # logs of databases
EVENTS |= {20: 3, 21: 5, 22: 8, 23: 4}  # keys rotated; domain added, published in a domain, keys of a domain rotated
EVENTS |= {24: 10}  # restore of a database tested


# ---- section 9: the fold, as far as reading needs it ------------------------------------------------------------


@dataclass
class Place:
    kind: int
    object: bytes  # pack id 16, suffix 8
    bytes: int

    def path(self):
        pack, suffix = self.object[:16].hex(), self.object[16:].hex()
        return f"{SHELVES[self.kind]}/{pack[:2]}/{pack}.{suffix}"


@dataclass
class Point:
    id: bytes
    volume: str
    map: bytes  # pack id 16, entry u32
    info: dict
    number: int


@dataclass
class Fold:
    number: int = 0
    hash: bytes = bytes(32)
    points: dict = field(default_factory=dict)
    packs: dict = field(default_factory=dict)
    logs: dict = field(default_factory=dict)  # section 15: as in a checkpoint
    plan: dict = None
    reveal: object = None  # (point, domain, map, number, sealed names) -> Point; None for another domain's

    def publish(self, packs, revives):
        for place in packs:
            placed, size = place[0], place[1]
            self.packs[placed[1:17]] = Place(placed[0], placed[1:], size)
        if self.plan is not None:
            self.plan["revived"].update(revives)

    def enact(self, record):
        fields(record, range(7), "record")
        kind, event = fields(record[6], range(2), "event").values()
        need(kind in EVENTS, f"unknown kind {kind} of record")
        fields(event, range(EVENTS[kind]), f"event of kind {kind}")
        if kind == 4:  # published
            self.points[event[1]] = Point(event[1], event[2], event[4], event[8], record[0])
            self.publish(event[5], event[6])
        elif kind == 22:  # published in a domain
            point = self.reveal(event[1], event[2], event[3], record[0], event[7])
            if point is not None:
                self.points[event[1]] = point
            self.publish(event[4], event[5])
        elif kind == 5:  # forgotten
            self.points.pop(event[0], None)
        elif kind == 8:  # sweep planned
            self.plan = {"objects": set(event[0]), "revived": set()}
        elif kind == 9:  # pack rewritten
            place = self.packs[event[1][:16]]
            need(place.object == event[2], "a rewrite of an object that is not the current one")
            place.object, place.bytes = event[1], event[3]
        elif kind == 10:  # sweep done
            for placed in self.plan["objects"]:
                pack = placed[1:17]
                if placed[0] == LOG:
                    del self.logs[pack][2][int.from_bytes(placed[17:], "big")]
                    continue
                place = self.packs.get(pack)
                if place and place.object == placed[1:] and pack not in self.plan["revived"]:
                    del self.packs[pack]
            self.plan = None
        elif kind == 17:  # log opened
            self.logs[event[0]] = {1: event, 2: {}, 3: 1, 4: event[6]}
        elif kind == 18:  # log archived
            log = self.logs[event[0]]
            need(event[1] == log[3], "bundles that do not follow those that are known")
            for note in event[2]:
                need(note[1] == log[4], "a bundle that does not follow the one before it")
                log[2][log[3]] = note
                log[3], log[4] = log[3] + 1, note[2]
        elif kind == 24:  # restore of a database tested
            self.logs[event[0]][8 if event[5] else 9] = {0: record[0], 1: record[4], 2: event}


class Repository:
    def __init__(self, folder, key_path):
        self.folder = folder
        head = json.loads(self.read("strongroom.json"))
        need(head["magic"] == "strongroom repository" and head["format"] == 1, "not a repository of format 1")
        self.id = bytes.fromhex(head["repository"].removeprefix("repo-"))
        self.chunk_bytes = head["chunk-bytes"]
        # A copy goes as far as its head says, until it is promoted.
        promoted = os.path.exists(os.path.join(folder, "promoted.json"))
        self.until = head["copy"]["until"] if "copy" in head and not promoted else None
        self.keyring = self.unlock(key_path)
        self.journal_secret = self.journal_keys()
        self.footers = {}

    def read(self, name):
        with open(os.path.join(self.folder, name), "rb") as file:
            return file.read()

    def journal_keys(self):
        """What the journal is sealed under: of a shared repository a key of its own."""
        if self.keyring.domain is None:
            return self.keyring.master
        if self.keyring.domain == 0:
            return self.keyring.journal_key
        letters, rings = self.keyring.letters, []
        for name in sorted(os.listdir(os.path.join(self.folder, "keys"))):
            slot = json.loads(self.read(f"keys/{name}"))
            if slot["kind"] != "recipient" or slot.get("grants") != "journal":
                continue
            holder = b"".join(slot[field].encode() + b"\0" for field in ("kind", "label", "created_at"))
            plain = self.open_pair(bytes.fromhex(name), slot, holder, letters, True)
            if plain is not None:
                rings.append(Keyring.decode(plain))
        need(rings, "the operator has not given this domain the journal")
        return max(rings, key=lambda ring: max(ring.masters)).master

    def reveal(self, point, domain, map, number, sealed):
        """What a sealed point is, where it is of this key's domain and under keys that it has."""
        if domain != self.keyring.domain or Header.parse(b"SRGMBLOB", sealed).epoch not in self.keyring.masters:
            return None
        binding = struct.pack("<I", domain) + point
        plain = open_blob(self.keyring.names_key, self.id, NAMES, binding, sealed, f"the names of {point.hex()}")
        need(plain is not None, f"the names of {point.hex()} are sealed under another key")
        names = fields(cbor(plain), range(3), "names")
        return Point(point, names[0], map, names[2], number)

    def unlock(self, key_path):
        passphrase = key_path.startswith("passphrase:")
        with open(key_path.removeprefix("passphrase:"), encoding="utf-8") as file:
            text = file.read()
        recipient = text.strip().startswith("strongroom-private-1-")
        kind = "passphrase" if passphrase else "recipient" if recipient else "key-file"
        rings = []
        for name in sorted(os.listdir(os.path.join(self.folder, "keys"))):
            slot = json.loads(self.read(f"keys/{name}"))
            need(slot["format"] == "strongroom-key-slot" and slot["version"] in (1, 2), f"keys/{name}: unknown form")
            if slot["kind"] != kind:
                continue
            if passphrase:
                cost = slot["argon2id"]
                stretch = Argon2id(
                    salt=bytes.fromhex(cost["salt"]),
                    length=32,
                    iterations=cost["passes"],
                    lanes=cost["lanes"],
                    memory_cost=cost["memory_kib"],
                )
                secret = stretch.derive(text.splitlines()[0].encode())
            else:
                secret = parse_key_file(text, "strongroom-private-1-" if recipient else "strongroom-key-1-")
            holder = b"".join(slot[field].encode() + b"\0" for field in ("kind", "label", "created_at"))
            if slot["version"] == 2:
                plain = self.open_pair(bytes.fromhex(name), slot, holder, secret, recipient)
                if plain is not None:
                    rings.append(Keyring.decode(plain))
                continue
            binding = bytes.fromhex(name) + holder
            wrapped = bytes.fromhex(slot["wrapped"])
            plain = open_blob(lambda _: secret, self.id, KEY_SLOT, binding, wrapped, f"keys/{name}")
            if plain is not None:
                rings.append(Keyring.decode(plain))
        need(rings, "no key slot opens with this key")
        # What an interrupted rotation left behind adds epochs that nothing is sealed under.
        newest = max(rings, key=lambda ring: max(ring.masters))
        for ring in rings:
            newest.masters = ring.masters | newest.masters
            newest.data = ring.data | newest.data
        return newest

    def open_pair(self, slot_id, slot, holder, secret, recipient):
        """The keyring of a slot of version 2; None when the key is another one."""
        what = f"keys/{slot_id.hex()}"
        public, fresh = bytes.fromhex(slot["public_key"]), bytes.fromhex(slot["fresh_key"])
        sealed = bytes.fromhex(slot["private_key"])
        holder += public
        if recipient:
            if public_bytes(secret) != public:
                return None
            private, trust = secret, bytes(32)
        else:
            pair = open_blob(lambda _: secret, self.id, KEY_SLOT, holder, sealed, what)
            if pair is None:
                return None
            private, trust = pair[:32], pair[32:]
            need(public_bytes(private) == public, f"{what}: its key pair does not belong together")
        binding = slot_id + slot["grants"].encode() + b"\0" + holder + struct.pack("<I", slot["epoch"])
        binding += blake3(sealed).digest()
        if "argon2id" in slot:
            cost = slot["argon2id"]
            binding += struct.pack("<III", cost["memory_kib"], cost["passes"], cost["lanes"])
            binding += bytes.fromhex(cost["salt"])
        key = agreed("slot keyring key", private, fresh, trust)
        plain = open_blob(lambda _: key, self.id, KEY_SLOT, binding + fresh, bytes.fromhex(slot["keyring"]), what)
        need(plain is not None, f"{what}: the keys in it were not put there by an owner")
        return plain

    def blob(self, kind, binding, name):
        """An object of the journal."""
        plain = open_blob(self.journal_secret, self.id, kind, binding, self.read(name), name)
        need(plain is not None, f"{name}: sealed under another key")
        return plain

    # -- the journal

    def fold(self, from_checkpoint):
        fold = self.checkpoint() if from_checkpoint else Fold()
        fold.reveal = self.reveal
        while True:
            number = fold.number + 1
            name = f"journal/{number:020}"
            if self.until is not None and number > self.until:
                return fold
            if not os.path.exists(os.path.join(self.folder, name)):
                return fold
            record = cbor(self.blob(RECORD, struct.pack("<Q", number), name))
            need(record[0] == number, f"{name}: it says that it is record {record[0]}")
            need(record[1] == fold.hash, f"{name}: it does not follow the record before it")
            fold.enact(record)
            fold.number, fold.hash = number, blake3(self.read(name)).digest()

    def checkpoint(self):
        names = sorted(os.listdir(os.path.join(self.folder, "journal/checkpoints")))
        names = [name for name in names if self.until is None or int(name) <= self.until]
        number = int(names[-1])
        stored = cbor(self.blob(CHECKPOINT, struct.pack("<Q", number), f"journal/checkpoints/{names[-1]}"))
        need(stored[0] == 1 and stored[1] == number, "checkpoint: unknown form")
        record = self.read(f"journal/{number:020}")
        need(blake3(record).digest() == stored[2], "the checkpoint belongs to another journal")
        fold = Fold(number, stored[2])
        for point in stored[3]:
            fold.points[point[0]] = Point(point[0], point[1], point[2], point[6], point[4])
        for point in stored.get(21, []):
            revealed = self.reveal(point[0], point[1], point[2], point[3], point[6])
            if revealed is not None:
                fold.points[point[0]] = revealed
        for pack, suffix, kind, size, _ in struct.iter_unpack("<16s8sBQI", stored[4]):
            fold.packs[pack] = Place(kind, pack + suffix, size)
        fold.logs = stored.get(12, {})
        if 7 in stored:
            fold.plan = {"objects": set(stored[7][2]), "revived": set(stored[7][5])}
        return fold

    # -- packs

    def footer(self, place):
        if place.object in self.footers:
            return self.footers[place.object]
        name = place.path()
        data = self.read(name)
        need(len(data) == place.bytes, f"{name}: {len(data)} bytes where {place.bytes} should be")
        _, offset, length = check_trailer(data, name)
        kind = {DATA: 1, MAP: 2, LOG: 3}[place.kind]
        sealed = data[offset : offset + length]
        plain = open_blob(self.keyring.master, self.id, FOOTER, place.object + bytes([kind]), sealed, name)
        need(plain is not None, f"{name}: sealed under another key")
        header = Header.parse(b"SRGMPACK", plain)
        sealed = header.flags == kind + 4 and kind != 2
        need(plain[80:96] == place.object[:16] and (header.flags == kind or sealed), f"{name}: another pack's footer")
        if sealed:
            need(header.epoch in self.keyring.data, f"{name}: no data key of epoch {header.epoch}")
            private = self.keyring.data[header.epoch]
            need(private is not None, f"{name}: this key is write-only")
            box = header.committed(agreed("sealed pack key", private, header.salt))
        else:
            box = header.key("pack", self.keyring.master(header.epoch))
        need(box is not None, f"{name}: sealed under another key")
        domain, count = struct.unpack_from("<II", plain, 96)
        key = {MAP: self.keyring.map_key(), LOG: self.keyring.log_key()}.get(place.kind) or self.keyring.chunk_key(domain)
        rows, at = {}, 96
        end = 104 + 48 * count
        need(len(plain) == end or (place.kind == LOG and len(plain) > end), f"{name}: its footer has another length than it says")
        for number, stored, size, typ, codec, zero, id in struct.iter_unpack("<IIIBBH32s", plain[104:end]):
            need(zero == 0, f"{name}: unknown marks on its entries")
            rows[number] = (at, stored, size, typ, codec, id)
            at += stored
        need(at == offset, f"{name}: its entries do not end where its footer begins")
        self.footers[place.object] = (box, key, rows, data)
        self.note = cbor(plain[end:]) if place.kind == LOG else None
        if len(self.footers) > 8:
            self.footers.pop(next(iter(self.footers)))
        return box, key, rows, data

    def bundles(self, fold, log):
        """Places and notes of the bundles that are kept, also of those that no record names yet."""
        state = fold.logs.get(log)
        need(state is not None, f"the journal knows no log {log.hex()}")
        for number, note in sorted(state[2].items()):
            yield Place(LOG, log + struct.pack(">Q", number), note[0]), note
        number, end = state[3], state[4]
        while True:
            place = Place(LOG, log + struct.pack(">Q", number), 0)
            path = os.path.join(self.folder, place.path())
            if self.until is not None or not os.path.exists(path):
                return
            place.bytes = os.path.getsize(path)
            self.footer(place)
            need(self.note[1] == end, f"{place.path()} does not follow the bundle before it")
            number, end = number + 1, self.note[2]
            yield place, self.note

    def log(self, fold, log, output):
        with open(output, "wb") as file:
            last = None
            for place, note in self.bundles(fold, log):
                need(last in (None, note[1]), f"the log ends at {last} and goes on at {note[1]}")
                last = note[2]
                for number, row in sorted(self.footer(place)[2].items()):
                    if row[3] == LOG_BYTES:
                        file.write(self.entry_at(fold, place, number, LOG_BYTES))

    def commits(self, fold, log):
        """The entries of the commit indexes of a log, in order: section 16."""
        for place, note in self.bundles(fold, log):
            for number, row in sorted(self.footer(place)[2].items()):
                if row[3] == LOG_INDEX:
                    yield from commit_index(self.entry_at(fold, place, number, LOG_INDEX))

    def entry(self, fold, pack, number, wanted):
        need(pack in fold.packs, f"the journal knows no pack {pack.hex()}")
        return self.entry_at(fold, fold.packs[pack], number, wanted)

    def entry_at(self, fold, place, number, wanted):
        pack = place.object[:16]
        box, key, rows, data = self.footer(place)
        what = f"{place.path()} entry {number}"
        need(number in rows, f"{what} is a hole")
        at, stored, size, typ, codec, id = rows[number]
        need(typ == wanted or (typ, wanted) == (DELTA, CHUNK), f"{what} has type {typ}")
        associated = self.id + pack + struct.pack("<IIIBBxx", number, stored, size, typ, codec)
        plain = open_message(box, number, data[at : at + stored], associated, what)
        if codec == 1:
            plain = zstandard.ZstdDecompressor().decompress(plain, max_output_size=size)
        need(codec in (0, 1) and len(plain) == size, f"{what}: another length than it says")
        if typ == DELTA:
            plain = self.on_its_base(fold, plain, what)
        need(blake3(plain, key=key).digest() == id, f"{what}: another content than its id says")
        return plain

    def on_its_base(self, fold, delta, what):
        """The chunk that a delta stands for."""
        base_pack, base_entry, length = struct.unpack_from("<16sII", delta)
        blocks = -(-length // BLOCK)
        start = 24 + -(-blocks // 8)
        bitmap = int.from_bytes(delta[24:start], "little")
        need(bitmap and not bitmap >> blocks, f"{what}: blocks that its chunk does not have")
        place = fold.packs.get(base_pack)
        need(place is not None, f"{what}: the journal knows no pack of its base")
        typ = self.footer(place)[2].get(base_entry, (0,) * 6)[3]
        need(typ == CHUNK, f"{what}: its base has type {typ}")
        chunk = bytearray(self.entry(fold, base_pack, base_entry, CHUNK))
        need(len(chunk) == length, f"{what}: its base has another length")
        for block in range(blocks):
            if bitmap >> block & 1:
                end = min((block + 1) * BLOCK, length)
                taken = end - block * BLOCK
                need(start + taken <= len(delta), f"{what}: it ends within a block")
                chunk[block * BLOCK : end] = delta[start : start + taken]
                start += taken
        need(start == len(delta), f"{what}: more bytes than blocks")
        return bytes(chunk)

    # -- maps

    def runs(self, fold, point):
        """The size of the volume, then (first chunk, count, pack, first entry) in order."""
        root = self.entry(fold, point.map[:16], struct.unpack("<I", point.map[16:])[0], ROOT)
        version, fan, chunk, volume, _, nodes, data, maps = struct.unpack_from("<HHIQIIII", root)
        need((version, fan, chunk) == (1, 1024, self.chunk_bytes), "the map's root has an unknown form")
        need(len(root) == 32 + 12 * nodes + 24 * (data + maps), "the map's root has another length than it says")
        map_packs = [root[at : at + 16] for at in range(32 + 12 * nodes + 24 * data, len(root), 24)]
        yield volume
        for slot, place, entry in struct.iter_unpack("<III", root[32 : 32 + 12 * nodes]):
            node = self.entry(fold, map_packs[place], entry, NODE)
            packs, rows = table(node)
            for leaf_slot, leaf_place, leaf_entry in struct.iter_unpack("<HHI", rows):
                leaf_packs, runs = leaf_table(self.entry(fold, packs[leaf_place], leaf_entry, LEAF))
                first = (slot * 1024 + leaf_slot) * 1024
                for start, count, run_place, run_entry in struct.iter_unpack("<HHHI", runs):
                    yield first + start, count, leaf_packs[run_place], run_entry

    def restore(self, fold, point, output):
        runs = self.runs(fold, point)
        volume = next(runs)
        with open(output, "xb") as file:
            file.truncate(volume)
            for first, count, pack, entry in runs:
                for step in range(count):
                    at = (first + step) * self.chunk_bytes
                    chunk = self.entry(fold, pack, entry + step, CHUNK)
                    need(len(chunk) <= self.chunk_bytes, f"the chunk at byte {at} is larger than a chunk")
                    file.seek(at)
                    file.write(chunk[: volume - at])


def table(plain):
    """The packs that a node or leaf names, and its rows."""
    packs, _ = struct.unpack_from("<HH", plain)
    return [plain[4 + 16 * n : 20 + 16 * n] for n in range(packs)], plain[4 + 16 * packs :]


def leaf_table(plain):
    """The packs that a leaf names, and its rows; the deltas behind them are looked at and left."""
    packs, rows = table(plain)
    count = 10 * struct.unpack_from("<HH", plain)[1]
    rows, more = rows[:count], rows[count:]
    if more:
        deltas, width = struct.unpack_from("<HH", more)
        need(deltas and width <= 32 and len(more) == 4 + deltas * (8 + width), "a leaf's deltas have an unknown form")
    return packs, rows


def commit_index(data):
    """The entries of a commit index: section 16 of the format."""
    version, zero, lineage, end = struct.unpack_from("<HHIQ", data)
    need((version, zero) == (1, 0), "the commit index is of another version")
    at = 16
    time = last = 0

    def number():
        nonlocal at
        value = shift = 0
        while True:
            byte = data[at]
            at += 1
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                need(value < 1 << 64 and (byte or shift == 7), "a number of the commit index is too long")
                return value

    def signed():
        value = number()
        return value >> 1 ^ -(value & 1)

    while at < len(data):
        kind = data[at]
        at += 1
        end += number()
        entry = {"kind": kind & 127, "lineage": lineage, "start": end - number(), "end": end}
        time += signed()
        entry["time"] = time
        if kind & 127 in (1, 2, 3):
            if kind & 128:
                source, at = data[at:at + 16], at + 16
                entry["transaction"] = (int.from_bytes(source, "little"), number())
            else:
                last = (last + signed()) % (1 << 64)
                entry["transaction"] = last
        if kind & 127 == 1:
            flags, at = data[at], at + 1
            need(flags < 16, "the commit index has unknown flags")
            entry["rows"] = [number() for _ in range(3)] if flags & 1 else [0, 0, 0]
            entry["files"] = number() if flags & 2 else 0
            entry["statements"] = data[at] if flags & 4 else 0
            at += bool(flags & 4)
            entry["partial"] = bool(flags & 8)
        elif kind == 4:
            length = number()
            entry["name"], at = data[at:at + length].decode(), at + length
        elif kind == 5:
            entry["redo"] = number()
        elif kind == 6:
            entry["begins"], entry["parent"] = number(), number()
        else:
            need(kind & 127 in (2, 3), f"the commit index has entries of kind {kind}")
        yield entry


def check_trailer(data, name):
    """Number of entries, offset and length of the footer; the hash of everything is compared."""
    trailer = data[-64:]
    need(trailer[:8] == b"SRGMTAIL", f"{name}: it does not end like a pack")
    version, zero, entries, offset, length, zeros = struct.unpack_from("<HHIQII", trailer, 8)
    need((version, zero, zeros) == (1, 0, 0), f"{name}: its trailer has an unknown form")
    need(offset >= 96 and offset + length + 64 == len(data), f"{name}: its trailer does not fit its size")
    need(blake3(data[:-32]).digest() == trailer[32:], f"{name}: its bytes are not those that were written")
    return entries, offset, length


def scrub(folder):
    for shelf in SHELVES.values():
        for path, _, names in sorted(os.walk(os.path.join(folder, shelf))):
            for name in sorted(names):
                with open(os.path.join(path, name), "rb") as file:
                    check_trailer(file.read(), name)
                print(name)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("verb", choices=["points", "restore", "logs", "log", "scrub"])
    parser.add_argument("directory")
    parser.add_argument("key", nargs="?")
    parser.add_argument("point", nargs="?")
    parser.add_argument("output", nargs="?")
    parser.add_argument("--from-checkpoint", action="store_true")
    arguments = parser.parse_args()
    if arguments.verb == "scrub":
        return scrub(arguments.directory)
    if arguments.key is None:
        parser.error("a key is needed")
    repository = Repository(arguments.directory, arguments.key)
    fold = repository.fold(arguments.from_checkpoint)
    if arguments.verb == "points":
        for point in sorted(fold.points.values(), key=lambda point: point.number):
            said = {"point": f"rp-{point.id.hex()}", "volume": point.volume, "record": point.number}
            print(json.dumps(said | {"taken_at_ns": point.info[0], "volume_bytes": point.info[2]}))
        return None
    if arguments.verb == "logs":
        for log, state in fold.logs.items():
            opened = state[1]
            said = {"log": f"log-{log.hex()}", "database": opened[1], "engine": opened[3], "identity": opened[4]}
            notes = [note for _, note in repository.bundles(fold, log)]
            end = notes[-1][2] if notes else opened[6]
            said |= {"lineage": opened[5], "bundles": len(notes), "end": end}
            for key, word in ((8, "proved"), (9, "failed")):
                if key in state:
                    test = state[key]
                    failure = test[2].get(9, {}).get(0)
                    said[word] = {"record": test[0], "at_ns": test[1], "rto_ms": test[2].get(6), "failure": failure}
            print(json.dumps(said))
        return None
    if arguments.output is None:
        parser.error("a point or log and an output are needed")
    if arguments.verb == "log":
        return repository.log(fold, bytes.fromhex(arguments.point.removeprefix("log-")), arguments.output)
    point = fold.points.get(bytes.fromhex(arguments.point.removeprefix("rp-")))
    need(point is not None, f"there is no point {arguments.point}")
    return repository.restore(fold, point, arguments.output)


if __name__ == "__main__":
    try:
        main()
    except (Damaged, OSError) as error:
        sys.exit(f"strongroom_reader: {error}")
