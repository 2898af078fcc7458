#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Does the store stay quick when it is large: `tools/dev bench scale [--chunks N] [--quick] [--json FILE]`.

A store grows to a tenth of N distinct pages and then to N (10 million), in snapshots of 2.5 GiB that go through ingest,
page maps and commits like any other; pages shrink well, so that the disk stays small. At both sizes: bytes of index for
each chunk, lookups and the memory after them, how long opening takes with nothing of the store in the page cache and the
memory then.

At N: a collection, a 64 GiB image, and opening after kill -9 of a writer, of small snapshots and of large ones, with its
write-ahead log full. In a store of its own: thousands of snapshots and branches. Each step is a process of its own (scale_tool.c)."""
import glob
import json
import os
import signal
import subprocess
import sys
import tempfile
import time

from report import arguments, finish, print_series, promise, series

IMAGE_PAGES = 655360


class Tool:
    def __init__(self, program):
        self.program = program
        self.results = {}

    def run(self, step, command, *args, into=""):
        """Runs a subcommand; its results go by their names, `into` before them."""
        print(f"  {step}", file=sys.stderr, flush=True)
        output = subprocess.run([self.program, command, *map(str, args)], check=True, stdout=subprocess.PIPE, text=True)
        for line in output.stdout.splitlines():
            line = json.loads(line)
            if "name" in line:
                known = self.results.setdefault(into + line["name"], (line["unit"], []))
                known[1].extend(line["samples"])

    def value(self, name):
        """The worst, for promises."""
        return max(self.results[name][1])

    def series(self):
        return [series(name, unit, samples) for name, (unit, samples) in self.results.items()]


def forget_pages(directory):
    """Takes a store's files out of the page cache."""
    os.sync()
    for path in glob.glob(directory + "/**", recursive=True):
        if os.path.isfile(path):
            fd = os.open(path, os.O_RDONLY)
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(fd)


def log_bytes(store):
    total = 0
    for path in glob.glob(store + "/index/*.log"):
        try:
            total += os.path.getsize(path)
        except FileNotFoundError:
            pass
    return total


def crash(tool, store, start, pages, seconds):
    """Kills a writer of snapshots of `pages` when its log is as full as it was at most in the first `seconds`."""
    writer = subprocess.Popen([tool.program, "build", store, str(start), str(start + (1 << 30)), str(pages)],
                              stdout=subprocess.PIPE, text=True)
    began, most = time.monotonic(), 0
    while True:
        size = log_bytes(store)
        if time.monotonic() - began < seconds:
            most = max(most, size)
        elif size >= most * 0.95 or time.monotonic() - began > 4 * seconds:
            break
        time.sleep(0.005)
    writer.send_signal(signal.SIGKILL)
    lines = [line for line in writer.communicate()[0].splitlines() if line.endswith("}")]
    tool.results.setdefault("crash.log", ("MiB", []))[1].append(log_bytes(store) / (1 << 20))
    return json.loads(lines[-1])["built"] if lines else start


def at_size(tool, store, chunks, name, openings):
    tool.run(f"settling at {chunks} chunks", "settle", store, into=name)
    tool.run("working", "work", store, chunks, into=name)
    for _ in range(openings):
        forget_pages(store)
        tool.run("opening", "open", store, into=name)


def measure(args, directory):
    chunks = args.chunks or (1_000_000 if args.quick else 10_000_000)
    openings = 3 if args.quick else 5
    tool, store = Tool(os.path.join(args.bin, "ramet-scale-bench")), os.path.join(directory, "store")
    tool.run("building the first tenth", "build", store, 0, chunks // 10, IMAGE_PAGES, into="tenth.")
    at_size(tool, store, chunks // 10, "tenth.", openings)
    tool.run(f"building to {chunks} chunks", "build", store, chunks // 10, chunks, IMAGE_PAGES)
    at_size(tool, store, chunks, "", openings)
    tool.run("collecting", "collect", store)
    tool.run("64 GiB image", "map", store)
    built = chunks
    for i in range(openings):
        pages, seconds = (8192, 5) if i % 2 == 0 else (IMAGE_PAGES, 20)
        built = crash(tool, store, built, pages, seconds)
        forget_pages(store)
        tool.run("opening after a crash", "open", store, into="crash.")
    tool.run("many snapshots and branches", "catalog", os.path.join(directory, "many"))
    tool.results["work.rss_per_million"] = ("MiB", [(tool.value("work.rss") - tool.value("tenth.work.rss")) /
                                                    (chunks * 0.9e-6)])
    tool.results["gc.rss_per_million"] = ("MiB", [tool.value("gc.rss_added") / (chunks * 1e-6)])
    return tool.series(), [
        promise(f"opening {chunks:.0e} chunks after a stop, s", tool.value("open") / 1e6, "<=", 1),
        promise(f"opening {chunks:.0e} chunks after a crash, s", tool.value("crash.open") / 1e6, "<=", 1),
        promise("memory after opening, N chunks / N/10", tool.value("open.rss") / tool.value("tenth.open.rss"), "<=", 1.3),
        promise("index on disk, bytes a chunk", tool.value("index"), "<=", 24),
    ]


if __name__ == "__main__":
    parser = arguments(__doc__)
    parser.add_argument("--chunks", type=int)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="ramet-scale-") as where:
        results, promises = measure(options, where)
        print_series(results)
        sys.exit(finish("scale", options.json, results, promises))
