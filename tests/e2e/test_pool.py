#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Goal: a fork or restore takes VMMs that wait. Its guests continue like those of fresh ones and can be forked again;
where too few wait, the rest is started afresh; a spare that dies is replaced; none outlives the daemon. After two starts
of the same machine the spares have it made, and nobody can tell a VM that runs in such a one.

usage: test_pool.py BIN_DIR GUEST_DIR
"""
import contextlib
import os
import signal
import sys
import time

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


PLACEHOLDER = "/memfd:ramet-placeholder"


def areas(pid, name):
    """The mappings of a file in a process, as /proc/PID/smaps tells: (size, flags)."""
    found, inside = [], None
    with open(f"/proc/{pid}/smaps", encoding="utf-8") as file:
        for line in file:
            words = line.split()
            if "-" in words[0]:
                inside = words[5:] and words[5].startswith(name)
            elif inside and words[0] == "Size:":
                found.append([int(words[1])])
            elif inside and words[0] == "VmFlags:":
                found[-1].append(" ".join(sorted(words[1:])))
    return [tuple(area) for area in found]


def is_made(pid):
    with contextlib.suppress(OSError):
        return bool(areas(pid, PLACEHOLDER))
    return False


def all_made(vm, count=SPARES):
    return full(vm, count) and d.wait_until(
        lambda: vm.get("/v1/status")["spares_made"] == count and all(map(is_made, idle_spares(vm))), 20)


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


# What a guest sees of its machine: geometry and size of its disk, devices, memory, CPU, and the state of its ports.
MACHINE = r'''
import array, fcntl, glob, os, re
disk = os.open("/dev/vda", os.O_RDONLY)
geometry = array.array("B", bytes(16)); fcntl.ioctl(disk, 0x301, geometry)  # HDIO_GETGEO
size = array.array("Q", [0]); fcntl.ioctl(disk, 0x80081272, size)  # BLKGETSIZE64
print(list(geometry[:4]), size[0])
for name in sorted(glob.glob("/sys/bus/pci/devices/*/[vdcr]*[eds]") + glob.glob("/sys/block/vda/queue/*")):
    try: print(name, open(name).read().strip())
    except OSError as error: print(name, error.errno)
for word in ("MemTotal", "DirectMap"): print(re.findall(f"{word}.*", open("/proc/meminfo").read()))
print(re.findall("(?:model|flags|cache|bogomips).*", open("/proc/cpuinfo").read()))
print(open("/proc/iomem").read(), open("/proc/ioports").read(), os.listdir("/dev/virtio-ports"))
'''


def look(vm, name):
    return vm.exec(name, "python3", "-IS", "-c", MACHINE)


def generation(vm, name):
    """The VMGenID that QEMU wrote into the guest's memory; the kernel shows it nowhere, but says when it changed."""
    return vm.exec(name, "sh", "-c", "dmesg | grep -c 'virtual machine fork'").strip()


def made(vm, check, parent="parent", text=None):
    """Spares whose machine is made: the guest in one is the same as in a fresh VMM, to whoever looks."""
    check(all_made(vm), "after starts of one machine all spares have it made", str(vm.get("/v1/status")))
    waiting, before = idle_spares(vm), d.ask(vm, parent)[0]
    fork = vm.post(f"/v1/sandboxes/{parent}/fork", {"names": [f"m-{i}" for i in range(SPARES + 1)]})
    inside = {child["sandbox"]["name"]: child["sandbox"]["pid"] for child in fork["children"]}
    check(pooled(fork) == SPARES == len(set(inside.values()) & set(waiting)), "children run in them", str(fork))
    fresh = next(name for name, pid in inside.items() if pid not in waiting)
    check(not any(areas(pid, PLACEHOLDER) for pid in inside.values()), "no placeholder is mapped any more")
    mapped = {name: areas(pid, f"{vm.mount}/snapshots/{fork['snapshot']['id']}/memory") for name, pid in inside.items()}
    check(len(mapped[fresh]) == 1 and all(area == mapped[fresh] for area in mapped.values()),
          "all map the snapshot's memory, in the same way", str(mapped))
    disks = {name: [os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd")]
             for name, pid in inside.items()}
    check(all(links.count(f"{vm.mount}/branches/{name}/disk0") == 1 for name, links in disks.items()),
          "each has its own disk open", str(disks))
    machine = look(vm, fresh)
    for name in inside:
        continues(vm, check, name, before, text)
        check(look(vm, name) == machine, f"{name} sees the machine that {fresh} sees")
        vm.exec(name, "sh", "-c", f"echo {name} >/root/mine && sync")
    check(all(vm.exec(name, "cat", "/root/mine").strip() == name for name in inside), "each writes to its own disk")
    drawn = {vm.exec(name, "cat", "/proc/sys/kernel/random/uuid") for name in inside}
    check(len(drawn) == len(inside), "all draw different random bytes")
    forks = {name: generation(vm, name) for name in inside}
    check(len(set(forks.values())) == 1 and forks[fresh] != "0", "each kernel was told that it is a fork", str(forks))
    behind = {name: time.time() - float(vm.exec(name, "date", "+%s.%N")) for name in inside}
    check(all(-10 < seconds < 20 for seconds in behind.values()), "their clocks are right", str(behind))
    for name in inside:
        vm.delete(f"/v1/sandboxes/{name}")


def geometry(vm, check):
    """A partition table says what geometry a disk has, and a spare's machine is made for that: another table, another
    machine. Nothing else is in the first sector of the guest's disk."""
    ours = "import os; d = os.open('/dev/vda', os.O_WRONLY | os.O_SYNC); " \
           "os.pwrite(d, bytes([0x80, 1, 1, 0, 0x83, 14, 63, 10]) + (63).to_bytes(4, 'little') + " \
           "(20000).to_bytes(4, 'little') + bytes(48) + bytes([0x55, 0xaa]), 446)"
    check(all_made(vm), "the spares' machines are made")
    vm.exec("parent", "python3", "-IS", "-c", ours)
    seen = []
    for step, made_before in (("late", False), ("again", False), ("ahead", True)):
        check(not made_before or all_made(vm), f"{step}: the spares are there")
        fork = vm.post("/v1/sandboxes/parent/fork", {"names": [step]})
        seen.append(look(vm, step))
        check(seen[-1].startswith("[15, 63, "), f"{step}: the table says 15 heads of 63 sectors", seen[-1][:80])
        check(not made_before or pooled(fork) == 1, f"{step}: it runs in a spare")
        vm.delete(f"/v1/sandboxes/{step}")
    check(len(set(seen)) == 1, "made late or ahead, it is the same machine")


def other_memory(vm, check):
    """Spares made for one machine are no use for another, which starts all the same; when it starts again, they make
    way."""
    check(all_made(vm), "the spares' machines are made")
    vm.boot("large", 192)
    before = idle_spares(vm)
    fork = vm.post("/v1/sandboxes/large/fork", {"names": ["large-1"]})
    check(pooled(fork) == 0, "no spare made for less memory is taken", str(fork["children"]))
    check(vm.exec("large-1", "sh", "-c", "echo there").strip() == "there", "and the child runs")
    check(d.wait_until(lambda: not set(before) & set(idle_spares(vm)), 20) and all_made(vm), "they make way for others")
    check({area[0] for pid in idle_spares(vm) for area in areas(pid, PLACEHOLDER)} == {192 << 10}, "of that size")
    fork = vm.post("/v1/sandboxes/large/fork", {"names": ["large-2"]})
    check(pooled(fork) == 1 and vm.exec("large-2", "echo", "there").strip() == "there", "in which children run")
    for name in ("large", "large-1", "large-2"):
        vm.delete(f"/v1/sandboxes/{name}")


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


def no_library(dirs, check):
    """Without the library nothing can be mapped over a placeholder: spares wait without a machine, as good as ever."""
    with d.running(check, *dirs, {"RAMET_POOL": "2", "RAMET_CAPTURE": "copy"}) as vm:
        vm.import_guest()
        vm.boot("only")
        check(full(vm, 2), "spares wait")
        vm.post("/v1/sandboxes/only/fork", {"names": ["one"]})
        check(full(vm, 2) and vm.get("/v1/status")["spares_made"] == 0, "their machines are not made")
        fork = vm.post("/v1/sandboxes/only/fork", {"names": ["two"]})
        check(pooled(fork) == 1 and vm.exec("two", "echo", "there").strip() == "there", "children run in them")


def main():
    dirs, check = d.arguments(), d.Checks()
    with d.running(check, *dirs, {"RAMET_POOL": str(SPARES)}) as vm:
        vm.import_guest()
        children = exhausted(vm, check)
        nested(vm, check, children[0])
        made(vm, check)
        made(vm, check, "grand", "of the child")
        geometry(vm, check)
        other_memory(vm, check)
        killed(vm, check)
        frozen(vm, check)
        restores(vm, check)
        other_shape(vm, check)
        ends(vm, check)
        setting(dirs, check)
    no_library(dirs, check)
    return check.end()


if __name__ == "__main__":
    sys.exit(main())
