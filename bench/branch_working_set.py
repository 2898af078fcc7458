#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What the working set is worth to a restore from a cold store.

A section of `tools/dev bench branch`; by itself: branch_working_set.py BIN_DIR GUEST_DIR [--quick] [--json FILE]

A Debian guest of 512 MiB works: it fills a file and 96 MiB of a program's memory. A snapshot of it is
restored once, which records its working set. Then, by turns with and without it, the daemon starts
anew, a VMM waits in its pool, the store's files leave the page cache, and the snapshot is restored: how
long until the guest runs, until its agent answers, and until a command has run? Last, the floor ("warm"): restores with every page in memory, which is the VMM's and the
guest's own work."""
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


def await_spare(daemon):
    end = time.monotonic() + 10
    while daemon.json("status")["spares"] < 1 and time.monotonic() < end:
        time.sleep(0.02)


def fresh_daemon(daemon, working_set):
    """It has found out which QEMU there is and has one waiting, as a daemon in service has: a VM came and went."""
    daemon.down()
    daemon.env["RAMET_WORKING_SET"] = "on" if working_set else "off"
    daemon.up()
    daemon.run("run", "debian", "--memory", "512M", "--wait-ms", "1", check=False)  # which removes it


def restore(daemon, name):
    """Microseconds until the guest runs, until its agent answers, and until a command has run."""
    await_spare(daemon)
    began = time.monotonic()
    timing = daemon.json("restore", "work", "--name", name)["sandboxes"][0]["timing"]
    daemon.exec(name, "true")
    took = (time.monotonic() - began) * 1e6
    daemon.run("rm", name)
    return {"running": timing["running_us"], "answer": timing["answer_us"], "command": took}


def cold(daemon, working_set):
    fresh_daemon(daemon, working_set)
    await_spare(daemon)
    drop_store(daemon)
    return restore(daemon, "cold")


def summary(name, samples):
    return [series(f"{name}.{what}", "us", [sample[what] for sample in samples]) for what in samples[0]]


def rounds(daemon, count):
    """Restores with and without by turns; series of both, and how much sooner the median first answer is with."""
    without, with_set = [], []
    for _ in range(count):
        without.append(cold(daemon, False))
        with_set.append(cold(daemon, True))
    results = summary("without", without) + summary("with", with_set)
    p50 = {r["name"]: r["p50"] for r in results}
    return results, p50["without.answer"] / p50["with.answer"]


def measure(args):
    count = 3 if args.quick else 10
    with Daemon(args.bin, args.guest) as daemon:
        daemon.env["RAMET_RECOMPRESS"] = "off"
        daemon.env["RAMET_POOL"] = "1"
        daemon.down()
        daemon.up()
        daemon.import_debian()
        make_snapshot(daemon)
        results = summary("recording", [cold(daemon, True)])
        info = daemon.json("show", "work")
        results.append(series("working_set", "bytes", [info["working_set_bytes"]]))
        both, ratio = rounds(daemon, count)
        warm = summary("warm", [restore(daemon, "warm") for _ in range(count + 1)][1:])
    return results + both + warm, [promise("first answer from a cold store, without / with working set", ratio, ">=", 2)]


def main():
    args = arguments(__doc__).parse_args()
    results, promises = measure(args)
    print_series(results)
    return finish("branch_working_set", args.json, results, promises)


if __name__ == "__main__":
    sys.exit(main())
