#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What images cost in the store: `tools/dev bench store [--quick] [--rounds N] [--json FILE]
[--plots DIR] [--corpus DIR]`.

The images are memory and disks of our own VMs at work (bench/corpus.py); making them takes
some minutes, so --corpus keeps them. Every system takes them in one by one, in the same
order, into one fresh repository; image by image the systems take turns, so that whatever
else the machine does hits them alike. Then some are restored and compared.

Bytes are the sizes of all files of the repository. Seconds are those of the whole process
and of a sync of the file system after it; MB/s counts the image as long as it looks, holes
included. Peak memory has a floor of some 16 MiB, this script's own. An image is read once before
each ingest of it; other caches are as the step before left them. At the end our store is recompressed and gives the same
images back again. --rounds starts anew with fresh repositories; what is shown and promised
is the median.

Reads are of random pages of A2: `cold`, the store's files leave the page cache before each
(the host below may keep them); `first`, they are in it, but nothing was decoded yet;
`warm`, each page was read once before, as many as our cache of 64 MiB holds.

Peers: bench/peers.py. --quick takes two of them, and fewer images."""
import itertools
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

import corpus
import peers
import plot
from report import arguments, finish, promise, series

QUICK_IMAGES = "A1", "A2", "A3", "B2", "P", "C1"
RESTORED = "A2", "B2", "disk1"
FORKS = "P", "C1", "C2", "C3"
READS, WARM_READS = 2000, 500


def repository_bytes(system):
    return sum(os.lstat(f"{folder}/{name}").st_size for folder, _, names in os.walk(system.repo) for name in names)


def run(system, argv, cwd=None):
    """Runs one process and syncs; gives its seconds, processor seconds and peak resident KiB, and its output."""
    os.sync()  # what others left is not ours to wait for
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as log:
        began = time.monotonic()
        process = subprocess.Popen(argv, cwd=cwd, env=system.env, stdin=subprocess.DEVNULL, stdout=out, stderr=log)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        subprocess.run(["sync", "-f", system.repo], check=True)
        seconds = time.monotonic() - began
        if process.returncode != 0:
            log.seek(0)
            raise RuntimeError(f"{' '.join(argv)}: {process.returncode}: {log.read()[-2000:]}")
        out.seek(0)
        return {"seconds": seconds, "cpu": usage.ru_utime + usage.ru_stime, "rss": usage.ru_maxrss}, out.read()


def ingest(system, image):
    before = repository_bytes(system)
    measured, _ = run(system, system.ingest(image))
    return measured | {"bytes": repository_bytes(system) - before, "rate": image["bytes"] / 1e6 / measured["seconds"]}


def restore(system, image):
    directory = f"{system.home}/restored"
    os.makedirs(directory)
    measured, _ = run(system, system.restore(image, directory), cwd=directory)
    if subprocess.run(["cmp", system.restored(image, directory), image["path"]]).returncode != 0:
        raise RuntimeError(f"{system.name} did not give {image['name']} back as it was")
    shutil.rmtree(directory)
    return measured | {"rate": image["bytes"] / 1e6 / measured["seconds"]}


def samples_us(ours, argv):
    return [ns / 1000 for ns in json.loads(run(ours, argv)[1])["samples_ns"]]


def latencies(systems, image):
    """Random 4 KiB reads of one image, as (name, samples in us). The cold ones last: they empty the page cache."""
    ours, qcow2 = systems["ramet"], systems.get("qcow2")
    yield "reads.first.ramet", samples_us(ours, ours.reads(image, READS, "--first"))
    yield "reads.warm.ramet", samples_us(ours, ours.reads(image, WARM_READS))
    yield "reads.cold.ramet", samples_us(ours, ours.reads(image, READS, "--cold"))
    yield "reads.machine", samples_us(ours, ours.direct(image["path"], READS))
    if qcow2 and shutil.which("qemu-storage-daemon"):
        with qcow2.mounted(image) as path:
            yield "reads.cold.qcow2", samples_us(ours, ours.direct(path, READS, "--forget", qcow2.stored(image)))
            yield "reads.warm.qcow2", samples_us(ours, ours.direct(path, WARM_READS))


def warm(path):
    """Into the page cache: the first system in turn must not be the one that waits for the disk."""
    with open(path, "rb", buffering=0) as file:
        while file.read(4 << 20):
            pass


def measure(systems, images, taken):
    """One round. Adds to `taken`: lists of what was measured, by verb, system, image and key; of reads by name."""
    def add(verb, system, image, measured):
        print(f"{verb} {system.name} {image['name']}", file=sys.stderr)
        for key, value in measured.items():
            taken.setdefault((verb, system.name, image["name"], key), []).append(value)

    for system in systems:
        if system.init():
            run(system, system.init())
    for image in images:
        for system in systems:
            warm(image["path"])
            add("ingest", system, image, ingest(system, image))
    for image in (i for i in images if i["name"] in RESTORED):
        for system in systems:
            add("restore", system, image, restore(system, image))
    image, by_name = next(i for i in images if i["name"] == "A2"), {s.name: s for s in systems}
    for name, samples in latencies(by_name, image):
        taken.setdefault(name, []).extend(samples)
    recompress(by_name["ramet"], images, image, taken, add)


def recompress(ours, images, read, taken, add):
    measured, _ = run(ours, ours.recompress())
    add("recompress", ours, {"name": "all"}, measured | {"bytes": repository_bytes(ours)})
    for image in (i for i in images if i["name"] in RESTORED):
        add("restore-recompressed", ours, image, restore(ours, image))
    taken.setdefault("reads.cold.recompressed", []).extend(samples_us(ours, ours.reads(read, READS, "--cold")))


def promises(names, systems, value):
    """Those whose peers ran. `value` gives the median of what was measured."""
    made = []

    def compare(verb, peer, image, key, op, bar):
        if peer in systems and image in names:
            what = "MB added" if key == "bytes" else "rate"
            made.append(promise(f"{verb} of {image}, {what} / {peer}'s",
                                value(verb, "ramet", image, key) / value(verb, peer, image, key), op, bar))

    for peer, bar in (("restic", 0.75), ("casync-16k", 0.90)):
        if peer in systems:
            total = {s: sum(value("ingest", s, n, "bytes") for n in names) for s in ("ramet", peer)}
            made.append(promise(f"stored, {len(names)} images / {peer}'s", total["ramet"] / total[peer], "<=", bar))
    if "restic" in systems:
        total = sum(value("ingest", "restic", n, "bytes") for n in names)
        made.append(promise(f"stored, recompressed, {len(names)} images / restic's",
                            value("recompress", "ramet", "all", "bytes") / total, "<=", 0.65))
    for peer, bar in (("restic", 0.10), ("borg-4k", 0.35)):
        compare("ingest", peer, "A3", "bytes", "<=", bar)
    for child in FORKS[1:]:
        compare("ingest", "restic", child, "bytes", "<=", 0.125)
    for image, bar in (("A1", 2), ("A2", 2), ("B2", 3)):
        compare("ingest", "borg-64k", image, "rate", ">=", bar)
    for image in RESTORED:
        compare("restore", "qcow2", image, "rate", ">=", 1.5)
    for name, bar in (("cold", 150), ("warm", 5)):
        made.append(promise(f"4 KiB read, {name}, p50 us", value(f"reads.{name}.ramet"), "<=", bar))
    return made


def table(title, columns, rows):
    print(f"\n{title:<24}" + "".join(f"{c:>8}" for c in columns))
    for name, values in rows.items():
        print(f"{name:<24}" + "".join(f"{v:>8.{1 if v < 100 else 0}f}" for v in values))


def show(names, restored, rows, reads):
    apart = [i for i, name in enumerate(names) if name not in FORKS]
    table("MB added", [*names, "total", "no fork"],
          {s: [*v, sum(v), sum(v[i] for i in apart)] for s, v in rows("ingest", names, "bytes", 1e-6).items()})
    table("ingest, MB/s", names, rows("ingest", names, "rate"))
    table("ingest, processor s", names, rows("ingest", names, "cpu"))
    table("ingest, peak MiB", names, rows("ingest", names, "rss", 1 / 1024))
    table("restore, MB/s", restored, rows("restore", restored, "rate") | {
        "ramet, recompressed": rows("restore-recompressed", restored, "rate", only=["ramet"])["ramet"]})
    table("recompression", ["MB", "s", "MiB"], {"ramet": [
        rows("recompress", ["all"], key, scale, ["ramet"])["ramet"][0]
        for key, scale in (("bytes", 1e-6), ("seconds", 1), ("rss", 1 / 1024))]})
    table("4 KiB reads, us", ["p50", "p99"], {r["name"]: [r["p50"], r["p99"]] for r in reads})
    print()


def draw(directory, names, restored, rows):
    os.makedirs(directory, exist_ok=True)
    plot.lines(f"{directory}/store-bytes.svg", "Stored after each image", "MB", names,
               {s: list(itertools.accumulate(v)) for s, v in rows("ingest", names, "bytes", 1e-6).items()})
    plot.bars(f"{directory}/store-ingest.svg", "Ingest", "MB/s of image", names, rows("ingest", names, "rate"))
    plot.bars(f"{directory}/store-restore.svg", "Restore", "MB/s of image", restored, rows("restore", restored, "rate"))


def as_series(taken):
    units = {"bytes": "bytes", "seconds": "s", "cpu": "s", "rss": "KiB", "rate": "MB/s"}
    return [series(key, "us", samples) if isinstance(key, str) else series(".".join(key), units[key[-1]], samples)
            for key, samples in taken.items()]


def main():
    parser = arguments(__doc__)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--plots", metavar="DIR")
    parser.add_argument("--corpus", metavar="DIR", help="where the images are, or are to be kept")
    args = parser.parse_args()
    taken = {}
    with tempfile.TemporaryDirectory(prefix="ramet-bench-") as work:
        images = corpus.load(args.corpus or f"{work}/corpus", args.bin, args.guest)
        images = [i for i in images if not args.quick or i["name"] in QUICK_IMAGES]
        for _ in range(args.rounds):
            with tempfile.TemporaryDirectory(dir=work) as room:
                systems, missing = peers.systems(room, os.path.abspath(f"{args.bin}/ramet-store-bench"), args.quick)
                measure(systems, images, taken)
    names, systems = [i["name"] for i in images], [s.name for s in systems]
    restored = [n for n in names if n in RESTORED]

    def value(*key):
        return statistics.median(taken[key if len(key) > 1 else key[0]])

    def rows(verb, columns, key, scale=1, only=systems):
        return {s: [value(verb, s, n, key) * scale for n in columns] for s in only}

    results = as_series(taken)
    show(names, restored, rows, [r for r in results if r["name"].startswith("reads.")])
    if args.plots:
        draw(args.plots, names, restored, rows)
    status = finish("store", args.json, results, promises(names, systems, value))
    if missing:
        print(f"MISSING: {', '.join(missing)} could not be installed; what is promised against them was not measured")
    return 1 if missing else status


if __name__ == "__main__":
    sys.exit(main())
