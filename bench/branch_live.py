#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""How long a fork stops a running Debian guest of 512 MiB, and what the next fork of it costs.

A section of `tools/dev bench branch`; by itself: branch_live.py BIN_DIR GUEST_DIR [--quick] [--json FILE] [--plots DIR]

The pause: a guest is restored, writes to 0, 16, 64 or 256 MiB of scattered pages and is forked; sizes take turns. Its steps
stop, state, scan, copy, hold, freeze and resume are what the daemon reports; "prepare" is before the pause, the
guest runs. Each size is also forked at once again ("again"). The same with memory held by a fork of the VMM and
with memory copied in the pause (RAMET_CAPTURE), the ways to do it without tracking writes.

Ten forks of one parent, 4 MiB written before each: what the first and the tenth copy and store. (The guest itself writes
as much again: the program that is run to say "write" is an interpreter.)

Beside it, in the same run: fork(2) of a process with the same mapping (branch_bare.c), which with stop, state and resume
would be the pause of anyone who keeps memory that way; a copy of the memory file with cp; a fresh boot."""
import os
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "tools", "demo"))
import plot  # noqa: E402
from branch_children import Samples  # noqa: E402
from daemon import Daemon  # noqa: E402
from report import arguments, finish, print_series, promise, series  # noqa: E402
from scale import Tool  # noqa: E402

SIZES, MEMORY = (0, 16, 64, 256), "512M"
STEPS = ("prepare", "pause", "stop", "state", "scan", "copy", "hold", "freeze", "resume", "collect")
SETTLE_S = 0.3
DIRTY = "import mmap,os,time\nm=mmap.mmap(-1,{mib}<<20)\n" \
        "while True:\n r=open('/run/go').read()\n for i in range(0,{mib}<<20,4096): m[i:i+16]=os.urandom(16)\n" \
        " open('/run/done','w').write(r)\n"


def dirty(daemon, name, mib):
    """Writes fresh bytes to every page of a buffer of `mib` MiB in the guest."""
    daemon.exec(name, "python3", "-c", "open('/run/go','w').write('x')")
    daemon.exec(name, "sh", "-c", "while [ ! -s /run/done ]; do sleep 0.01; done; rm -f /run/done")


def make_bases(daemon, sizes):
    """A snapshot for each size, in which a process waits that writes as much when told to."""
    daemon.json("run", "debian", "--name", "boot", "--memory", MEMORY)
    daemon.exec("boot", "mkfifo", "/run/go")
    for mib in sizes:
        if mib:
            daemon.put_file("boot", "/root/dirty.py", DIRTY.format(mib=mib))
            daemon.exec("boot", "sh", "-c", "setsid python3 /root/dirty.py >/dev/null 2>&1 </dev/null & echo $! >/run/pid")
            dirty(daemon, "boot", mib)
        daemon.json("snapshot", "boot", "--tag", f"base{mib}")
        if mib:
            daemon.exec("boot", "sh", "-c", "kill $(cat /run/pid)")
    daemon.run("rm", "boot")


def fork(daemon, samples, name):
    """Forks the parent once; its steps go by `name`. The child is removed, the snapshot's id given."""
    time.sleep(SETTLE_S)
    answer = daemon.json("fork", "parent", "-n", "1", "--wait-durable")
    for step in STEPS:
        samples.add(f"{name}.{step}", "us", answer["timing"][f"{step}_us"])
    snapshot = answer["snapshot"]
    samples.add(f"{name}.captured", "pages", snapshot["captured_pages"])
    samples.add(f"{name}.stored", "bytes", snapshot["stored_bytes"])
    daemon.run("rm", answer["children"][0]["sandbox"]["name"])
    return snapshot["id"]


def sweep(daemon, samples, method, sizes, rounds):
    make_bases(daemon, sizes)
    for _ in range(rounds):
        for mib in sizes:
            daemon.json("restore", f"base{mib}", "--name", "parent")
            if mib:
                dirty(daemon, "parent", mib)
            snapshots = [fork(daemon, samples, f"{method}.{mib}")]
            if method == "tracked":
                snapshots.append(fork(daemon, samples, f"again.{mib}"))
            daemon.run("rm", "parent")
            for snapshot in reversed(snapshots):
                daemon.run("rm", snapshot)


def ten_forks(daemon, samples, rounds):
    """4 MiB, whose process was in memory already, are written before each."""
    daemon.json("restore", "base4", "--name", "parent")
    for _ in range(rounds):
        for i in range(10):
            dirty(daemon, "parent", 4)
            fork(daemon, samples, "nth.first" if i == 0 else "nth.tenth" if i == 9 else "nth.between")
        daemon.run("rm", "parent")
        daemon.json("restore", "base4", "--name", "parent")


def copy_memory(samples, rounds):
    with tempfile.TemporaryDirectory(prefix="ramet-copy-") as where:
        with open(f"{where}/memory", "wb") as file:
            for _ in range(512):
                file.write(os.urandom(1 << 20))
        for _ in range(rounds):
            began = time.perf_counter()
            subprocess.run(["cp", f"{where}/memory", f"{where}/copy"], check=True)
            samples.add("naive.cp", "us", (time.perf_counter() - began) * 1e6)


def measure(args):
    rounds = 3 if args.quick else 15
    samples = Samples()
    with Daemon(args.bin, args.guest) as daemon:
        daemon.import_debian()
        for _ in range(2):
            samples.add("boot.answer", "us",
                        daemon.json("run", "debian", "--name", "fresh", "--memory", MEMORY)["timing"]["answer_us"])
            daemon.run("rm", "fresh")
        sweep(daemon, samples, "tracked", SIZES, rounds)
    with Daemon(args.bin, args.guest) as daemon:
        daemon.import_debian()
        make_bases(daemon, (4,))
        ten_forks(daemon, samples, 1 if args.quick else 3)
    for method, sizes in (("hold", SIZES), ("copy", (0, 256))):
        os.environ["RAMET_CAPTURE"] = method
        with Daemon(args.bin, args.guest) as daemon:
            daemon.import_debian()
            sweep(daemon, samples, method, sizes, max(2, rounds // 3))
        del os.environ["RAMET_CAPTURE"]
    copy_memory(samples, 3)
    tool = Tool(os.path.join(args.bin, "ramet-branch-bench"))
    tool.run("fork(2) of a process", "fork", "-", rounds * 3)
    results = samples.series() + tool.series()
    p50 = {r["name"]: r["p50"] for r in results}
    results += [series(f"bare.pause.{mib}", "us", [bare_pause(p50, mib)]) for mib in SIZES]
    if args.plots:
        draw(args.plots, p50)
    return results, promises(p50)


def bare_pause(p50, mib):
    """QEMU's own steps and the fork of a process like it."""
    return sum(p50[f"tracked.{mib}.{step}"] for step in ("stop", "state", "resume")) + p50[f"bare.fork.{mib}"]


def draw(directory, p50):
    os.makedirs(directory, exist_ok=True)
    rows = {"writes tracked": [p50[f"tracked.{mib}.pause"] / 1000 for mib in SIZES],
            "memory holder": [p50[f"hold.{mib}.pause"] / 1000 for mib in SIZES],
            "bare, with fork(2)": [bare_pause(p50, mib) / 1000 for mib in SIZES]}
    plot.lines(f"{directory}/branch-pause.svg", "Pause of a fork, by MiB dirty", "ms", [str(mib) for mib in SIZES], rows)


def promises(p50):
    pause = {mib: p50[f"tracked.{mib}.pause"] for mib in SIZES}
    return [promise("pause at 256 MiB dirty / at 0, p50", pause[256] / pause[0], "<=", 1.5),
            promise("longest p50 of the pause at any size, ms", max(pause.values()) / 1000, "<=", 10),
            promise("pause at 256 MiB dirty / bare stop, state, fork(2), resume, p50", pause[256] / bare_pause(p50, 256),
                    "<=", 1),
            promise("the tenth fork copies, pages / those before it",
                    p50["nth.tenth.captured"] / p50["nth.between.captured"], "<=", 1.2),
            promise("the tenth fork stores, bytes / those before it",
                    p50["nth.tenth.stored"] / p50["nth.between.stored"], "<=", 1.5)]


def main():
    parser = arguments(__doc__)
    parser.add_argument("--plots", metavar="DIR")
    args = parser.parse_args()
    results, promised = measure(args)
    print_series(results)
    return finish("branch_live", args.json, results, promised)


if __name__ == "__main__":
    sys.exit(main())
