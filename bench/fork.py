#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What a fork costs: `tools/dev bench fork [--quick] [--json FILE]`.

A Debian guest runs from a snapshot. Before each fork it dirties about 16 MiB; the fork
makes one child, which is removed again. Then one fork makes eight children; each is
measured idle: its private memory, and what a snapshot of it stores.

Beside it, in the same run: booting the template afresh, the pause without the memory
holder (RAMET_CAPTURE=copy), and a bare memcpy of 16 MiB as the machine's own measure."""
import os
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "tools", "demo"))
from daemon import Daemon  # noqa: E402
from report import arguments, finish, promise, series  # noqa: E402

DIRTY = "import mmap,os,time\nm=mmap.mmap(-1,{mib}<<20)\n" \
        "while True:\n r=open('/run/go').read()\n for i in range(0,{mib}<<20,4096): m[i:i+16]=os.urandom(16)\n" \
        " open('/run/done','w').write(r)\n"


def dirty(daemon, name, mib):
    """Writes fresh bytes to every page of a buffer of `mib` MiB in the guest."""
    daemon.exec(name, "python3", "-c", f"open('/run/go','w').write('x')")
    daemon.exec(name, "sh", "-c", "while [ ! -s /run/done ]; do sleep 0.01; done; rm -f /run/done")


def start_guest(daemon, mib):
    daemon.json("run", "debian", "--name", "boot")
    daemon.exec("boot", "mkfifo", "/run/go")
    daemon.put_file("boot", "/root/dirty.py", DIRTY.format(mib=mib))
    daemon.exec("boot", "sh", "-c", "setsid python3 /root/dirty.py >/dev/null 2>&1 </dev/null &")
    dirty(daemon, "boot", mib)
    daemon.json("snapshot", "boot", "--tag", "base")
    daemon.run("rm", "boot")


def pauses(daemon, name, mib, rounds):
    """Forks a fresh restore of the base each time: ~mib dirty since the snapshot it stands on."""
    steps = []
    for i in range(rounds):
        daemon.json("restore", "base", "--name", name)
        dirty(daemon, name, mib)
        fork = daemon.json("fork", name, "-n", "1", "--wait-durable")
        steps.append((fork["timing"], fork["snapshot"]))
        daemon.run("rm", fork["children"][0]["sandbox"]["name"], name)
        daemon.run("rm", fork["snapshot"]["id"])
    return steps


def litter(daemon, count):
    """One fork of `count`; then every child, idle for a second, is measured."""
    daemon.json("restore", "base", "--name", "parent")
    began = time.monotonic()
    fork = daemon.json("fork", "parent", "-n", str(count), "--wait-durable")
    took = time.monotonic() - began
    time.sleep(1)
    live = {s["name"]: s for s in daemon.json("ls")["sandboxes"]}
    names = [c["sandbox"]["name"] for c in fork["children"]]
    stored = [daemon.json("snapshot", n)["snapshot"]["stored_bytes"] for n in names]
    answered = sum(daemon.exec(n, "echo", "here").strip() == "here" for n in names)
    return took, answered, fork, [live[n]["pss_bytes"] for n in names], [live[n]["private_bytes"] for n in names], stored


def memcpy_us(mib, rounds=20):
    source, samples = bytearray(os.urandom(mib << 20)), []
    for _ in range(rounds):
        began = time.perf_counter()
        bytes(source)
        samples.append((time.perf_counter() - began) * 1e6)
    return samples


def measure(args):
    rounds, mib = (5 if args.quick else 20), 16
    results = []
    with Daemon(args.bin, args.guest) as daemon:
        daemon.import_debian()
        boots = []
        for i in range(2 if args.quick else 5):
            boots.append(daemon.json("run", "debian", "--name", "fresh")["timing"]["answer_us"])
            daemon.run("rm", "fresh")
        start_guest(daemon, mib)
        steps = pauses(daemon, "p", mib, rounds)
        for key in ("pause_us", "stop_us", "state_us", "hold_us", "freeze_us", "resume_us", "scan_us", "copy_us"):
            results.append(series(f"fork.{key[:-3]}", "us", [t[key] for t, _ in steps]))
        results.append(series("fork.captured", "pages", [s["captured_pages"] for _, s in steps]))
        took, answered, fork, pss, private, stored = litter(daemon, 8)
        results.append(series("eight.running", "us", [c["timing"]["running_us"] for c in fork["children"]]))
        results.append(series("eight.answer", "us", [c["timing"]["answer_us"] for c in fork["children"]]))
        results.append(series("eight.call", "us", [took * 1e6]))
        results.append(series("child.pss", "bytes", pss))
        results.append(series("child.private", "bytes", private))
        results.append(series("child.stored", "bytes", stored))
        results.append(series("boot.answer", "us", boots))
    os.environ["RAMET_CAPTURE"] = "copy"
    with Daemon(args.bin, args.guest) as daemon:
        daemon.import_debian()
        start_guest(daemon, mib)
        copied = [t["pause_us"] for t, _ in pauses(daemon, "p", mib, rounds)]
        results.append(series("fork.pause.copy", "us", copied))
    results.append(series("machine.memcpy16", "us", memcpy_us(mib)))
    by = {r["name"]: r for r in results}
    return results, [
        promise("pause at 16 MiB dirty, p50 ms", by["fork.pause"]["p50"] / 1000, 25),
        promise("children answering of 8", answered, 8, ">="),
        promise("fresh boot / slowest of 8 children",
                by["boot.answer"]["p50"] / max(by["eight.answer"]["samples"]), 1, ">="),
    ]


if __name__ == "__main__":
    options = arguments(__doc__).parse_args()
    sys.exit(finish(options, "fork", *measure(options)))
