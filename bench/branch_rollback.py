#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What a rollback of a running sandbox costs, beside the restore that it contains: a Debian guest of 512 MiB.

A section of `tools/dev bench branch`; by itself: branch_rollback.py BIN_DIR GUEST_DIR [--quick] [--json FILE]

The sandbox was restored from a snapshot of a booted guest ("base"), wrote 16 MiB and was stored ("parent"), and again.
Rounds of rollbacks to both follow, each after the guest wrote 16 MiB more, and between them, as the limit,
restores of the same snapshots into a VMM that waits, removed again: a rollback does that and turns the branch. Of each, since the call
began: until the CPUs ran, until the guest agent answered, and the whole call. "stop_start" is the way without Ramet's
rollback: rm, then restore under the same name."""
import os
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "tools", "demo"))
from branch_children import MEMORY, Samples, await_spares  # noqa: E402
from daemon import Daemon  # noqa: E402
from report import arguments, finish, print_series, promise  # noqa: E402

SPARES, TARGETS = 2, ("base", "parent")


def write(daemon, name):
    daemon.run("exec", "-n", name, "--", "sh", "-c", "head -c 16M /dev/urandom > /dev/shm/changed")


def prepare(daemon):
    daemon.import_debian()
    daemon.json("run", "debian", "--name", "booted", "--memory", MEMORY)
    daemon.json("snapshot", "booted", "--tag", "base")
    daemon.run("rm", "booted")
    daemon.json("restore", "base", "--name", "web")
    for tag in ("parent", "now"):
        write(daemon, "web")
        daemon.json("snapshot", "web", "--tag", tag)


def timed(samples, prefix, call):
    """`call` gives the timing that the daemon answered."""
    began = time.monotonic()
    timing = call()
    samples.add(f"{prefix}.call", "us", round((time.monotonic() - began) * 1e6))
    samples.add(f"{prefix}.running", "us", timing["running_us"])
    samples.add(f"{prefix}.answer", "us", timing["answer_us"])
    samples.add(f"{prefix}.pooled", "VMMs", int(timing["pooled"]))


def restore(daemon, target, name):
    return daemon.json("restore", target, "--name", name)["sandboxes"][0]["timing"]


def one_round(daemon, samples, target):
    write(daemon, "web")
    await_spares(daemon, SPARES)
    timed(samples, f"rollback.{target}", lambda: daemon.json("rollback", "web", target)["timing"])
    await_spares(daemon, SPARES)
    timed(samples, f"restore.{target}", lambda: restore(daemon, target, "other"))
    await_spares(daemon, SPARES)
    began = time.monotonic()
    daemon.run("rm", "other")
    removed_us = round((time.monotonic() - began) * 1e6)
    timing = restore(daemon, target, "other")
    samples.add(f"stop_start.{target}.running", "us", removed_us + timing["running_us"])
    daemon.run("rm", "other")


def measure(args):
    samples = Samples()
    os.environ["RAMET_POOL"] = str(SPARES)
    with Daemon(args.bin, args.guest) as daemon:
        prepare(daemon)
        for target in TARGETS:
            restore(daemon, target, "first")  # records what is read, once
            daemon.run("rm", "first")
        for _ in range(5 if args.quick else 20):
            for target in TARGETS:
                one_round(daemon, samples, target)
    del os.environ["RAMET_POOL"]
    results = samples.series()
    return results, promises(results)


def promises(results):
    p50 = {r["name"]: r["p50"] for r in results}
    return [promise(f"rollback to {target} / restore of it, until it runs, p50",
                    p50[f"rollback.{target}.running"] / p50[f"restore.{target}.running"], "<=", 1.5) for target in TARGETS]


def main():
    args = arguments(__doc__).parse_args()
    results, promised = measure(args)
    print_series(results)
    return finish("branch_rollback", args.json, results, promised)


if __name__ == "__main__":
    sys.exit(main())
