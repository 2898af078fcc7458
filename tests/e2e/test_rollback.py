#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Goal: a sandbox returns to any snapshot of a machine like it, memory and disks of one instant, under its own id and name,
whether it runs, is paused, stopped or lost; a failure or a crash leaves it as it was or rolled back, and nothing between. A
snapshot of what did not change stores nothing and says so.

usage: test_rollback.py BIN_DIR GUEST_DIR
"""
import os
import signal
import sys

import daemon as d


def skip(vm, check):
    """A paused sandbox is stored once; its disk written through the mount, or a run in between, makes it differ."""
    taken = vm.post("/v1/sandboxes/web/snapshot", {"tag": "running"})
    check(not taken["unchanged"], "a running sandbox has always changed")
    vm.post("/v1/sandboxes/web/pause")
    first = vm.post("/v1/sandboxes/web/snapshot")
    check(not first["unchanged"], "paused after its last snapshot: it had run")
    stored, count = vm.stat()["stored_bytes"], len(vm.snapshots())
    again = vm.post("/v1/sandboxes/web/snapshot", {"tag": "same"})
    check(again["unchanged"] and again["snapshot"]["id"] == first["snapshot"]["id"], "paused since: it is the last one",
          str(again))
    check(again["snapshot"]["tags"] == ["same"], "which gets the tag", str(again["snapshot"]["tags"]))
    check(vm.stat()["stored_bytes"] == stored and len(vm.snapshots()) == count, "and nothing is stored")
    said = vm.ramet("snapshot", "web")
    check(said.stdout == f"web is unchanged since {first['snapshot']['id']}\n", "'ramet snapshot' says so", said.stdout)
    check.fails("a wrong tag is refused all the same", "invalid",
                lambda: vm.post("/v1/sandboxes/web/snapshot", {"tag": "NO"}))
    with open(f"{vm.mount}/branches/web/disk0", "r+b", buffering=0) as disk:
        page = os.pread(disk.fileno(), 4096, 0)
        os.pwrite(disk.fileno(), page, 0)
    after = vm.post("/v1/sandboxes/web/snapshot")
    check(not after["unchanged"] and after["snapshot"]["parent"] == first["snapshot"]["id"],
          "a disk that was written is stored")
    check(vm.post("/v1/sandboxes/web/snapshot")["unchanged"], "once")
    vm.post("/v1/sandboxes/web/fork", {"names": ["twin"], "wait_durable": True})
    check(vm.post("/v1/sandboxes/web/snapshot")["unchanged"], "a fork of a paused sandbox is its last snapshot, too")
    vm.delete("/v1/sandboxes/twin")
    vm.post("/v1/sandboxes/web/resume")
    check(not vm.post("/v1/sandboxes/web/snapshot")["unchanged"], "once it has run, it has changed")


def note(vm, name, text):
    """What the guest keeps on its disk."""
    vm.exec(name, "sh", "-c", f"echo {text} > /root/note; sync")


def read_note(vm, name):
    """From the disk itself: what the guest has cached is dropped first."""
    return vm.exec(name, "sh", "-c", "echo 3 > /proc/sys/vm/drop_caches; cat /root/note").strip()


def get(vm, name):
    return vm.get(f"/v1/sandboxes/{name}")


def back(vm, name, snapshot, **more):
    return vm.post(f"/v1/sandboxes/{name}/rollback", {"snapshot": snapshot} | more)


def generations(vm, name):
    """The overlay's data files."""
    return [file for file in os.listdir(f"{vm.store}/branches/{get(vm, name)['id']}") if not file.endswith(".log")]


def is_at(vm, check, name, count, text, what):
    """The counter and its state, the note on disk: all of the instant at which `text` was set."""
    now, digest, _ = d.ask(vm, name)
    check(digest == d.known_digest(text), f"{what}: memory is of that instant", digest)
    check(count <= now < count + 400, f"{what}: the counter goes on from there", f"{count} {now}")
    check(read_note(vm, name) == text, f"{what}: so is its disk", read_note(vm, name))


def moment(vm, name, tag):
    """A snapshot whose memory and disk say `tag`; the count before it."""
    d.ask(vm, name, f"set {tag}")
    note(vm, name, tag)
    count = d.ask(vm, name)[0]
    vm.post(f"/v1/sandboxes/{name}/snapshot", {"tag": tag})
    return count


def rollback(vm, check):
    """To the last snapshot, to an older one, forward again, and to one of another sandbox."""
    counts = {tag: moment(vm, "web", tag) for tag in ("first", "later", "third")}
    before = get(vm, "web")
    for tag in ("third", "first", "later"):
        d.ask(vm, "web", "set lost")
        note(vm, "web", "lost")
        with open(f"{vm.mount}/branches/web/disk0", "rb") as disk:  # the kernel's page cache holds what will be gone
            disk.read(32 << 20)
        answer = back(vm, "web", tag)
        sandbox, timing = answer["sandbox"], answer["timing"]
        check(0 < timing["load_us"] < timing["running_us"] <= timing["answer_us"], f"{tag}: steps in order", str(timing))
        same = ("id", "name", "parent", "created_ms")
        check(all(sandbox[key] == before[key] for key in same) and sandbox["state"] == "running",
              f"{tag}: it keeps id, name, parent", str(sandbox))
        check(sandbox["pid"] != before["pid"] and not os.path.exists(f"/proc/{before['pid']}"), f"{tag}: one VMM, a new one")
        check(vm.get(f"/v1/snapshots/{tag}")["id"] == sandbox["base"] == sandbox["last_snapshot"], f"{tag}: it stands on it")
        is_at(vm, check, "web", counts[tag], tag, tag)
        check(len(generations(vm, "web")) == 1, f"{tag}: no file of the old disk is left", str(generations(vm, "web")))
        before = sandbox
    taken = vm.post("/v1/sandboxes/web/snapshot", {"tag": "after"})["snapshot"]
    check(taken["parent"] == vm.get("/v1/snapshots/later")["id"], "the next snapshot grew from the target")
    vm.post("/v1/snapshots/after/restore", {"name": "copy"})
    is_at(vm, check, "copy", counts["later"], "later", "a restore of that")
    back(vm, "copy", "third")
    is_at(vm, check, "copy", counts["third"], "third", "another sandbox's snapshot")
    fork = vm.post("/v1/sandboxes/copy/fork", {"names": ["nested"]})
    back(vm, "copy", "first")
    is_at(vm, check, "nested", counts["third"], "third", "a child forked after it and before the next")
    check(vm.post("/v1/sandboxes/copy/snapshot")["snapshot"]["parent"] == vm.get("/v1/snapshots/first")["id"],
          "the fork's snapshot, durable late, is not the parent of the next")
    check(get(vm, "copy")["base"] != fork["snapshot"]["id"], "nor does the branch move to it")
    vm.delete("/v1/sandboxes/nested")
    return counts


def states(vm, check, counts):
    vm.post("/v1/sandboxes/copy/pause")
    answer = back(vm, "copy", "later")
    check(answer["sandbox"]["state"] == "paused" and answer["timing"]["answer_us"] == 0, "a paused one stays paused")
    check.fails("and its guest does not run", "conflict", lambda: vm.exec("copy", "true"))
    vm.post("/v1/sandboxes/copy/resume")
    is_at(vm, check, "copy", counts["later"], "later", "paused, then resumed")
    os.kill(get(vm, "copy")["pid"], signal.SIGKILL)
    check(d.wait_until(lambda: get(vm, "copy")["state"] == "stopped", 10), "its VMM is killed")
    back(vm, "copy", "first")
    is_at(vm, check, "copy", counts["first"], "first", "a stopped one runs again")
    answer = back(vm, "copy", "third", wait_answer=False)
    check(answer["timing"]["answer_us"] == 0, "without waiting for the agent")
    said = vm.ramet("rollback", "copy", "later")
    check(said.returncode == 0 and said.stdout.startswith(f"copy is {get(vm, 'copy')['base']} again and running, ran after"),
          "'ramet rollback' says what it did", said.stdout + said.stderr)


def refused(vm, check):
    vm.boot("big", 192)
    check.fails("another memory size", "conflict", lambda: back(vm, "big", "first"), 409, ["big", "memory size"], True)
    vm.delete("/v1/sandboxes/big")
    check.fails("a template", "conflict", lambda: back(vm, "web", "debian"), 409, ["no memory"], True)
    check.fails("no such snapshot", "not_found", lambda: back(vm, "web", "nothing"), 404)
    check.fails("no such sandbox", "not_found", lambda: back(vm, "nobody", "first"), 404)
    check.fails("no snapshot named", "invalid", lambda: vm.post("/v1/sandboxes/web/rollback", {}), 400, ["snapshot"])
    check.fails("an unknown member", "invalid", lambda: back(vm, "web", "first", to="x"), 400, ["to"])
    pid, (count, digest, _) = get(vm, "web")["pid"], d.ask(vm, "web")
    check(get(vm, "web")["pid"] == pid and d.ask(vm, "web")[0] >= count and d.ask(vm, "web")[1] == digest,
          "a refused rollback changes nothing")


def stands_on(vm, check):
    back(vm, "web", "first")
    check.fails("what it stands on cannot be removed", "conflict", lambda: vm.delete("/v1/snapshots/first"))
    vm.delete("/v1/snapshots/third")
    vm.post("/v1/store/gc")
    check(read_note(vm, "web") == "first", "collecting garbage keeps its disk")


def crash(vm, check, counts):
    """kill -9 right after the answer: the record is the new one. The lost sandbox is rolled back to life."""
    note(vm, "web", "doomed")
    target = back(vm, "web", "later")["sandbox"]["base"]
    vm.kill()
    vm.up()
    lost = get(vm, "web")
    check(lost["state"] == "lost" and lost["base"] == lost["last_snapshot"] == target, "a crash leaves it rolled back", str(lost))
    back(vm, "web", "later")
    is_at(vm, check, "web", counts["later"], "later", "lost, then rolled back")
    back(vm, "web", "first")
    note(vm, "web", "kept")
    vm.kill()
    vm.up()
    with open(f"{vm.mount}/branches/web/disk0", "rb") as disk:
        check(b"kept\n" in disk.read(), "what was flushed after a rollback survives a crash")
    back(vm, "web", "later")
    is_at(vm, check, "web", counts["later"], "later", "and again")


def main():
    dirs, check = d.arguments(), d.Checks()
    with d.running(check, *dirs) as vm:
        vm.import_guest()
        vm.boot("web")
        d.start_counter(vm, "web")
        skip(vm, check)
        counts = rollback(vm, check)
        states(vm, check, counts)
        refused(vm, check)
        stands_on(vm, check)
        crash(vm, check, counts)
    return check.end()


if __name__ == "__main__":
    sys.exit(main())
