#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Goal: the first restore of a snapshot records its working set, the next one has those pages and few others read,
the guest continues alike either way, and the record can be turned off and goes with its snapshot.

usage: test_warmup.py BIN_DIR GUEST_DIR
"""
import subprocess
import sys

import daemon as d


def shown(vm, ref="work"):
    return vm.get(f"/v1/snapshots/{ref}")


def restore(vm, name, snapshot="work"):
    """Restores; the guest's count and its known state."""
    vm.post("/v1/sandboxes", {"snapshot": snapshot, "name": name})
    count, digest, _ = d.ask(vm, name)
    return count, digest


def cached_pages(vm, snapshot):
    """Pages of the memory file that the kernel holds."""
    done = subprocess.run(["fincore", "-n", "-o", "PAGES", vm.image(snapshot, "memory")], capture_output=True, text=True,
                          check=True)
    return int(done.stdout.split()[0])


def cold(vm, working_set):
    """A new daemon, and a mount of which the kernel holds nothing."""
    vm.down()
    vm.env["RAMET_WORKING_SET"] = working_set
    vm.up()


def records(vm, check):
    cold(vm, "off")
    count, digest = restore(vm, "plain")
    check(digest == d.known_digest(), "without working sets a restored guest continues")
    check(shown(vm)["working_set_pages"] == 0, "and nothing is recorded")
    vm.delete("/v1/sandboxes/plain")
    cold(vm, "on")
    again, digest = restore(vm, "first")
    check(digest == d.known_digest() and again > 0, "the first restore continues", f"{count} {again}")
    info = shown(vm)
    check(100 < info["working_set_pages"] < 16384 and info["working_set_ms"] > info["created_ms"],
          "it has recorded a working set", str(info))
    check(info["working_set_bytes"] == info["working_set_pages"] * 4096, "and shows its size")
    text = vm.ramet("show", "work").stdout
    check("working_set_pages" in text and "working_set_age" in text, "ramet show has it", text)
    vm.delete("/v1/sandboxes/first")
    return info


def prefetches(vm, check, info):
    vm.ramet("export", "work", "memory", f"{vm.top}/memory")
    expected = d.sha256(f"{vm.top}/memory")
    cold(vm, "on")
    vm.post("/v1/sandboxes", {"snapshot": "work", "name": "second"})
    held = cached_pages(vm, info["id"])
    check(held >= info["working_set_pages"] * 9 // 10, "the working set is in the page cache", f"{held} {info}")
    check(d.ask(vm, "second")[1] == d.known_digest(), "a guest whose pages were prefetched continues alike")
    check(d.sha256(vm.image(info["id"], "memory")) == expected, "what the kernel was given is what the snapshot holds")
    check(shown(vm)["working_set_ms"] == info["working_set_ms"], "and is not recorded again")
    vm.delete("/v1/sandboxes/second")
    names = [f"n{i}" for i in range(3)]
    for name in names:
        vm.post("/v1/sandboxes", {"snapshot": "work", "name": name})
    check(all(d.ask(vm, name)[1] == d.known_digest() for name in names), "several live on it side by side")
    fork = vm.post(f"/v1/sandboxes/{names[0]}/fork", {"count": 2, "wait_durable": True})
    check(shown(vm, fork["snapshot"]["id"])["working_set_pages"] == 0, "a fork's children record nothing")
    d.sha256(vm.image(fork["snapshot"]["id"], "memory"))
    held = cached_pages(vm, fork["snapshot"]["id"])
    check(restore(vm, "of-fork", fork["snapshot"]["id"])[1] == d.known_digest(), "a restore of a fork continues")
    left = cached_pages(vm, fork["snapshot"]["id"])  # of which the kernel may have reclaimed a few meanwhile
    check(left >= held * 9 // 10, "it does not empty the page cache of others", f"{held}, then {left}")
    check(shown(vm, fork["snapshot"]["id"])["working_set_pages"] == 0, "it records nothing beside others")
    for sandbox in vm.sandboxes():
        vm.delete(f"/v1/sandboxes/{sandbox['id']}")
    restore(vm, "alone", fork["snapshot"]["id"])
    check(shown(vm, fork["snapshot"]["id"])["working_set_pages"] > 100, "but it does alone")
    vm.delete("/v1/sandboxes/alone")


def ends(vm, check):
    vm.post("/v1/sandboxes", {"snapshot": "work", "name": "brief"})
    vm.delete("/v1/sandboxes/brief")
    fsck = vm.post("/v1/store/fsck")
    check(fsck["problems"] == 0, "the store is sound", str(fsck))
    vm.delete("/v1/snapshots/work")
    check.fails("a removed snapshot", "not_found", lambda: shown(vm), 404)
    bad = vm.run_program([f"{vm.bin}/rametd", "--socket", f"{vm.top}/other.sock"], RAMET_WORKING_SET="maybe")
    check(bad.returncode != 0 and "neither on nor off" in bad.stderr, "another value is refused", bad.stderr)


def main():
    bin_dir, guest_dir = d.arguments()
    check = d.Checks()
    with d.running(check, bin_dir, guest_dir) as vm:
        vm.import_guest()
        vm.boot("boot")
        d.start_counter(vm, "boot")
        vm.post("/v1/sandboxes/boot/snapshot", {"tag": "work"})
        vm.delete("/v1/sandboxes/boot")
        prefetches(vm, check, records(vm, check))
        ends(vm, check)
    return check.end()


if __name__ == "__main__":
    sys.exit(main())
