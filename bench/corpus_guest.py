# SPDX-License-Identifier: Apache-2.0
"""Runs inside the guest: a program with a life, so that the images hold what machines hold.

It imports, reads and hashes all of /usr, keeps structures of many kinds alive, writes
~100 MB of files, and then takes orders from a fifo: `SEED SECONDS RECORDS`, a while of
updates to what it holds. bench/corpus.py starts it."""
import array
import ast
import collections
import gzip
import hashlib
import importlib
import json
import math
import os
import pkgutil
import random
import sqlite3
import struct
import time
import zlib

SCRATCH, RECORD = "/var/work", struct.Struct("<QQdd32s")


class Entry:
    """What the program keeps about a file."""
    __slots__ = ("path", "size", "digest", "hits", "seen", "score", "words")

    def __init__(self, path, data):
        self.path, self.size, self.digest = path, len(data), hashlib.sha256(data).hexdigest()
        self.hits, self.seen, self.score, self.words = 0, time.time(), 0.0, []


class World:
    def __init__(self):
        self.entries, self.count = [], collections.Counter()
        self.trees, self.texts, self.blobs, self.graph = {}, [], {}, collections.defaultdict(list)
        self.series, self.table, self.db = array.array("q"), bytearray(), sqlite3.connect(":memory:")
        self.db.execute("create table f (id integer primary key, path text, size int, digest text, hits int, "
                        "note text)")

    def learn(self, path, data):
        """Takes in one file: an entry, its words, a row, and for some their text, syntax tree or packed bytes."""
        entry = Entry(path, data)
        self.entries.append(entry)
        self.table += RECORD.pack(len(self.entries), entry.size, math.sqrt(entry.size), 0, bytes.fromhex(entry.digest))
        self.db.execute("insert into f values (?,?,?,?,?,?)",
                        (len(self.entries), path, entry.size, entry.digest, 0, path[::-1]))
        if not path.endswith(".py"):
            if len(self.blobs) < 400:
                self.blobs[entry.digest] = zlib.compress(data[:60000], 1)
            return
        text = data.decode("utf-8", "replace")
        words = text.split()
        self.count.update(words)
        entry.words = words[:60]
        for a, b in zip(words[:80], words[1:80]):
            self.graph[a].append(b)
        if len(self.texts) < 400:
            self.texts.append(text)
        if len(self.trees) < 25 and 5000 < len(data) < 60000:
            self.trees[path] = ast.parse(text)

    def work(self, seed, seconds, records):
        """Updates about `records` of what it holds, some far more often than others, for that long."""
        rng, ends = random.Random(seed), time.monotonic() + seconds
        picked = [rng.randrange(len(self.entries)) for _ in range(records)]
        cells = [rng.randrange(len(self.series)) for _ in range(records)]
        while time.monotonic() < ends:
            for _ in range(200):
                at = int(rng.paretovariate(0.6)) % records
                i, cell = picked[at], cells[at]
                entry = self.entries[i]
                entry.hits += 1
                entry.score += math.log1p(entry.hits)
                entry.seen = time.time()
                self.series[cell] += entry.hits
                struct.pack_into("<d", self.table, i * RECORD.size + 24, entry.score)
                self.count[entry.words[at % len(entry.words)] if entry.words else entry.path] += 1
            self.db.execute("update f set hits = hits + 1 where id = ?", (i + 1,))
            time.sleep(0.002)
        with open(f"{SCRATCH}/log", "a") as log:
            log.write(f"{time.time()} {seed} {seconds} {records} {self.count.most_common(3)}\n")


def files(root):
    for folder, _, names in sorted(os.walk(root)):
        for name in sorted(names):
            path = os.path.join(folder, name)
            if os.path.isfile(path) and not os.path.islink(path):
                yield path


def import_much():
    for module in pkgutil.iter_modules():
        if module.name not in ("antigravity", "this", "idlelib", "turtledemo") and not module.name.startswith("_"):
            try:
                importlib.import_module(module.name)
            except BaseException:  # what does not import here is not what this is about
                pass


def write_files(world):
    """Copies, concatenations and packed files of what was read, and a database: ~100 MB."""
    sources = b"".join(text.encode() for text in world.texts)
    copied = 0
    for entry in world.entries:
        if entry.path.startswith("/usr/lib/python3") and copied < 45 << 20:
            with open(entry.path, "rb") as source:
                data = source.read()
            target = f"{SCRATCH}/copy{entry.path}"
            os.makedirs(os.path.dirname(target), exist_ok=True)
            with open(target, "wb") as out:
                out.write(data)
            copied += len(data)
    with open(f"{SCRATCH}/sources.txt", "wb") as out:
        out.write(sources)
    for level in (1, 6):
        with gzip.open(f"{SCRATCH}/sources.{level}.gz", "wb", level) as out:
            out.write(sources)
    for n, folder in enumerate(("/usr/bin", "/usr/lib/x86_64-linux-gnu")):
        with gzip.open(f"{SCRATCH}/binaries{n}.gz", "wb", 1) as out:
            size = 0
            for path in files(folder):
                with open(path, "rb") as source:
                    data = source.read()
                out.write(data)
                size += len(data)
                if size > 50 << 20:
                    break
    with open(f"{SCRATCH}/index.json", "w") as out:
        json.dump([{"path": e.path, "size": e.size, "digest": e.digest, "words": e.words} for e in world.entries], out,
                  indent=1)
    disk = sqlite3.connect(f"{SCRATCH}/files.db")
    world.db.commit()
    world.db.backup(disk)
    disk.close()


def main():
    os.makedirs(SCRATCH, exist_ok=True)
    import_much()
    world = World()
    for path in files("/usr"):
        with open(path, "rb") as source:
            world.learn(path, source.read())
    world.series.extend(hash(word) >> 20 for word in world.count for _ in range(8))
    write_files(world)
    os.sync()
    while True:
        with open("/run/done", "w") as out:
            out.write("done\n")
        with open("/run/go") as fifo:
            seed, seconds, records = fifo.read().split()
        world.work(int(seed), float(seconds), int(records))


main()
