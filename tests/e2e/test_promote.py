#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Goal: a child of a fork takes its parent's name and place while its guest runs on and its files stay open; a crash at
any moment leaves the tree of before or that of after; what cannot be is refused and changes nothing.

usage: test_promote.py BIN_DIR GUEST_DIR
"""
import os
import random
import signal
import sys
import threading
import time

import daemon as d


def get(vm, name):
    return vm.get(f"/v1/sandboxes/{name}")


def promote(vm, name):
    return vm.post(f"/v1/sandboxes/{name}/promote")


def fork(vm, name, *children, **more):
    return vm.post(f"/v1/sandboxes/{name}/fork", {"names": list(children), "wait_durable": True} | more)


def tree(vm):
    """Names with ids and parents' ids."""
    return {box["name"]: (box["id"], box["parent"]) for box in vm.sandboxes()}


def note(vm, name, text):
    """Texts are of one length: each covers the one before."""
    assert len(text) == 6
    d.ask(vm, name, f"set {text}")
    vm.exec(name, "sh", "-c", f"echo {text} > /root/note; sync")


def holds(vm, check, name, text, what):
    """Memory and disk, the disk's caches dropped."""
    digest = d.ask(vm, name)[1]
    found = vm.exec(name, "sh", "-c", "echo 3 > /proc/sys/vm/drop_caches; cat /root/note").strip()
    check(digest == d.known_digest(text) and found == text, f"{what}: memory and disk are its own", f"{digest} {found}")


def winner(vm, check):
    """web has children a and b; a has one of its own, and wins."""
    note(vm, "web", "start.")
    snapshot = fork(vm, "web", "a", "b")["snapshot"]["id"]
    fork(vm, "a", "a-child")
    note(vm, "a", "winner")
    note(vm, "b", "loser.")
    before, pids = tree(vm), {name: get(vm, name)["pid"] for name in ("web", "a")}
    count = d.ask(vm, "a", "count")[0]
    with open(f"{vm.mount}/branches/a/disk0", "r+b", buffering=0) as disk:
        inode, page = os.fstat(disk.fileno()).st_ino, os.pread(disk.fileno(), 4096, 0)
        answer = promote(vm, "a")
        check(answer["name"] == "web" and answer["id"] == before["a"][0] and answer["parent"] == "",
              "it has its parent's name and parent, and its own id", str(answer))
        check(answer["pid"] == pids["a"] and answer["state"] == "running", "its VMM is the one it had")
        check(not os.path.exists(f"/proc/{pids['web']}"), "the parent's VMM has ended")
        check(os.pread(disk.fileno(), 4096, 0) == page, "a file of it that was open is readable")
        check(os.pwrite(disk.fileno(), page, 0) == 4096, "and writable")
        check(os.stat(f"{vm.mount}/branches/web/disk0").st_ino == inode, "and is what the new name leads to")
    wanted = {"web": (before["a"][0], ""), "b": (before["b"][0], before["a"][0]), "a-child": (before["a-child"][0], before["a"][0])}
    check(tree(vm) == wanted, "siblings and children are its children", str(tree(vm)))
    check(sorted(os.listdir(f"{vm.mount}/branches")) == sorted(wanted), "the mount shows the same names",
          str(os.listdir(f"{vm.mount}/branches")))
    check(not os.path.exists(f"{vm.mount}/branches/a"), "the old name is gone")
    check(sorted(os.listdir(f"{vm.store}/branches")) == sorted(one for one, _ in wanted.values()), "so are the parent's files")
    check(not os.path.exists(f"{vm.run}/{before['web'][0]}"), "and its run directory")
    check.fails("no call finds the old name", "not_found", lambda: get(vm, "a"), 404)
    check.fails("nor the parent's id", "not_found", lambda: get(vm, before["web"][0]), 404)
    holds(vm, check, "web", "winner", "promoted")
    check(d.ask(vm, "web", "count")[0] > count, "and its guest has run on")
    holds(vm, check, "b", "loser.", "its sibling")
    vm.post(f"/v1/snapshots/{snapshot}/restore", {"name": "past"})
    holds(vm, check, "past", "start.", "a snapshot of the parent that is gone")
    check(tree(vm)["past"][1] == "", "a restore has no parent")


def goes_on(vm, check):
    """What was promoted is a sandbox like any other; the name it had is free."""
    note(vm, "web", "later.")
    taken = vm.post("/v1/sandboxes/web/snapshot", {"tag": "later"})["snapshot"]
    check(taken["sandbox"] == get(vm, "web")["id"] and taken["sandbox_name"] == "web", "its snapshots carry the new name")
    fork(vm, "web", "a")
    holds(vm, check, "a", "later.", "a child of it, under the name that is free")
    note(vm, "web", "undone")
    vm.post("/v1/sandboxes/web/rollback", {"snapshot": "later"})
    holds(vm, check, "web", "later.", "rolled back")
    vm.post("/v1/sandboxes/a/pause")
    check(promote(vm, "a")["state"] == "paused", "a paused one stays paused")
    check.fails("its guest does not run", "conflict", lambda: vm.exec("web", "true"), words=["web", "paused"])
    vm.post("/v1/sandboxes/web/resume")
    holds(vm, check, "web", "later.", "paused, promoted, resumed")
    fork(vm, "web", "a")
    os.kill(get(vm, "web")["pid"], signal.SIGKILL)
    d.wait_until(lambda: get(vm, "web")["state"] == "stopped", 10)
    said = vm.ramet("promote", "a")
    check(said.returncode == 0 and said.stdout == "a is web now, which is removed\n", "'ramet promote' of a stopped one's child",
          said.stdout + said.stderr)
    holds(vm, check, "web", "later.", "whose parent had stopped")
    for name in ("b", "a-child"):
        check(tree(vm)[name][1] == get(vm, "web")["id"], f"{name} has followed through all of it")
    metrics = vm.raw("GET", "/v1/metrics").decode()
    check('ramet_operations_total{operation="promote"} 3\n' in metrics, "promotions are counted")
    check('ramet_call_seconds_count{call="promote"} 3\n' in metrics, "and timed")


def refused(vm, check):
    check.fails("no parent", "conflict", lambda: promote(vm, "web"), 409, ["web", "no parent"], True)
    check.fails("a restored one", "conflict", lambda: promote(vm, "past"), 409, ["past", "no parent"], True)
    check.fails("no such sandbox", "not_found", lambda: promote(vm, "nobody"), 404)
    check.fails("a body", "invalid", lambda: vm.post("/v1/sandboxes/b/promote", {"to": "web"}), 400)
    vm.delete("/v1/sandboxes/past")
    before = tree(vm)
    fork(vm, "a-child", "orphan")
    vm.delete("/v1/sandboxes/a-child")
    check.fails("a parent that is gone", "conflict", lambda: promote(vm, "orphan"), 409, ["orphan", "gone", before["a-child"][0]],
                True)
    vm.delete("/v1/sandboxes/orphan")
    del before["a-child"]
    check(tree(vm) == before, "a refusal changes nothing")


def while_forked(vm, check):
    """The parent is being forked: refused until all children are there; they then are the promoted one's."""
    names, answers = [f"many-{i}" for i in range(3)], []
    thread = threading.Thread(target=lambda: answers.append(fork(vm, "web", *names)))
    thread.start()
    refusals, done = [], None
    d.wait_until(lambda: "many-0" in tree(vm) or not thread.is_alive(), 30)
    while not done:
        try:
            done = promote(vm, "b")
        except d.ApiError as error:
            refusals.append(error)
            time.sleep(0.002)
    thread.join()
    check(refusals and all(error.code == "conflict" and error.hint for error in refusals), "a parent being forked: refused",
          str(refusals[:1]))
    now = tree(vm)
    check(answers and all(now[name][1] == done["id"] for name in names), "the children of the fork follow", str(now))
    for name in names:
        vm.delete(f"/v1/sandboxes/{name}")
    holds(vm, check, "web", "loser.", "promoted after a fork")


def at_once(vm, check):
    """Promoted and killed right after the fork: what the child lies over is durable, or nothing has happened."""
    note(vm, "web", "kept..")
    vm.post("/v1/sandboxes/web/fork", {"names": ["a"]})
    child = promote(vm, "a")
    vm.kill()
    vm.up()
    lost = get(vm, "web")
    check(lost["id"] == child["id"] and lost["state"] == "lost" and lost["last_snapshot"], "a crash right after leaves it", str(lost))
    with open(f"{vm.mount}/branches/web/disk0", "rb") as disk:
        check(b"kept..\n" in disk.read(), "with its disk")
    vm.post("/v1/sandboxes/web/rollback", {"snapshot": lost["last_snapshot"]})
    holds(vm, check, "web", "kept..", "lost, then rolled back")


def crash(vm, check, dice):
    """kill -9 around a promotion: one tree or the other, and no file of a third."""
    sides = set()
    for _ in range(6):
        fork(vm, "web", "a", "b")
        before = tree(vm)
        after = {"web": (before["a"][0], before["web"][1]), "b": (before["b"][0], before["a"][0])}
        delay = dice.random() * 0.02

        def attempt():
            try:
                promote(vm, "a")
            except (OSError, d.http.client.HTTPException, d.ApiError):
                pass
        thread = threading.Thread(target=attempt)
        thread.start()
        time.sleep(delay)
        vm.kill()
        thread.join()
        vm.up()
        now = tree(vm)
        sides.add("before" if now == before else "after" if now == after else "neither")
        check(now in (before, after), f"a crash after {delay * 1000:.0f} ms leaves before or after", f"{before} {now}")
        check(sorted(os.listdir(f"{vm.store}/branches")) == sorted(one for one, _ in now.values()), "and no other's files")
        if "a" in now:
            check(promote(vm, "a")["state"] == "lost" and tree(vm) == after, "a lost one takes a lost one's place")
        vm.delete("/v1/sandboxes/b")
        vm.post("/v1/sandboxes/web/rollback", {"snapshot": get(vm, "web")["last_snapshot"]})
    print(f"     crashes left {', '.join(sorted(sides))}")
    holds(vm, check, "web", "kept..", "after all that")
    check(vm.post("/v1/store/fsck")["problems"] == 0, "fsck finds nothing")


def main():
    dirs, check = d.arguments(), d.Checks()
    seed = int(os.environ.get("RAMET_TEST_SEED", random.SystemRandom().getrandbits(32)))
    print(f"RAMET_TEST_SEED={seed}")
    with d.running(check, *dirs) as vm:
        vm.import_guest()
        vm.boot("web")
        d.start_counter(vm, "web")
        winner(vm, check)
        goes_on(vm, check)
        refused(vm, check)
        while_forked(vm, check)
        at_once(vm, check)
        crash(vm, check, random.Random(seed))
    return check.end()


if __name__ == "__main__":
    sys.exit(main())
