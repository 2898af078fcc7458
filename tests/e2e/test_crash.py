#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Goal: the daemon may be killed at any instant of forks and snapshots: it starts again without help, every snapshot
it acknowledged is there unchanged and restores, nothing half-made shows, and the space comes back.

usage: test_crash.py BIN_DIR GUEST_DIR [--rounds N] [--seed N]
"""
import argparse
import hashlib
import http.client
import os
import random
import sys
import threading
import time

import daemon as d

KEEP = 3  # acknowledged snapshots that live on into the next rounds, beside the base


def hashes(vm, snapshot):
    """Of memory, state and a sixteenth of the disk, through the mount."""
    disk = hashlib.sha256()
    with open(vm.image(snapshot, "disk0"), "rb", buffering=0) as file:
        size = os.fstat(file.fileno()).st_size
        for offset in range(0, size, 4 << 20):
            disk.update(os.pread(file.fileno(), 256 << 10, offset))
    return d.sha256(vm.image(snapshot, "memory")), d.sha256(vm.image(snapshot, "state")), disk.hexdigest()


class Round:
    """Client threads that fork, snapshot and look until the daemon dies under them."""

    def __init__(self, vm, number, dice):
        self.vm, self.number, self.dice = vm, number, random.Random(dice.random())
        self.acked, self.expected, self.removed, self.errors = {}, set(), set(), []
        self.dying = threading.Event()

    def guard(self, work):
        try:
            while not self.dying.is_set():
                work()
        except (OSError, http.client.HTTPException, ValueError) as error:
            if not self.dying.is_set():
                self.errors.append(repr(error))
        except d.ApiError as error:
            # A VM may end before the dying daemon's last answer leaves.
            if not self.dying.is_set():
                self.errors.append(str(error))

    def acknowledged(self, snapshot):
        self.acked[snapshot["id"]] = None
        self.acked[snapshot["id"]] = hashes(self.vm, snapshot["id"])

    def snapshots(self):
        self.acknowledged(self.vm.post(f"/v1/sandboxes/r{self.number}-0/snapshot")["snapshot"])

    def forks(self):
        durable = self.dice.random() < 0.6
        answer = self.vm.post(f"/v1/sandboxes/r{self.number}-1/fork",
                              {"count": 2, "wait_durable": durable, "wait_answer": False})
        children = [child["sandbox"]["id"] for child in answer["children"]]
        if durable:
            self.expected |= set(children)
            self.acknowledged(answer["snapshot"])
        for child in children:
            self.expected.discard(child)
            self.vm.delete(f"/v1/sandboxes/{child}")
            self.removed.add(child)

    def looks(self):
        self.vm.snapshots()
        self.vm.sandboxes()
        time.sleep(0.05)

    def run(self, delay):
        for i in range(2):
            name = f"r{self.number}-{i}"
            answer = self.vm.post("/v1/snapshots/base/restore", {"name": name})
            self.expected.add(answer["sandboxes"][0]["sandbox"]["id"])
        threads = [threading.Thread(target=self.guard, args=(work,)) for work in
                   (self.snapshots, self.forks, self.looks)]
        for thread in threads:
            thread.start()
        time.sleep(delay)
        self.dying.set()
        self.vm.kill()
        for thread in threads:
            thread.join(60)
        return not any(thread.is_alive() for thread in threads)


def verify(vm, check, acked, this, label):
    listed = {snapshot["id"]: snapshot for snapshot in vm.snapshots()}
    check(all(s["durable"] and not s["reason"] for s in listed.values()), f"{label}: every listed snapshot is durable")
    missing = [snapshot for snapshot in acked if snapshot not in listed]
    check(not missing, f"{label}: every acknowledged snapshot exists", str(missing))
    changed = []
    for snapshot, known in acked.items():
        if snapshot in listed:
            now = hashes(vm, snapshot)
            if known is not None and known != now:
                changed.append((snapshot, [n for n, a, b in zip(("memory", "state", "disk0"), known, now) if a != b]))
            acked[snapshot] = now
    check(not changed, f"{label}: {len(acked)} acknowledged snapshots are unchanged", str(changed))
    boxes = {box["id"]: box for box in vm.sandboxes()}
    check(this.expected <= set(boxes), f"{label}: sandboxes that ran are listed", str(this.expected - set(boxes)))
    check(not this.removed & set(boxes), f"{label}: no removed sandbox comes back", str(this.removed & set(boxes)))
    check(all(box["state"] == "lost" and box["pid"] == 0 for box in boxes.values()), f"{label}: they are lost",
          str([(box["name"], box["state"]) for box in boxes.values()]))
    bad = [(box["name"], box["last_snapshot"]) for box in boxes.values() if box["last_snapshot"] not in listed]
    check(not bad, f"{label}: each names a snapshot to restore from", str(bad))
    for box in boxes:
        vm.delete(f"/v1/sandboxes/{box}")


def restore(vm, check, snapshot, label):
    vm.post(f"/v1/snapshots/{snapshot}/restore", {"name": "probe"})
    first, digest, _ = d.ask(vm, "probe")
    check(digest == d.known_digest() and d.wait_until(lambda: d.count_of(vm, "probe") > first, 20),
          f"{label}: an acknowledged snapshot restores and counts on")
    vm.delete("/v1/sandboxes/probe")


def thin_out(vm, base, acked, dice):
    """Removes all but the base, the template and a few, so that removal is part of what crashes meet."""
    kept = set(dice.sample(sorted(set(acked) - {base}), min(KEEP, len(acked) - 1))) | {base}
    for snapshot in vm.snapshots():
        if snapshot["id"] not in kept and "debian" not in snapshot["tags"]:
            vm.delete(f"/v1/snapshots/{snapshot['id']}")
            acked.pop(snapshot["id"], None)


def main():
    dirs = d.arguments()
    parser = argparse.ArgumentParser()
    parser.add_argument("dirs", nargs=2)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    options = parser.parse_args()
    print(f"     seed {options.seed}")
    dice, check = random.Random(options.seed), d.Checks()
    with d.running(check, *dirs) as vm:
        vm.import_guest()
        vm.boot("seed")
        d.start_counter(vm, "seed")
        base = vm.post("/v1/sandboxes/seed/snapshot", {"tag": "base"})["snapshot"]["id"]
        vm.delete("/v1/sandboxes/seed")
        acked = {base: hashes(vm, base)}
        total = 0
        for number in range(options.rounds):
            label = f"round {number}"
            this = Round(vm, number, dice)
            check(this.run(dice.uniform(0.02, 2.0)), f"{label}: no client hangs when the daemon dies")
            check(not this.errors, f"{label}: no call fails before the kill", str(this.errors))
            begun = time.monotonic()
            done = vm.ramet("up", "--json")
            if not check(done.returncode == 0, f"{label}: ramet up works again", done.stderr):
                break
            took = time.monotonic() - begun
            vm.pid = vm.get("/v1/status")["pid"]
            left = d.wait_until(lambda: d.processes_of(vm.top) == [vm.pid], 2)
            check(left, f"{label}: no process of before runs", str(d.processes_of(vm.top)))
            total += len(this.acked)
            acked |= this.acked
            verify(vm, check, acked, this, f"{label} (up in {took:.1f} s)")
            if number % 5 == 4 or number == options.rounds - 1:
                restore(vm, check, dice.choice(sorted(acked)), label)
            if number % 4 == 3:
                vm.post("/v1/store/gc")
                check(vm.post("/v1/store/fsck")["problems"] == 0, f"{label}: fsck is clean after gc")
            thin_out(vm, base, acked, dice)
        print(f"     {total} snapshots were acknowledged in {options.rounds} rounds")
        before = vm.stat()["stored_bytes"]
        for box in vm.sandboxes():
            vm.delete(f"/v1/sandboxes/{box['id']}")
        for snapshot in vm.snapshots():
            vm.delete(f"/v1/snapshots/{snapshot['id']}")
        freed = vm.post("/v1/store/gc")
        report = vm.post("/v1/store/fsck")
        check(report["problems"] == 0, "fsck is clean after removing everything", str(report))
        after = vm.stat()["stored_bytes"]
        check(after < before / 10, "the space came back", f"{before} then {after}; {freed}")
    return check.end()


if __name__ == "__main__":
    sys.exit(main())
