#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Goal: children of a running guest continue from the instant of the fork, memory and disk, and diverge; a snapshot
is the guest's memory byte for byte, also after the daemon's restart; two boots share their pages in the store.

usage: test_fork.py BIN_DIR GUEST_DIR
"""
import hashlib
import os
import sys
import time

import daemon as d


def disk_count(vm, sandbox):
    return int(vm.exec(sandbox, "cat", "/root/count"))


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
    for name in names:
        begun = time.time()
        guest = float(vm.exec(name, "date", "+%s.%N"))
        check(begun - 3 < guest < time.time() + 3, f"the clock of {name} is right", f"off by {guest - begun:.1f} s")


def nested(vm, check):
    count = d.ask(vm, "c-1")[0]
    vm.post("/v1/sandboxes/c-1/fork", {"names": ["grand"]})
    grand = d.ask(vm, "grand")
    check(grand[0] >= count and grand[1] == d.known_digest("state of c-1"), "a child's child continues from the child")
    check(vm.exec("grand", "cat", "/root/note") == "c-1\n", "and has the child's disk")
    vm.delete("/v1/sandboxes/parent")
    counts = {name: d.ask(vm, name)[0] for name in ("c-1", "c-2", "grand")}
    time.sleep(0.3)
    check(all(d.ask(vm, name)[0] > count for name, count in counts.items()), "children count on without their parent")
    check("parent" not in [sandbox["name"] for sandbox in vm.sandboxes()], "the parent is gone")
    vm.delete("/v1/sandboxes/c-1")
    check(d.ask(vm, "grand")[0] > counts["grand"], "the grandchild counts on without the child")
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
    time.sleep(0.3)
    check(d.ask(vm, "again")[0] > restored, "the restored guest counts on", f"{count}, {restored}")
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
    vm = d.Daemon(*d.arguments())
    try:
        vm.up()
        vm.import_guest()
        # First of all, so that no other snapshot has the kernel's pages in the store yet.
        dedup(vm, check)
        names = fork_children(vm, check)
        diverge(vm, check, names)
        identities(vm, check, names)
        nested(vm, check)
        on_mount = cmp_memory(vm, check, "grand", "kept")
        cmp_memory(vm, check, "grand", "kept-2")
        restart(vm, check, on_mount)
    except Exception as error:  # a failed step ends the test, but never leaves a VM behind
        check(False, "no step fails", repr(error))
        print(vm.log()[-3000:])
    finally:
        vm.finish(check)
    return check.end()


if __name__ == "__main__":
    sys.exit(main())
