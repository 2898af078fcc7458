#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Goal: a fork or restore takes VMMs that wait. Its guests continue like those of fresh ones and can be forked again;
where too few wait, the rest is started afresh; a spare that dies is replaced; none outlives the daemon.

usage: test_pool.py BIN_DIR GUEST_DIR
"""
import contextlib
import os
import signal
import sys

import daemon as d

SPARES = 3


def command_line(pid):
    try:
        with open(f"/proc/{pid}/cmdline", encoding="utf-8") as file:
            return file.read().split("\0")
    except OSError:
        return []


def idle_spares(vm):
    """Pids of the QEMUs that wait: no sandbox runs in them."""
    taken = {sandbox["pid"] for sandbox in vm.sandboxes()}
    return sorted(pid for pid in d.processes_of(vm.top) if "-preconfig" in command_line(pid) and pid not in taken)


def full(vm, count=SPARES):
    return d.wait_until(lambda: vm.get("/v1/status")["spares"] == count == len(idle_spares(vm)), 20)


def pooled(fork):
    return sum(child["timing"]["pooled"] for child in fork["children"])


def continues(vm, check, name, before, text=None):
    count, digest, _ = d.ask(vm, name)
    check(count >= before and digest == d.known_digest(text), f"{name} continues from the instant of the fork",
          f"{count} < {before} or {digest}")


def exhausted(vm, check):
    """More children than spares: the first run in spares, the others in QEMUs of their own, and nobody can tell."""
    check(vm.get("/v1/status")["spares"] == 0, "no VMM waits before a sandbox has started")
    vm.boot("parent")
    d.start_counter(vm, "parent")
    check(full(vm), f"then {SPARES} wait")
    waiting, before = idle_spares(vm), d.ask(vm, "parent")[0]
    fork = vm.post("/v1/sandboxes/parent/fork", {"names": [f"c-{i}" for i in range(5)]})
    check(pooled(fork) == SPARES, f"of five children {SPARES} are pooled", str([c["timing"] for c in fork["children"]]))
    for child in fork["children"]:
        timing, name = child["timing"], child["sandbox"]["name"]
        check(timing["pooled"] == (child["sandbox"]["pid"] in waiting) == (timing["spawn_us"] == 0),
              f"{name}: its timing says whether its VMM waited", str(timing))
        check(0 < timing["load_us"] <= timing["start_us"] <= timing["running_us"] <= timing["answer_us"],
              f"{name}: its steps are in order", str(timing))
        continues(vm, check, name, before)
        check(os.path.exists(f"{vm.run}/{child['sandbox']['id']}/qemu.log"), f"{name} has its VMM's log")
    script = "cat /proc/sys/kernel/random/uuid; lspci 2>/dev/null || ls /sys/bus/pci/devices"
    drawn = [vm.exec(f"c-{i}", "sh", "-c", script).split("\n", 1) for i in range(5)]
    check(len({first for first, _ in drawn}) == 5, "all draw different random bytes")
    check(len({rest for _, rest in drawn}) == 1, "all have the same devices")
    return [child["sandbox"]["name"] for child in fork["children"] if child["timing"]["pooled"]]


def nested(vm, check, child):
    """A pooled child is forked with the memory holder, like any other."""
    check(full(vm), "the spares taken are replaced")
    d.ask(vm, child, "set of the child")
    before = d.ask(vm, child)[0]
    fork = vm.post(f"/v1/sandboxes/{child}/fork", {"names": ["grand"]})
    timing = fork["timing"]
    check(timing["scan_us"] > 0, "writes of a pooled child are tracked", str(timing))
    check(pooled(fork) == 1, "its child is pooled too")
    continues(vm, check, "grand", before, "of the child")
    fork = vm.post("/v1/sandboxes/grand/fork", {"names": ["great"]})
    continues(vm, check, "great", before, "of the child")


def killed(vm, check):
    """A spare that dies while it waits is replaced; a fork that comes before that does without."""
    check(full(vm), "the pool is full again")
    victim = idle_spares(vm)[0]
    os.kill(victim, signal.SIGKILL)
    check(d.wait_until(lambda: victim not in idle_spares(vm), 10) and full(vm), "a spare that was killed is replaced")
    for pid in idle_spares(vm):
        os.kill(pid, signal.SIGKILL)
    before = d.ask(vm, "parent")[0]
    fork = vm.post("/v1/sandboxes/parent/fork", {"names": ["after-1", "after-2"]})
    check(len(fork["children"]) == 2, "a fork right after all spares were killed succeeds")
    continues(vm, check, "after-1", before)
    for name in ("after-1", "after-2", "great"):
        vm.delete(f"/v1/sandboxes/{name}")


def frozen(vm, check):
    """A spare that hangs does not hang the fork for ever: it is given up, a fresh one takes its place."""
    check(full(vm), "the pool is full")
    for pid in idle_spares(vm):
        os.kill(pid, signal.SIGSTOP)
    before = d.ask(vm, "parent")[0]
    fork = vm.post("/v1/sandboxes/parent/fork", {"names": ["thawed"]})
    check(pooled(fork) == 0, "a fork over a spare that hangs gets a fresh VMM")
    continues(vm, check, "thawed", before)
    for pid in idle_spares(vm):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)
    vm.delete("/v1/sandboxes/thawed")


def restores(vm, check):
    vm.post("/v1/sandboxes/parent/snapshot", {"tag": "kept"})
    check(full(vm), "the pool is full")
    timing = vm.post("/v1/snapshots/kept/restore", {"name": "again"})["sandboxes"][0]["timing"]
    check(timing["pooled"], "a restore takes a spare", str(timing))
    continues(vm, check, "again", 1)
    check(full(vm), "and it is replaced")
    logs = [name for name in os.listdir(vm.run) if name.startswith("spare-")]
    check(len(logs) == SPARES, "a log for each spare, no more", str(logs))


def other_shape(vm, check):
    before = idle_spares(vm)
    vm.post("/v1/sandboxes", {"name": "two", "cpus": 2, "memory_bytes": 192 << 20})
    check(d.wait_until(lambda: not set(before) & set(idle_spares(vm)), 20) and full(vm),
          "spares of another shape make way")
    smp = {line[line.index("-smp") + 1] for line in map(command_line, idle_spares(vm))}
    check(smp == {"2"}, "the new ones have two CPUs", str(smp))
    fork = vm.post("/v1/sandboxes/two/fork", {"names": ["two-1"]})
    check(pooled(fork) == 1 and vm.exec("two-1", "nproc").strip() == "2", "and a child of two CPUs runs in one")


def ends(vm, check):
    check(full(vm), "spares wait")
    vm.kill()
    check(d.wait_until(lambda: not d.processes_of(vm.top), 10), "no spare outlives a daemon that is killed",
          str(d.processes_of(vm.top)))
    vm.up()
    vm.post("/v1/snapshots/kept/restore", {"name": "last"})
    check(full(vm), "spares wait once more")  # finish() finds those that outlive the daemon's stop


def setting(dirs, check):
    vm = d.Daemon(*dirs, {"RAMET_POOL": "many"})
    try:
        done = vm.ramet("up")
        check(done.returncode == 2 and "RAMET_POOL" in done.stderr, "a wrong RAMET_POOL is refused", done.stderr)
        vm.env["RAMET_POOL"] = "0"
        vm.up()
        vm.import_guest()
        vm.boot("only")
        fork = vm.post("/v1/sandboxes/only/fork", {"count": 2})
        check(pooled(fork) == 0 and not idle_spares(vm) and vm.get("/v1/status")["spares"] == 0,
              "RAMET_POOL=0: none is ever kept")
    finally:
        vm.finish(check)


def main():
    dirs, check = d.arguments(), d.Checks()
    with d.running(check, *dirs, {"RAMET_POOL": str(SPARES)}) as vm:
        vm.import_guest()
        children = exhausted(vm, check)
        nested(vm, check, children[0])
        killed(vm, check)
        frozen(vm, check)
        restores(vm, check)
        other_shape(vm, check)
        ends(vm, check)
        setting(dirs, check)
    return check.end()


if __name__ == "__main__":
    sys.exit(main())
