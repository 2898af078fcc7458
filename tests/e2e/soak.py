#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Goal: guests that are forked, snapshotted, restored, rolled back, promoted, paused, killed and removed at random, with a daemon that is
killed and restarted, hold what a model says in memory and on disk; afterwards no process, mount, descriptor or directory
is left, and the store has given its bytes back.

usage: soak.py BIN_DIR GUEST_DIR [--seconds N] [--boxes N] [--seed N]

The seed replays what is drawn, not the machine's timing. tests/soak is the part with hundreds of branches: two cores run
some ten Linux guests. Guests have minutes to answer: a machine that is busy with other things too fails nothing here.

Memory is compared between two moments at which the same things are there, each after a time of work that filled the
caches: what the daemon has allocated, and what of it is resident, both without the caches, whose sizes it tells.
"""
import argparse
import collections
import contextlib
import copy
import hashlib
import json
import os
import random
import re
import signal
import time

import daemon as d

STATE_PAGES, FILES = 512, 6
SNAPSHOTS = 6  # beside the template
# Of memory that was let go the heap keeps at most 16 MiB from the kernel (api/heap.h).
DESCRIPTORS_GROWN, ALLOCATED_GROWN, RESIDENT_GROWN = 8, 4 << 20, (16 + 4) << 20
PATIENCE_MS = 300000  # for a guest to answer

# A guest program with known state in memory. "set PAGE TEXT" writes there and counts; it answers with its count and the
# digest of its state.
KEEPER = r'''
import hashlib, os, socket
state, count = bytearray(%d * 4096), 0
try: os.unlink("/root/keeper.sock")
except OSError: pass
server = socket.socket(socket.AF_UNIX); server.bind("/root/keeper.sock"); server.listen(8)
while True:
    link = server.accept()[0]
    words = link.recv(4096).decode().split(" ")
    if words[0] == "set":
        at, text, count = int(words[1]) * 4096, words[2].encode(), count + 1
        state[at:at + len(text)] = text
    link.sendall(b"%%d %%s" %% (count, hashlib.sha256(state).hexdigest().encode()))
    link.close()
''' % STATE_PAGES
# In one go: asks the keeper, writes a file durably if one is given, and reads all files off the disk.
ASK = r'''
import json, os, socket, sys
words, name, text = sys.argv[1:4]
link = socket.socket(socket.AF_UNIX); link.connect("/root/keeper.sock"); link.sendall(words.encode())
count, digest = link.makefile().read().split(" ")
if name:
    with open("/root/files/" + name, "w") as file: file.write(text); file.flush(); os.fsync(file.fileno())
else:
    open("/proc/sys/vm/drop_caches", "w").write("3")
files = {name: open("/root/files/" + name).read() for name in sorted(os.listdir("/root/files"))}
print(json.dumps([int(count), digest, files]))
'''


class Model:
    """What a guest should hold."""

    def __init__(self):
        self.count, self.pages, self.files = 0, {}, {}

    def answer(self):
        state = bytearray(STATE_PAGES * 4096)
        for page, text in self.pages.items():
            state[page * 4096:page * 4096 + len(text)] = text.encode()
        return [self.count, hashlib.sha256(state).hexdigest(), self.files]


Usage = collections.namedtuple("Usage", "descriptors allocated resident caches")


def usage(vm):
    """What the daemon has: descriptors; bytes allocated and resident, without those of the caches, and those."""
    with open(f"/proc/{vm.pid}/statm", encoding="utf-8") as file:
        _, resident, files = (int(word) * os.sysconf("SC_PAGE_SIZE") for word in file.read().split()[:3])
    text = vm.raw("GET", "/v1/metrics").decode()
    part = {name: int(value) for name, value in re.findall(r'ramet_memory_bytes{part="(\w+)"} (\d+)', text)}
    caches = part["frames"] + part["index"]
    return Usage(len(os.listdir(f"/proc/{vm.pid}/fd")), part["allocated"] - caches, resident - files - caches, caches)


def settled_usage(vm):
    """Once the spares have come to their number again and the heap was looked after, which both take seconds."""
    last = usage(vm)
    for _ in range(20):
        time.sleep(3)
        now = usage(vm)
        if now.descriptors == last.descriptors and abs(now.resident - last.resident) < 1 << 20:
            break
        last = now
    return now


class PatientDaemon(d.Daemon):
    """One whose calls have PATIENCE_MS."""

    def raw(self, method, path, body=None, headers=None, timeout=PATIENCE_MS / 1000 + 60):
        return super().raw(method, path, body, headers, timeout)

    def api(self, method, path, body=None, timeout=PATIENCE_MS / 1000 + 60):
        return super().api(method, path, body, timeout)

    def post(self, path, body=None, timeout=PATIENCE_MS / 1000 + 60):
        waits = path == "/v1/sandboxes" or path.rsplit("/", 1)[1] in ("fork", "restore", "rollback")
        return super().post(path, (body or {}) | {"wait_ms": PATIENCE_MS} if waits else body, timeout)

    def exec(self, sandbox, *argv, stdin=None, timeout_ms=PATIENCE_MS):
        return super().exec(sandbox, *argv, stdin=stdin, timeout_ms=timeout_ms)


class Soak:
    def __init__(self, vm, check, dice, boxes_max):
        self.vm, self.check, self.dice, self.boxes_max = vm, check, dice, boxes_max
        self.boxes, self.snapshots = {}, {}  # models, by name and by id
        self.parents = {}  # names, of those whose parent is there
        self.names, self.done = 0, collections.Counter()

    def name(self):
        self.names += 1
        return f"s-{self.names}"

    def ask(self, name, words="get", file="", text=""):
        return json.loads(self.vm.exec(name, "python3", "-c", ASK, words, file, text))

    def verify(self, name):
        found = self.ask(name)
        if found != self.boxes[name].answer():
            self.check(False, f"{name} holds what it should", f"{found}, not {self.boxes[name].answer()}")

    def begin(self):
        name = self.name()
        self.vm.boot(name, 128)
        self.vm.exec(name, "sh", "-c", "mkdir /root/files; cat > /root/keeper.py; sync", stdin=KEEPER)
        self.vm.exec(name, "sh", "-c", "setsid nohup python3 /root/keeper.py >/dev/null 2>&1 </dev/null & exit 0")
        d.wait_until(lambda: self.vm.exec(name, "sh", "-c", "ls /root/keeper.sock || true"), PATIENCE_MS / 1000)
        self.boxes[name] = Model()
        self.verify(name)

    # Steps. Each is drawn with the weight in its name's line of WEIGHTS.

    def change(self, box):
        model, text = self.boxes[box], f"{self.dice.getrandbits(64):x}"
        page, file = self.dice.randrange(STATE_PAGES), f"file-{self.dice.randrange(FILES)}"
        model.count += 1
        model.pages[page] = model.files[file] = text.ljust(16, "-")
        found = self.ask(box, f"set {page} {model.pages[page]}", file, model.files[file])
        if found != model.answer():
            self.check(False, f"{box} holds what was written", f"{found}, not {model.answer()}")

    def look(self, box):
        self.verify(box)

    def fork(self, box):
        count = min(self.dice.randint(1, 3), self.boxes_max - len(self.boxes))
        if count < 1:
            return self.remove(box)
        names = [self.name() for _ in range(count)]
        durable = self.dice.random() < 0.5
        answer = self.vm.post(f"/v1/sandboxes/{box}/fork", {"names": names, "wait_durable": durable})
        for name in names:
            self.boxes[name], self.parents[name] = copy.deepcopy(self.boxes[box]), box
        self.snapshots[answer["snapshot"]["id"]] = copy.deepcopy(self.boxes[box])
        self.verify(self.dice.choice(names))

    def snapshot(self, box):
        answer = self.vm.post(f"/v1/sandboxes/{box}/snapshot")
        self.snapshots[answer["snapshot"]["id"]] = copy.deepcopy(self.boxes[box])

    def restore(self, _):
        if not self.snapshots or len(self.boxes) >= self.boxes_max:
            return
        snapshot, name = self.dice.choice(sorted(self.snapshots)), self.name()
        self.vm.post(f"/v1/snapshots/{snapshot}/restore", {"name": name})
        self.boxes[name] = copy.deepcopy(self.snapshots[snapshot])
        self.verify(name)

    def rollback(self, box):
        if self.snapshots:
            snapshot = self.dice.choice(sorted(self.snapshots))
            self.vm.post(f"/v1/sandboxes/{box}/rollback", {"snapshot": snapshot})
            self.boxes[box] = copy.deepcopy(self.snapshots[snapshot])
            self.verify(box)

    def promote(self, _):
        if not self.parents:
            return
        box = self.dice.choice(sorted(self.parents))
        place = self.parents[box]
        self.vm.post(f"/v1/sandboxes/{box}/promote")
        self.boxes[place] = self.boxes.pop(box)
        del self.parents[box]  # that of the place stays
        self.parents = {child: place if parent == box else parent for child, parent in self.parents.items()}
        self.verify(place)
        self.verify_tree()

    def verify_tree(self):
        listed = self.vm.sandboxes()
        names = {box["id"]: box["name"] for box in listed}
        found = {box["name"]: names[box["parent"]] for box in listed if box["parent"] in names}
        if found != self.parents or set(names.values()) != set(self.boxes):
            self.check(False, "the tree is as it should be", f"{found}, not {self.parents}; {sorted(names.values())}")

    def pause(self, box):
        self.vm.post(f"/v1/sandboxes/{box}/pause")
        if self.dice.random() < 0.5:
            self.snapshot(box)
        self.vm.post(f"/v1/sandboxes/{box}/resume")
        self.verify(box)

    def remove(self, box):
        self.vm.delete(f"/v1/sandboxes/{box}")
        del self.boxes[box]
        self.parents = {child: parent for child, parent in self.parents.items() if box not in (child, parent)}

    def forget(self, _):
        """Removes snapshots; one that a sandbox lies over is refused."""
        while len(self.snapshots) > SNAPSHOTS:
            removed = 0
            for snapshot in self.dice.sample(sorted(self.snapshots), 2):
                try:
                    self.vm.delete(f"/v1/snapshots/{snapshot}")
                    del self.snapshots[snapshot]
                    removed += 1
                except d.ApiError as error:
                    if error.code != "conflict":
                        raise
            if not removed:
                return

    def collect(self, _):
        self.vm.post("/v1/store/gc")

    def kill_vmm(self, box):
        os.kill(self.vm.get(f"/v1/sandboxes/{box}")["pid"], signal.SIGKILL)
        stopped = d.wait_until(lambda: self.vm.get(f"/v1/sandboxes/{box}")["state"] == "stopped", 60)
        if not stopped:
            self.check(False, f"{box} is stopped when its QEMU was killed")
        if self.snapshots and self.dice.random() < 0.5:
            self.rollback(box)
        else:
            self.remove(box)

    def kill_daemon(self, _):
        """Snapshots that were durable are there, others may be; nothing of before runs; then it goes on from those."""
        durable = {snapshot["id"] for snapshot in self.vm.snapshots() if snapshot["durable"]}
        self.vm.kill()
        self.restart(durable & set(self.snapshots))

    def stop_daemon(self, _):
        self.vm.down()
        self.restart(set(self.snapshots))

    def restart(self, durable):
        self.vm.up()
        if not d.wait_until(lambda: d.processes_of(self.vm.top) == [self.vm.pid], 60):
            self.check(False, "no process of before runs", str(d.processes_of(self.vm.top)))
        listed = {snapshot["id"] for snapshot in self.vm.snapshots() if "debian" not in snapshot["tags"]}
        if not durable <= listed <= set(self.snapshots):
            self.check(False, "the durable snapshots are there, and no other", f"{durable} <= {listed}")
        self.snapshots = {snapshot: self.snapshots[snapshot] for snapshot in listed}
        lost = {box["name"]: box["state"] for box in self.vm.sandboxes()}
        if set(lost) != set(self.boxes) or set(lost.values()) - {"lost"}:
            self.check(False, "all sandboxes are lost", f"{lost}, not {sorted(self.boxes)}")
        for box in sorted(self.boxes):
            self.remove(box)
        for _ in range(3):
            self.restore(None)

    WEIGHTS = {change: 30, look: 15, fork: 12, snapshot: 8, restore: 8, rollback: 6, promote: 4, pause: 4, remove: 5,
               forget: 6, collect: 2,
               kill_vmm: 3, kill_daemon: 2, stop_daemon: 1}

    def step(self):
        if not self.boxes:
            self.restore(None)
        if not self.boxes:
            self.begin()
        step = self.dice.choices(list(self.WEIGHTS), self.WEIGHTS.values())[0]
        self.done[step.__name__] += 1
        step(self, self.dice.choice(sorted(self.boxes)))

    def empty(self):
        for box in sorted(self.boxes):
            self.verify(box)
        for snapshot in sorted(self.snapshots):
            while len(self.boxes) >= self.boxes_max:
                self.remove(min(self.boxes))
            name = self.name()
            self.vm.post(f"/v1/snapshots/{snapshot}/restore", {"name": name})
            self.boxes[name] = self.snapshots[snapshot]
            self.verify(name)
        for box in sorted(self.boxes):
            self.remove(box)
        for snapshot in self.vm.snapshots():
            if "debian" not in snapshot["tags"]:
                self.vm.delete(f"/v1/snapshots/{snapshot['id']}")
        self.snapshots.clear()
        self.vm.post("/v1/store/gc")


def live(vm, check, soak, seconds, kills):
    """Random steps, then everything is checked and removed."""
    end, steps = time.monotonic() + seconds, 0
    if not kills:
        soak.WEIGHTS = {step: weight for step, weight in Soak.WEIGHTS.items() if "daemon" not in step.__name__}
    while time.monotonic() < end and not check.failed:
        soak.step()
        steps += 1
    if kills and not check.failed:
        soak.kill_daemon(None)
    print(f"     {steps} steps: " + ", ".join(f"{name} {count}" for name, count in soak.done.most_common()))
    soak.done.clear()
    check(not check.failed, "every guest holds what the model says, at every step")
    soak.empty()
    check(not check.failed, "so do all that run at the end, and all stored ones")


def run(vm, check, options):
    soak = Soak(vm, check, random.Random(options.seed), options.boxes)
    vm.up()
    vm.import_guest()
    vm.post("/v1/store/gc")
    before = vm.stat()
    # A daemon that is killed shows no leak: it is measured after a time without kills, and after another.
    live(vm, check, soak, options.seconds / 2, True)
    live(vm, check, soak, options.seconds / 4, False)
    first = settled_usage(vm)
    live(vm, check, soak, options.seconds / 4, False)
    last = settled_usage(vm)
    after, stored = vm.stat(), before["stored_bytes"]
    left = after["stored_bytes"]
    print(f"     the daemon's descriptors {first.descriptors}, then {last.descriptors}; without caches of "
          f"{first.caches >> 20} MiB, then {last.caches >> 20}, KiB allocated {first.allocated >> 10}, then "
          f"{last.allocated >> 10}, resident {first.resident >> 10}, then {last.resident >> 10}; "
          f"stored bytes {stored}, then {left}; chunks {before['chunks']}, then {after['chunks']}")
    # What is left beyond `before`, with as many chunks: blocks of 4 KiB at the edges of the holes in the packs.
    check(left <= stored * 1.05 + (1 << 20), f"stored bytes are back at {stored}", f"{left}")
    check(vm.post("/v1/store/fsck")["problems"] == 0, "fsck finds nothing")
    branches = os.listdir(f"{vm.store}/branches")
    check(not branches, "no branch's directory is left", str(branches))
    for what, grown in (("descriptors", DESCRIPTORS_GROWN), ("allocated", ALLOCATED_GROWN), ("resident", RESIDENT_GROWN)):
        one, other = getattr(first, what), getattr(last, what)
        check(other <= one + grown, f"no leak: {what}", f"{one}, then {other}")


def main():
    vm, check = PatientDaemon(*d.arguments(), env={"RAMET_POOL": "2"}), d.Checks()
    parser = argparse.ArgumentParser()
    parser.add_argument("dirs", nargs=2)
    parser.add_argument("--seconds", type=int, default=120)
    parser.add_argument("--boxes", type=int, default=8)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().getrandbits(32))
    options = parser.parse_args()
    print(f"     --seed {options.seed}", flush=True)
    try:
        run(vm, check, options)
    except Exception as error:  # a failed step ends the test, but never leaves a VM behind
        check(False, "no step fails", repr(error))
        with contextlib.suppress(OSError):
            print(vm.log()[-3000:])
    finally:
        vm.finish(check)
    return check.end()


if __name__ == "__main__":
    raise SystemExit(main())
