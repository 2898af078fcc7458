#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Goal: children of a running guest continue from the instant of the fork, memory and disk, and diverge; a snapshot
is the guest's memory byte for byte, also after the daemon's restart; two boots share their pages in the store.

usage: test_fork.py BIN_DIR GUEST_DIR
"""
import concurrent.futures
import hashlib
import os
import sys
import time

import daemon as d


def disk_count(vm, sandbox):
    return int(vm.exec(sandbox, "cat", "/root/count"))


def metered(vm, check, children):
    """The one fork so far shows in the metrics."""
    text = vm.raw("GET", "/v1/metrics").decode()
    seen = {name: float(value) for name, value in (line.rsplit(" ", 1) for line in text.splitlines() if line[0] != "#")}
    check(seen['ramet_operations_total{operation="fork"}'] == 1, "the fork is counted", text)
    check(seen['ramet_failures_total{operation="fork"}'] == 0, "as one that did not fail")
    check(seen['ramet_capture_seconds_count{step="pause"}'] == 3, "with two snapshots, three pauses are measured", text)
    check(0 < seen['ramet_call_seconds_sum{call="fork"}'] < 60, "and how long the call took")
    check(seen['ramet_child_seconds_count{step="answer"}'] == children, "each child's first answer is measured")
    pooled, spawned = (seen[f'ramet_restored_vms_total{{vmm="{how}"}}'] for how in ("pooled", "spawned"))
    check(pooled + spawned == children, "and where its VMM came from", f"{pooled} and {spawned}")
    check(seen['ramet_sandboxes{state="running"}'] == children + 1, "the sandboxes are counted")
    check(seen['ramet_store_bytes{part="packs"}'] > 1 << 20, "the packs' bytes are told")
    memory = {part: seen[f'ramet_memory_bytes{{part="{part}"}}'] for part in ("allocated", "free", "frames", "index")}
    if not os.environ.get("RAMET_SLOW_BUILD"):  # a sanitizer's allocator tells of nothing allocated
        check(memory["allocated"] > memory["frames"], "and what the daemon allocated", str(memory))
    check(memory["frames"] > 1 << 20 and memory["index"] > 1 << 16, "and the memory of its caches", str(memory))
    check(seen["ramet_commit_seconds_count"] + seen["ramet_commit_queue"] >= 3, "each snapshot is durable or waits")


def fork_children(vm, check):
    vm.boot("parent", 256)
    d.start_counter(vm, "parent")
    vm.exec("parent", "sh", "-c", "echo before > /root/note; sync")
    before, digest, _ = d.ask(vm, "parent")
    check(digest == d.known_digest(), "the parent's state is the known one")
    disk_before = disk_count(vm, "parent")
    names = ["c-1", "c-2", "c-3", "c-4"]
    answer = vm.post("/v1/sandboxes/parent/fork", {"names": names})
    check([child["sandbox"]["name"] for child in answer["children"]] == names, "fork makes four children")
    metered(vm, check, len(names))
    after = d.ask(vm, "parent")[0]
    check(after > before, "the parent counts on", f"{before} then {after}")
    for name in names:
        # The count that the disk held at the fork is at most what it was when the call returned plus what follows.
        count, digest, _ = d.ask(vm, name)
        check(count >= before, f"{name} counts on from the fork point", f"{count} < {before}")
        check(digest == d.known_digest(), f"{name} has the memory of the fork point")
        on_disk = disk_count(vm, name)
        check(on_disk >= max(disk_before, before - 1), f"{name} has the disk of the fork point", f"{on_disk}")
        check(vm.exec(name, "cat", "/root/note") == "before\n", f"{name} reads the parent's file")
    return names


def diverge(vm, check, names):
    everyone = ["parent", *names]
    for name in everyone:
        d.ask(vm, name, f"set state of {name}")
        vm.exec(name, "sh", "-c", f"echo {name} > /root/note; echo {name} > /root/only-{name}; sync;"
                                  "echo 3 > /proc/sys/vm/drop_caches")
    for name in everyone:
        _, digest, text = d.ask(vm, name)
        wanted = f"state of {name}"
        check(text.startswith(wanted.encode()) and digest == d.known_digest(wanted), f"{name} sees its own memory only",
              repr(text))
        check(vm.exec(name, "cat", "/root/note") == f"{name}\n", f"{name} reads its own disk")
        files = vm.exec(name, "sh", "-c", "ls /root | grep only-").split()
        check(files == [f"only-{name}"], f"{name} sees no file of another", str(files))


def identities(vm, check, names):
    script = "cat /proc/sys/kernel/random/uuid; head -c 16 /dev/urandom | od -An -tx1 | tr -d ' '"
    drawn = [vm.exec(name, "sh", "-c", script).split() for name in ["parent", *names]]
    for place, what in enumerate(("random/uuid", "/dev/urandom")):
        check(len({words[place] for words in drawn}) == len(drawn), f"everyone draws different bytes of {what}")


# One process, which does little: where guests are emulated each of a dozen costs the others their time.
TELL_CLOCK = '''
import time
while True:
    with open("/dev/console", "w") as console:
        console.write(f"clock {int(time.time())}\\n")
    time.sleep(0.5)
'''


def told_clock(vm, sandbox):
    """How far off the clock is that the guest tells on its console, in seconds."""
    with open(f"{vm.run}/{sandbox['id']}/console.log", encoding="utf-8", errors="replace") as file:
        told = [line.split() for line in file if line.startswith("clock ") and line.endswith("\n")]
    return abs(float(told[-1][1]) - time.time()) if told else 1e9


def clocks(vm, check):
    """The parent's clock is years off, so a child's is right only if it was set."""
    def off(name):
        begun, guest = time.time(), float(vm.exec(name, "date", "+%s.%N"))
        return max(begun - guest, guest - time.time(), 0)

    def fork(names, **more):
        return vm.post("/v1/sandboxes/parent/fork", {"names": names, **more})

    vm.exec("parent", "sh", "-c", f"setsid python3 -IS -c '{TELL_CLOCK}' >/dev/null 2>&1 </dev/null & date -s @1000000000")
    names = [f"t-{index}" for index in range(1, 5)]
    fork(names)
    with concurrent.futures.ThreadPoolExecutor(len(names)) as pool:
        first = list(pool.map(off, names))
    check(max(first) < 10, "the first command in each child sees a clock that is right", str(first))
    for name in names:
        vm.delete(f"/v1/sandboxes/{name}")
    check(off("parent") > 1e8, "the parent's clock is left alone")
    answer = fork(["t-5", "t-6"], wait_answer=False)
    for child in answer["children"]:
        check(d.wait_until(lambda child=child: told_clock(vm, child["sandbox"]) < 10, 60),
              "without a command and without a wait the clock is set soon")
    fork(["t-7", "t-8", "t-9"])
    for name in ("t-7", "t-8"):
        vm.post(f"/v1/sandboxes/{name}/pause")
    vm.delete("/v1/sandboxes/t-9")
    check.fails("no command runs in a paused child", "conflict", lambda: off("t-7"))
    time.sleep(11)  # longer than what is tolerated: the clock of a paused guest stands still
    vm.post("/v1/sandboxes/t-7/fork", {"names": ["t-10"]})
    check(off("t-10") < 10, "the clock of a child's child is right, forked before the child's was set")
    for name in ("t-7", "t-8"):
        vm.post(f"/v1/sandboxes/{name}/resume")
        check(off(name) < 10, f"{name}, paused at once, has its clock set when it runs again")
    for name in ["t-5", "t-6", "t-7", "t-8", "t-10"]:
        vm.delete(f"/v1/sandboxes/{name}")


def nested(vm, check):
    count = d.ask(vm, "c-1")[0]
    told = vm.ramet("fork", "c-1", "--name", "grand", "--timing")
    check(told.returncode == 0 and told.stdout.splitlines()[2].split()
          == ["NAME", "POOLED", "SPAWN", "LOAD", "START", "RUNNING", "ANSWERED"], "fork --timing tells a child's time too",
          told.stdout + told.stderr)
    grand = d.ask(vm, "grand")
    check(grand[0] >= count and grand[1] == d.known_digest("state of c-1"), "a child's child continues from the child")
    check(vm.exec("grand", "cat", "/root/note") == "c-1\n", "and has the child's disk")
    vm.delete("/v1/sandboxes/parent")
    counts = {name: d.ask(vm, name)[0] for name in ("c-1", "c-2", "grand")}
    check(all(d.wait_until(lambda name=name, count=count: d.count_of(vm, name) > count, 20)
              for name, count in counts.items()), "children count on without their parent")
    check("parent" not in [sandbox["name"] for sandbox in vm.sandboxes()], "the parent is gone")
    vm.delete("/v1/sandboxes/c-1")
    check(d.count_of(vm, "grand") > counts["grand"], "the grandchild counts on without the child")
    fsck = vm.exec("grand", "sh", "-c", "sync; dmesg | grep -ci 'ext4-fs error' || true").strip()
    check(fsck == "0", "the grandchild's file system has no error", fsck)


def guest_memory(pid, size, below):
    """The sha256 of a QEMU's guest RAM, read out of the process at its mapping of a memory file."""
    with open(f"/proc/{pid}/maps", encoding="utf-8") as file:
        for line in file:
            words = line.split()
            begin, end = (int(part, 16) for part in words[0].split("-"))
            if len(words) > 5 and words[5].startswith(below) and words[5].endswith("/memory") and end - begin == size:
                break
        else:
            return "no mapping"
    digest = hashlib.sha256()
    with open(f"/proc/{pid}/mem", "rb", buffering=0) as file:
        file.seek(begin)
        left = size
        while left:
            piece = file.read(min(left, 1 << 20))
            if not piece:
                return f"short by {left}"
            digest.update(piece)
            left -= len(piece)
    return digest.hexdigest()


def cmp_memory(vm, check, sandbox, tag):
    vm.post(f"/v1/sandboxes/{sandbox}/pause")
    about = vm.get(f"/v1/sandboxes/{sandbox}")
    check(about["state"] == "paused", f"{sandbox} is paused")
    taken = vm.post(f"/v1/sandboxes/{sandbox}/snapshot", {"tag": tag})["snapshot"]
    on_mount = d.sha256(vm.image(taken["id"], "memory"))
    target = f"{vm.top}/exported"
    done = vm.ramet("export", tag, "memory", target)
    check(done.returncode == 0, "export succeeds", done.stderr)
    check(os.path.getsize(target) == about["memory_bytes"], "the export has the memory's size")
    check(d.sha256(target) == on_mount, f"{tag}: memory on the mount equals the export")
    os.unlink(target)
    live = guest_memory(about["pid"], about["memory_bytes"], vm.top)
    check(live == on_mount, f"{tag}: memory on the mount equals the paused guest's pages", live)
    vm.post(f"/v1/sandboxes/{sandbox}/resume")
    return on_mount


def restart(vm, check, on_mount):
    count = d.ask(vm, "grand")[0]
    check(vm.down() == 0, "the daemon goes down")
    vm.up()
    check(d.sha256(vm.image("kept", "memory")) == on_mount, "after a restart the snapshot's memory has the same sha256")
    vm.post("/v1/snapshots/kept/restore", {"name": "again"})
    restored, digest, _ = d.ask(vm, "again")
    check(digest == d.known_digest("state of c-1"), "the restored guest has the memory of the snapshot")
    check(d.wait_until(lambda: d.count_of(vm, "again") > restored, 20), "the restored guest counts on", f"{count}, {restored}")
    vm.delete("/v1/sandboxes/again")


def dedup(vm, check):
    stored = []
    for name in ("boot-1", "boot-2"):
        vm.boot(name, 256)
        stored.append(vm.post(f"/v1/sandboxes/{name}/snapshot", {"tag": name})["snapshot"]["stored_bytes"])
        vm.delete(f"/v1/sandboxes/{name}")
    print(f"     stored_bytes of two boots: {stored}")
    check(stored[1] < 0.6 * stored[0], "the second boot's snapshot shares its pages with the first's", str(stored))
    stat = vm.stat()
    check(stat["logical_bytes"] > stat["unique_bytes"] > stat["stored_bytes"] > 0, "stat: logical > unique > stored",
          str(stat))
    check(vm.post("/v1/store/fsck")["problems"] == 0, "the store is sound")


def main():
    check = d.Checks()
    with d.running(check, *d.arguments()) as vm:
        vm.import_guest()
        # First of all, so that no other snapshot has the kernel's pages in the store yet.
        dedup(vm, check)
        names = fork_children(vm, check)
        diverge(vm, check, names)
        identities(vm, check, names)
        clocks(vm, check)
        nested(vm, check)
        on_mount = cmp_memory(vm, check, "grand", "kept")
        cmp_memory(vm, check, "grand", "kept-2")
        restart(vm, check, on_mount)
    return check.end()


if __name__ == "__main__":
    sys.exit(main())
