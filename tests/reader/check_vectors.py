#!/usr/bin/env python3
"""Compares the independent reader with the test vectors, step by step: check_vectors.py tests/vectors/v1.json"""

import json
import os
import struct
import sys
import tempfile

import strongroom_reader as reader
from blake3 import blake3


def check_deltas(vectors):
    """The volume before and after its deltas, from the objects and the master key alone."""
    opened = reader.Repository.__new__(reader.Repository)
    opened.id, opened.chunk_bytes = bytes.fromhex(vectors["repository"]), vectors["chunk_bytes"]
    masters = {int(epoch): bytes.fromhex(key) for epoch, key in vectors["masters"].items()}
    opened.keyring, opened.footers = reader.Keyring(bytes.fromhex(vectors["identity"]), masters), {}
    fold = reader.Fold()
    with tempfile.TemporaryDirectory() as opened.folder:
        for name, data in vectors["objects"].items():
            path = f"{opened.folder}/{name}"
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(path, "wb") as file:
                file.write(bytes.fromhex(data))
            object = bytes.fromhex(name.rsplit("/", 1)[1].replace(".", ""))
            kind = reader.MAP if name.startswith("maps/") else reader.DATA
            fold.packs[object[:16]] = reader.Place(kind, object, len(data) // 2)
        for written in vectors["maps"]:
            root = bytes.fromhex(written["root"]["pack"]) + struct.pack("<I", written["root"]["entry"])
            runs = opened.runs(fold, reader.Point(b"", "", root, {}, 0))
            assert next(runs) == vectors["volume_bytes"]
            found = {}
            for first, count, pack, entry in runs:
                for step in range(count):
                    chunk = opened.entry(fold, pack, entry + step, reader.CHUNK)
                    found[first + step] = blake3(chunk).hexdigest()
            assert found == dict(enumerate(written["chunks"]))
    print("every delta is understood")


def check_commit_index():
    """The example of the format document, section 16."""
    document = os.path.join(os.path.dirname(__file__), "../../docs/format.md")
    with open(document, encoding="utf-8") as file:
        example = file.read().split("An example: two commits")[1].split("`")
    entries = list(reader.commit_index(bytes.fromhex(next(text for text in example if len(text) > 60 and set(text) <= set("0123456789abcdef")))))
    assert [(one["kind"], one["start"], one["end"], one["time"]) for one in entries] == [
        (1, 0x1000060, 0x1000082, 1795284297981000),
        (1, 0x1000100, 0x1000180, 1795284298112000),
        (4, 0x1000180, 0x10001E2, 1795284300000000),
    ], entries
    assert [(one["transaction"], one["rows"], one["files"], one["statements"]) for one in entries[:2]] == [
        (9410, [2, 0, 300], 0, 0),
        (9411, [0, 0, 0], 3, 4),
    ], entries
    assert entries[2]["name"] == "v2"
    print("the commit index is understood")


def check_wholes(vectors):
    """A whole repository: each key lists and restores its own points, and opens no others."""
    with tempfile.TemporaryDirectory() as folder:
        for name, data in vectors["objects"].items():
            path = f"{folder}/{name}"
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(path, "wb") as file:
                file.write(bytes.fromhex(data))
        for name, key in vectors["keys"].items():
            with open(f"{folder}/the-key", "w", encoding="utf-8") as file:
                file.write(key)
            opened = reader.Repository(folder, f"{folder}/the-key")
            own = {point["point"]: point for point in vectors["points"] if point["key"] == name}
            for from_checkpoint in (False, True):
                fold = opened.fold(from_checkpoint)
                if opened.keyring.domain is not None:
                    assert {"rp-" + point.hex() for point in fold.points} == set(own), f"{name} lists others"
                for point in own.values():
                    found = fold.points[bytes.fromhex(point["point"].removeprefix("rp-"))]
                    assert found.volume == point["volume"]
                    output = f"{folder}/{point['point']}"
                    opened.restore(fold, found, output)
                    with open(output, "rb") as file:
                        image = file.read()
                    os.unlink(output)
                    assert (len(image), blake3(image).hexdigest()) == (point["volume_bytes"], point["blake3"])
                for log in vectors.get("logs", []):
                    if log["key"] != name:
                        continue
                    output = f"{folder}/{log['log']}"
                    opened.log(fold, bytes.fromhex(log["log"].removeprefix("log-")), output)
                    with open(output, "rb") as file:
                        whole = file.read()
                    os.unlink(output)
                    assert (len(whole), blake3(whole).hexdigest()) == (log["log_bytes"], log["blake3"])
                    if "proved" in log:
                        state = fold.logs[bytes.fromhex(log["log"].removeprefix("log-"))]
                        proved, failed = state[8], state[9]
                        assert [proved[0], proved[2][6]] == log["proved"], proved
                        assert [failed[0], failed[2][9][0]] == log["failed"], failed
    print("every repository is understood")


def main():
    check_commit_index()
    with open(sys.argv[1], encoding="utf-8") as file:
        vectors = json.load(file)
    if "keys" in vectors:
        return check_wholes(vectors)
    if "secrets" not in vectors:
        return check_deltas(vectors)
    secrets = vectors["secrets"]
    repository = bytes.fromhex(secrets["repository"].removeprefix("repo-"))
    ring = reader.Keyring(
        bytes.fromhex(secrets["keyring"]["identity"]),
        {int(epoch): bytes.fromhex(key) for epoch, key in secrets["keyring"]["masters"].items()},
    )
    assert reader.parse_key_file(secrets["key_file"]["text"]).hex() == secrets["key_file"]["secret"]
    for chunk in secrets["chunk_ids"]:
        key = ring.chunk_key(chunk["domain"])
        assert blake3(chunk["content"].encode(), key=key).hexdigest() == chunk["id"], chunk

    for blob in vectors["blobs"]:
        sealed, binding = bytes.fromhex(blob["sealed"]), bytes.fromhex(blob["binding"])
        assert sealed[16:48].hex() == blob["draws"][0], "the salt is the one draw of a blob"
        plain = reader.open_blob(ring.master, repository, blob["kind"], binding, sealed, "a blob")
        assert plain == blob["plain"].encode()

    with tempfile.TemporaryDirectory() as folder:
        write = lambda path, data: (os.makedirs(os.path.dirname(path), exist_ok=True), open(path, "wb").write(data))
        # A repository of nothing but its head, slots and the two packs.
        head = {"magic": "strongroom repository", "format": 1, "repository": secrets["repository"]}
        data, maps = vectors["packs"]["data"], vectors["packs"]["map"]
        head["chunk-bytes"] = maps["chunk_bytes"]
        write(f"{folder}/strongroom.json", json.dumps(head).encode())
        for slot in vectors["slots"].values():
            write(f"{folder}/{slot['name']}", slot["object"].encode())
        write(f"{folder}.key", secrets["key_file"]["text"].encode())
        write(f"{folder}.passphrase", vectors["slots"]["passphrase"]["passphrase"].encode() + b"\n")
        for key in (f"{folder}.key", f"passphrase:{folder}.passphrase"):
            opened = reader.Repository(folder, key)
            assert opened.keyring == ring, f"{key} opens another keyring"
            os.unlink(key.removeprefix("passphrase:"))
        fold = reader.Fold()
        for kind, pack in ((reader.DATA, data), (reader.MAP, maps)):
            write(f"{folder}/{pack['name']}", bytes.fromhex(pack["object"]))
            id, suffix = pack["name"].rsplit("/", 1)[1].split(".")
            object = bytes.fromhex(id + suffix)
            fold.packs[object[:16]] = reader.Place(kind, object, len(pack["object"]) // 2)
        root = bytes.fromhex(maps["root"]["pack"].removeprefix("pack-")) + struct.pack("<I", maps["root"]["entry"])
        runs = opened.runs(fold, reader.Point(b"", "", root, {}, 0))
        assert next(runs) == maps["volume_bytes"]
        found = {}
        for first, count, pack, entry in runs:
            for step in range(count):
                found[first + step] = opened.entry(fold, pack, entry + step, reader.CHUNK)
        plains = [bytes.fromhex(entry["plain"]) for entry in data["entries"]]
        assert found == dict(zip(maps["chunks"], plains, strict=True))

    with tempfile.TemporaryDirectory() as folder:
        for name, object in vectors["journal"]["objects"].items():
            write(f"{folder}/{name}", bytes.fromhex(object))
        write(f"{folder}/the-key", vectors["journal"]["key_file"].encode())
        fold = reader.Repository(folder, f"{folder}/the-key").fold(from_checkpoint=False)
        assert fold.number == sum(name.startswith("journal/") for name in vectors["journal"]["objects"])
    print("every vector is understood")


if __name__ == "__main__":
    main()
