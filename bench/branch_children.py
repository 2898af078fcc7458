#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What the children of a fork cost: 1, 8 and 32 at once of a Debian guest of 512 MiB.

A section of `tools/dev bench branch`; by itself: branch_children.py BIN_DIR GUEST_DIR [--quick] [--json FILE]

The parent was restored from a snapshot of a booted guest and idles. Rounds of forks of each size follow, all VMMs waiting in the
pool beforehand (RAMET_POOL=32), and between them fresh boots of the same guest, each removed again. Of each fork:
the whole call, with and without waiting for the guest agents; when the last child ran and when the last
answered, since the call began; each child's own part of that, from its branch's record until its CPUs ran
("start"); and, a second later, what each child's VMM costs in memory. Then forks of a parent that booted itself, where
all it wrote since is captured ("booted"), and forks without a pool ("fresh").

"Running" is a promise of the daemon's. "Answering" is the guest's own work: under TCG each child translates
anew the code it runs, about 0.1 s of CPU time, and two CPUs share eight of those."""
import os
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "tools", "demo"))
from daemon import Daemon  # noqa: E402
from report import arguments, finish, print_series, promise, series  # noqa: E402

SIZES, MEMORY, QUIET_S = (1, 8, 32), "512M", 0.5


def await_spares(daemon, count):
    """Until the pool is full and what was removed before is gone from the CPUs."""
    end = time.monotonic() + 30
    while daemon.json("status")["spares"] < count and time.monotonic() < end:
        time.sleep(0.05)
    time.sleep(QUIET_S)


def boot(daemon, name):
    return daemon.json("run", "debian", "--name", name, "--memory", MEMORY)["timing"]["answer_us"]


def start_parent(daemon):
    """Both parents; the restored one maps what the booted one wrote."""
    boot(daemon, "booted")
    daemon.json("snapshot", "booted", "--tag", "base")
    daemon.json("restore", "base", "--name", "restored")


def fork(daemon, parent, count, *more):
    answer = daemon.json("fork", parent, "-n", str(count), *more)
    return answer, [child["timing"] for child in answer["children"]]


def remove(daemon, answer):
    daemon.run("rm", *[child["sandbox"]["name"] for child in answer["children"]])


class Samples(dict):
    def add(self, name, unit, *values):
        self.setdefault((name, unit), []).extend(values)

    def series(self):
        return [series(name, unit, values) for (name, unit), values in self.items()]


def one_round(daemon, samples, label, count, spares, parent="restored"):
    await_spares(daemon, spares)
    answer, timing = fork(daemon, parent, count)
    prefix = f"{label}.{count}"
    samples.add(f"{prefix}.call", "us", answer["timing"]["total_us"])
    samples.add(f"{prefix}.all_running", "us", max(t["running_us"] for t in timing))
    samples.add(f"{prefix}.all_answer", "us", max(t["answer_us"] for t in timing))
    samples.add(f"{prefix}.child.start", "us", *[t["start_us"] for t in timing])
    samples.add(f"{prefix}.pooled", "children", sum(t["pooled"] for t in timing))
    time.sleep(1)
    names = {child["sandbox"]["name"] for child in answer["children"]}
    live = [s for s in daemon.json("ls")["sandboxes"] if s["name"] in names]
    samples.add(f"{prefix}.child.pss", "bytes", *[s["pss_bytes"] for s in live])
    samples.add(f"{prefix}.child.private", "bytes", *[s["private_bytes"] for s in live])
    remove(daemon, answer)


def running_round(daemon, samples, count, spares):
    """The call that answers when the children run."""
    await_spares(daemon, spares)
    answer, _ = fork(daemon, "restored", count, "--no-wait")
    samples.add(f"pool.{count}.call_running", "us", answer["timing"]["total_us"])
    time.sleep(1)
    remove(daemon, answer)


def measure(args):
    rounds = 2 if args.quick else 4
    samples = Samples()
    os.environ["RAMET_POOL"] = str(max(SIZES))
    with Daemon(args.bin, args.guest) as daemon:
        daemon.import_debian()
        start_parent(daemon)
        for _ in range(rounds):
            await_spares(daemon, max(SIZES))
            samples.add("boot.answer", "us", boot(daemon, "fresh"))
            daemon.run("rm", "fresh")
            for count in SIZES:
                one_round(daemon, samples, "pool", count, max(SIZES))
            running_round(daemon, samples, 8, max(SIZES))
            one_round(daemon, samples, "booted", 8, max(SIZES), "booted")
    os.environ["RAMET_POOL"] = "0"
    with Daemon(args.bin, args.guest) as daemon:
        daemon.import_debian()
        start_parent(daemon)
        for _ in range(rounds):
            one_round(daemon, samples, "fresh", 1, 0)
            one_round(daemon, samples, "fresh", 8, 0)
    del os.environ["RAMET_POOL"]
    results = samples.series()
    return results, promises(results)


def promises(results):
    p50 = {r["name"]: r["p50"] for r in results}
    return [promise("a pooled child runs, its part of a fork of one, p50 ms", p50["pool.1.child.start"] / 1000, "<=", 30),
            promise("fresh boot / fork -n 8 until all run", p50["boot.answer"] / p50["pool.8.all_running"], ">=", 20),
            promise("fresh boot / whole call of fork -n 8, all answering",
                    p50["boot.answer"] / p50["pool.8.call"], ">=", 20)]


def main():
    args = arguments(__doc__).parse_args()
    results, promised = measure(args)
    print_series(results)
    return finish("branch_children", args.json, results, promised)


if __name__ == "__main__":
    sys.exit(main())
