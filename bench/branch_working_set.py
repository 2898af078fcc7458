#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What the working set is worth: python3 bench/branch_working_set.py BIN GUEST [--quick] [--json FILE].

A Debian guest of 512 MiB works: it fills a file and 96 MiB of a program's memory. A snapshot of it is
restored once, which records its working set. Then, by turns with and without it, the daemon starts
anew, the page cache of the store (or all of it) is dropped, and the snapshot is restored: how long
until the guest agent answers, and until a command has run?"""
import os
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "tools", "demo"))
from daemon import Daemon  # noqa: E402
from report import arguments, finish, print_series, promise, series  # noqa: E402

WORK = """import hashlib, os, time
blob = bytearray(os.urandom(96 << 20))
with open('/root/out', 'wb') as out:
    out.write(bytes(blob[:32 << 20]))
table = {hashlib.sha256(bytes(blob[i:i + 64])).hexdigest(): i for i in range(0, 1 << 20, 64)}
open('/run/done', 'w').close()
while True:
    time.sleep(0.5)
    table['x'] = blob[int(time.time()) % len(blob)]
"""


def make_snapshot(daemon):
    daemon.json("run", "debian", "--name", "boot", "--memory", "512M")
    daemon.put_file("boot", "/root/work.py", WORK)
    daemon.exec("boot", "sh", "-c", "setsid python3 /root/work.py >/dev/null 2>&1 </dev/null & "
                "while [ ! -e /run/done ]; do sleep 0.1; done")
    daemon.json("snapshot", "boot", "--tag", "work")
    daemon.run("rm", "boot")


def drop_store(daemon):
    """The store's own files leave the page cache; QEMU and the libraries stay, as on a host that runs others."""
    subprocess.run(["sync"], check=True)
    for dir, _, names in os.walk(f"{daemon.dir}/store"):
        for name in names:
            fd = os.open(os.path.join(dir, name), os.O_RDONLY)
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(fd)


def drop_all(daemon):
    subprocess.run(["sync"], check=True)
    with open("/proc/sys/vm/drop_caches", "w") as file:
        file.write("3")


def restore(daemon, working_set, drop):
    """A fresh daemon restores the snapshot; microseconds until the agent answers and until a command has run."""
    daemon.down()
    daemon.env["RAMET_WORKING_SET"] = "on" if working_set else "off"
    daemon.up()
    # Refused for want of memory, but only after it was found out which QEMU there is: once in a daemon's life.
    daemon.run("run", "debian", "--memory", "1T", check=False)
    drop(daemon)
    began = time.monotonic()
    answer = daemon.json("restore", "work", "--name", "cold")["sandboxes"][0]["timing"]["answer_us"]
    daemon.exec("cold", "true")
    took = (time.monotonic() - began) * 1e6
    daemon.run("rm", "cold")
    return answer, took


def warm(daemon, count):
    """The floor: the same daemon, with every page in memory."""
    samples = []
    for _ in range(count + 1):
        samples.append(daemon.json("restore", "work", "--name", "warm")["sandboxes"][0]["timing"]["answer_us"])
        daemon.run("rm", "warm")
    return samples[1:]


def rounds(daemon, name, count, drop):
    """Restores with and without by turns; series of both, and the ratio of their medians."""
    answers, commands = {True: [], False: []}, {True: [], False: []}
    for _ in range(count):
        for working_set in (False, True):
            answer, command = restore(daemon, working_set, drop)
            answers[working_set].append(answer)
            commands[working_set].append(command)
    results = [series(f"{name}.{what}.{'with' if on else 'without'}", "us", samples[on])
               for what, samples in (("answer", answers), ("command", commands)) for on in (False, True)]
    return results, results[0]["p50"] / results[1]["p50"]


def measure(args):
    count, results = (3 if args.quick else 10), []
    with Daemon(args.bin, args.guest) as daemon:
        daemon.env["RAMET_RECOMPRESS"] = "off"  # only when it is told to, below
        daemon.down()
        daemon.up()
        daemon.import_debian()
        make_snapshot(daemon)
        first, _ = restore(daemon, True, drop_store)
        info = daemon.json("show", "work")
        results.append(series("recording.answer", "us", [first]))
        results.append(series("working_set", "bytes", [info["working_set_bytes"]]))
        fresh, fresh_ratio = rounds(daemon, "fresh", count, drop_store)
        daemon.run("store", "recompress", "--threads", "2", "--wait")
        cold, cold_ratio = rounds(daemon, "recompressed", count, drop_store)
        everything, everything_ratio = rounds(daemon, "all_dropped", count, drop_all)
        results += fresh + cold + everything + [series("warm.answer", "us", warm(daemon, count))]
    return results, [
        promise("first answer without / with working set, store as written", fresh_ratio, ">=", 2),
        promise("the same, recompressed", cold_ratio, ">=", 2),
        promise("the same, all of the page cache dropped", everything_ratio, ">=", 2)]


def main():
    args = arguments(__doc__).parse_args()
    results, promises = measure(args)
    print_series(results)
    return finish("branch_working_set", args.json, results, promises)


if __name__ == "__main__":
    sys.exit(main())
