#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What depth and width cost: a chain of 100 forks, and 1, 100 and 1,000 branches in one service.

A section of `tools/dev bench branch`; by itself: branch_tree.py BIN_DIR GUEST_DIR [--quick] [--json FILE]

Depth: a restored guest of 128 MiB writes 1 MiB and is forked, the child takes its parent's name and place (promote), and so on, so that
each snapshot grew from the one before. Forks, promotions and their pauses near the first and near the last link are compared,
then restores of the first and the last snapshot by turns, each recorded once before.

Width: children of one guest, 25 at a time, whose VMMs are killed as soon as they run: branches that idle, with their records and disks
and no memory of a VMM. At each width: listing, showing one, status, a snapshot of the guest, and a fork of it into one
child. What the daemon itself uses, less what it used at the first width, is what a branch costs. Listing is also
given per branch, since its answer grows."""
import os
import signal
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "tools", "demo"))
from branch_children import Samples, await_spares  # noqa: E402
from daemon import Daemon  # noqa: E402
from report import arguments, finish, print_series, promise  # noqa: E402

SPARES, MEMORY, ENDS, LITTER = 2, "128M", 8, 25
WIDTHS = {False: (1, 100, 1000), True: (1, 50, 100)}
DEPTHS = {False: 100, True: 20}


def prepare(daemon):
    daemon.import_debian()
    daemon.json("run", "debian", "--name", "booted", "--memory", MEMORY)
    daemon.json("snapshot", "booted", "--tag", "base")
    daemon.run("rm", "booted")
    daemon.json("restore", "base", "--name", "web")


def timed(samples, name, call):
    began = time.monotonic()
    answer = call()
    samples.add(name, "us", round((time.monotonic() - began) * 1e6))
    return answer


# Depth


def link(daemon, samples, number, end):
    """One more link; `end` names the end of the chain that it is near, or is None."""
    daemon.exec("web", "sh", "-c", f"head -c 1M /dev/urandom > /dev/shm/link-{number % 8}")
    into = samples if end else Samples()
    answer = daemon.json("fork", "web", "--name", "next", "--tag", f"depth-{number}", "--wait-durable")
    into.add(f"depth.{end}.fork.pause", "us", answer["timing"]["pause_us"])
    into.add(f"depth.{end}.fork.call", "us", answer["timing"]["total_us"])
    timed(into, f"depth.{end}.promote.call", lambda: daemon.json("promote", "next"))


def restore(daemon, samples, number, depth):
    await_spares(daemon, SPARES)
    timing = daemon.json("restore", f"depth-{number}", "--name", "restored")["sandboxes"][0]["timing"]
    daemon.run("rm", "restored")
    samples.add(f"depth.{depth}.restore.running", "us", timing["running_us"])
    samples.add(f"depth.{depth}.restore.answer", "us", timing["answer_us"])


def deepen(daemon, samples, depth, quick):
    for number in range(1, depth + 1):
        link(daemon, samples, number, "first" if number <= ENDS else "last" if number > depth - ENDS else None)
    daemon.run("rm", "web")  # it runs on the last, whose memory is then in the page cache and no working set recorded
    for number in (1, depth):
        restore(daemon, Samples(), number, number)
    for _ in range(5 if quick else 20):
        restore(daemon, samples, 1, 1)
        restore(daemon, samples, depth, "last")


# Width


def resident_kib(daemon):
    with open(f"/proc/{daemon.json('status')['pid']}/status", encoding="utf-8") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmRSS"))


def widen(daemon, width):
    """Idle branches beside the guest until there are `width` in all."""
    count = daemon.json("status")["sandboxes"]
    while count < width:
        litter = min(LITTER, width - count)
        children = daemon.json("fork", "web", "-n", str(litter), "--no-wait", "--wait-durable")["children"]
        for child in children:
            os.kill(child["sandbox"]["pid"], signal.SIGKILL)
        count += litter
    return daemon.json("ls")["sandboxes"][-1]["name"]


def at_width(daemon, samples, width, quick):
    last = widen(daemon, width)
    await_spares(daemon, SPARES)
    for _ in range(5 if quick else 20):
        timed(samples, f"width.{width}.status", lambda: daemon.json("status"))
        timed(samples, f"width.{width}.show", lambda: daemon.json("show", last))
        timed(samples, f"width.{width}.ls", lambda: daemon.json("ls"))
    for _ in range(3 if quick else 8):
        await_spares(daemon, SPARES)
        timing = daemon.json("snapshot", "web")["timing"]
        samples.add(f"width.{width}.snapshot.pause", "us", timing["pause_us"])
        samples.add(f"width.{width}.snapshot.call", "us", timing["total_us"])
        timing = daemon.json("fork", "web", "--name", "one", "--wait-durable")["timing"]
        daemon.run("rm", "one")
        samples.add(f"width.{width}.fork.pause", "us", timing["pause_us"])
        samples.add(f"width.{width}.fork.call", "us", timing["total_us"])
    return resident_kib(daemon)


def measure(args):
    samples, widths, depth = Samples(), WIDTHS[args.quick], DEPTHS[args.quick]
    os.environ["RAMET_POOL"] = str(SPARES)
    with Daemon(args.bin, args.guest) as daemon:
        prepare(daemon)
        deepen(daemon, samples, depth, args.quick)
    with Daemon(args.bin, args.guest) as daemon:
        prepare(daemon)
        resident = {width: at_width(daemon, samples, width, args.quick) for width in widths}
    del os.environ["RAMET_POOL"]
    for width in widths:
        samples.add(f"width.{width}.daemon_resident", "KiB", resident[width])
    samples.add("width.branch_resident", "KiB", (resident[widths[-1]] - resident[widths[0]]) / (widths[-1] - widths[0]))
    results = samples.series()
    return results, promises(results, widths)


def promises(results, widths):
    p50 = {r["name"]: r["p50"] for r in results}
    few, many = f"width.{widths[0]}", f"width.{widths[-1]}"
    flat = [(f"restore of depth {what} / of depth 1, until it {what_it_does}, p50", f"depth.last.restore.{key}", f"depth.1.restore.{key}")
            for what, what_it_does, key in (("last", "runs", "running"), ("last", "answers", "answer"))]
    flat += [("fork at the chain's end / at its beginning, whole call, p50", "depth.last.fork.call", "depth.first.fork.call")]
    flat += [(f"{name} at {widths[-1]} branches / at {widths[0]}, p50", f"{many}.{key}", f"{few}.{key}")
             for name, key in (("status", "status"), ("show", "show"), ("snapshot", "snapshot.call"), ("fork", "fork.call"))]
    return [promise(name, p50[above] / p50[below], "<=", 1.2) for name, above, below in flat] + [
        promise("the daemon's memory for an idle branch, KiB", p50["width.branch_resident"], "<=", 265)]


def main():
    args = arguments(__doc__).parse_args()
    results, promised = measure(args)
    print_series(results)
    return finish("branch_tree", args.json, results, promised)


if __name__ == "__main__":
    sys.exit(main())
