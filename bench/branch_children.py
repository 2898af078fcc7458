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

"Running" is a promise of the daemon's. "Answering" is mostly the guest's own work: under TCG each child translates anew
the code it runs, and the CPUs share that of all children. So the same is done without Ramet ("bare", bare_qemu.py):
as many QEMUs of the same machine, all waiting, load the same state, map the same memory in a plain file and have a
qcow2 overlay as their disk. Nobody captures anything there, so a fork can only come near it."""
import concurrent.futures
import contextlib
import os
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "tools", "demo"))
from bare_qemu import Qemu, machine_of  # noqa: E402
from daemon import Daemon  # noqa: E402
from report import arguments, finish, print_series, promise, series  # noqa: E402

SIZES, MEMORY, MEMORY_BYTES, QUIET_S = (1, 8, 32), "512M", 512 << 20, 0.5
STARTS = 2 * os.cpu_count()  # at a time, as in the daemon


def await_spares(daemon, count):
    """Until the pool is full, machines are made where they are made ahead, and what was removed before is gone from the
    CPUs."""
    before, end = None, time.monotonic() + 30
    while time.monotonic() < end:
        status = daemon.json("status")
        now = status["spares"], status["spares_made"]
        if now == (count, count):
            break
        if now != before:
            before, stuck = now, time.monotonic() + 1
        if now[0] == count and time.monotonic() > stuck:
            break
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


def make_overlays(place, count):
    for index in range(count):
        subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", f"{place}/disk0",
                        f"{place}/overlay{index}"], check=True)


def bare_round(samples, machine, place, count):
    """QEMUs that wait; then, as the daemon does it: all load, all run, all are asked, all answer."""
    make_overlays(place, count)
    with contextlib.ExitStack() as stack, concurrent.futures.ThreadPoolExecutor(STARTS) as threads:
        vms = [stack.enter_context(Qemu(machine, "-incoming", "defer")) for _ in range(count)]
        time.sleep(QUIET_S)
        began = time.monotonic()
        list(threads.map(lambda i: vms[i].run(f"{place}/memory", MEMORY_BYTES, f"{place}/overlay{i}", "qcow2",
                                              f"{place}/state", paused=True), range(count)))
        for vm in vms:
            vm.call("cont")
        samples.add(f"bare.{count}.all_running", "us", round((time.monotonic() - began) * 1e6))
        for vm in vms:
            vm.ask_agent()
        for vm in vms:
            vm.hear_agent()
        samples.add(f"bare.{count}.all_answer", "us", round((time.monotonic() - began) * 1e6))


def pooled(args, samples, place):
    """Forks and boots by turns with bare QEMUs."""
    os.environ["RAMET_POOL"] = str(max(SIZES))
    with Daemon(args.bin, args.guest) as daemon:
        daemon.import_debian()
        start_parent(daemon)
        daemon.json("snapshot", "restored", "--tag", "forked")
        machine = machine_of(daemon.json("show", "restored")["pid"])
        for image in ("memory", "state", "disk0"):
            daemon.json("export", "forked", image, f"{place}/{image}")
        for _ in range(2 if args.quick else 4):
            await_spares(daemon, max(SIZES))
            samples.add("boot.answer", "us", boot(daemon, "fresh"))
            daemon.run("rm", "fresh")
            for count in SIZES:
                one_round(daemon, samples, "pool", count, max(SIZES))
            running_round(daemon, samples, 8, max(SIZES))
            one_round(daemon, samples, "booted", 8, max(SIZES), "booted")
            for count in (1, 8):
                await_spares(daemon, max(SIZES))
                bare_round(samples, machine, place, count)


def unpooled(args, samples):
    os.environ["RAMET_POOL"] = "0"
    with Daemon(args.bin, args.guest) as daemon:
        daemon.import_debian()
        start_parent(daemon)
        for _ in range(2 if args.quick else 4):
            one_round(daemon, samples, "fresh", 1, 0)
            one_round(daemon, samples, "fresh", 8, 0)


def measure(args):
    samples = Samples()
    with tempfile.TemporaryDirectory(prefix="ramet-bare-") as place:
        pooled(args, samples, place)
    unpooled(args, samples)
    del os.environ["RAMET_POOL"]
    results = samples.series()
    p50 = {r["name"]: r["p50"] for r in results}
    results += [series(f"boot / {name}", "times", [p50["boot.answer"] / p50[name]])
                for name in ("pool.8.call_running", "pool.8.all_running", "pool.8.all_answer", "pool.8.call",
                             "bare.8.all_answer")]
    return results, promises(p50)


def promises(p50):
    return [promise("a pooled child runs, its part of a fork of one, p50 ms", p50["pool.1.child.start"] / 1000, "<=", 30),
            promise("fresh boot / whole call of fork -n 8 until all run", p50["boot.answer"] / p50["pool.8.call_running"],
                    ">=", 20),
            promise("fresh boot / whole call of fork -n 8, all answering",
                    p50["boot.answer"] / p50["pool.8.call"], ">=", 20),
            promise("fork -n 8 until all answer / eight bare QEMUs from a plain file",
                    p50["pool.8.all_answer"] / p50["bare.8.all_answer"], "<=", 1.25)]


def main():
    args = arguments(__doc__).parse_args()
    results, promised = measure(args)
    print_series(results)
    return finish("branch_children", args.json, results, promised)


if __name__ == "__main__":
    sys.exit(main())
