#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Goal: a snapshot of what did not change stores nothing and says so.

usage: test_rollback.py BIN_DIR GUEST_DIR
"""
import os
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


def main():
    dirs, check = d.arguments(), d.Checks()
    vm = d.Daemon(*dirs)
    try:
        vm.up()
        vm.import_guest()
        vm.boot("web")
        d.start_counter(vm, "web")
        skip(vm, check)
    except Exception as error:  # a failed step ends the test, but never leaves a VM behind
        check(False, "no step fails", repr(error))
        print(vm.log()[-3000:])
    finally:
        vm.finish(check)
    return check.end()


if __name__ == "__main__":
    sys.exit(main())
