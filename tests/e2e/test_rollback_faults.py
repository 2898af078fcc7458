#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Goal: a rollback that fails half way leaves the sandbox as it was, running, or rolled back and stopped; it says which,
and another rollback brings it to life.

usage: test_rollback_faults.py BIN_DIR GUEST_DIR
"""
import contextlib
import os
import random
import sys
import tempfile
import threading
import time

import daemon as d

# The real QEMU, unless VMMs that load a state are to fail: then one that ends at once.
WRAPPER = """#!/bin/sh
case "$*" in *-incoming*) [ -e {flag} ] && {{ echo "cannot allocate" >&2; exit 1; }};; esac
exec qemu-system-x86_64 "$@"
"""


def get(vm, name="web"):
    return vm.get(f"/v1/sandboxes/{name}")


def back(vm):
    return vm.post("/v1/sandboxes/web/rollback", {"snapshot": "target"})


def note(vm, text):
    """Six letters, so that each covers the one before."""
    d.ask(vm, "web", f"set {text}")
    vm.exec("web", "sh", "-c", f"echo {text} > /root/note; sync")


def holds(vm, check, text, what):
    digest = d.ask(vm, "web")[1]
    found = vm.exec("web", "sh", "-c", "echo 3 > /proc/sys/vm/drop_caches; cat /root/note").strip()
    return check(digest == d.known_digest(text) and found == text, f"{what}: memory and disk are {text}", f"{digest} {found}")


def runs_on(vm, check, before, what):
    now = get(vm)
    same = all(now[key] == before[key] for key in ("id", "name", "state", "pid", "base", "last_snapshot"))
    check(same, f"{what}: the sandbox is as it was", f"{before} {now}")
    holds(vm, check, "newest", what)


def no_vmm(vm, check, flag):
    """The new VMM does not start."""
    note(vm, "newest")
    before = get(vm)
    with open(flag, "w", encoding="utf-8"):
        check.fails("the new VMM does not start", "vmm", lambda: back(vm), 502, ["web"])
        runs_on(vm, check, before, "no VMM")
        vm.kill()
        vm.up()
        check(get(vm)["state"] == "lost", "the sandbox is lost")
        check.fails("nor does a lost one's", "vmm", lambda: back(vm), 502, ["web"])
        check(get(vm)["state"] == "lost" and get(vm)["last_snapshot"], "it is lost as before", str(get(vm)))
    os.unlink(flag)
    back(vm)
    holds(vm, check, "target", "lost, then rolled back")


def no_overlay(vm, check):
    """The old VM is stopped already when the new disk cannot be made."""
    note(vm, "newest")
    before = get(vm)
    directory = f"{vm.store}/branches/{before['id']}"
    generation = max(int(name.split(".")[1]) for name in os.listdir(directory) if not name.endswith(".log"))
    in_the_way = f"{directory}/disk0.{(generation >> 32) + 1 << 32}"
    os.mkdir(in_the_way)
    check.fails("the new disk cannot be made", ("io", "exists", "internal"), lambda: back(vm), words=["disk0"])
    runs_on(vm, check, before, "no disk")
    os.rmdir(in_the_way)
    back(vm)
    holds(vm, check, "target", "then rolled back")


def new_vmms(vm, old):
    """The VMMs beside the old one."""
    return [pid for pid in d.processes_of(vm.top) if pid not in (vm.pid, old)]


def killed(vm, check, dice):
    """The new VMM is killed at some moment between its start and its first answer."""
    ends = {"as it was": 0, "rolled back and stopped": 0, "done": 0}
    for turn in range(6):
        note(vm, "newest")
        before, errors = get(vm), []
        directory = f"{vm.store}/branches/{before['id']}"
        files = set(os.listdir(directory))

        def attempt():
            try:
                back(vm)
            except d.ApiError as error:
                errors.append(error)
        thread = threading.Thread(target=attempt)
        thread.start()
        found = []
        d.wait_until(lambda: found.extend(new_vmms(vm, before["pid"])) or found or not thread.is_alive(), 30)
        if turn % 2:
            time.sleep(dice.random() * 0.05)
        else:  # the branch turns to new overlays: from here on it is rolled back, as soon as its record is written
            while thread.is_alive() and set(os.listdir(directory)) == files:
                pass
        for pid in found:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, 9)
        thread.join()
        now = get(vm)
        if errors and now["state"] == "running":
            ends["as it was"] += 1
            runs_on(vm, check, before, f"killed, {turn}")
        else:
            d.wait_until(lambda: get(vm)["state"] != "running", 5)
            now = get(vm)
            ends["rolled back and stopped" if errors else "done"] += 1
            check(now["state"] == "stopped" and now["reason"] and now["base"] == vm.get("/v1/snapshots/target")["id"],
                  f"killed, {turn}: it is rolled back and stopped", str(now))
            check(not files & set(os.listdir(directory)), "with no file of the disk before", str(os.listdir(directory)))
        back(vm)
        if not holds(vm, check, "target", f"killed, {turn}, then rolled back"):
            break
    print(f"     {ends}")
    check(ends["as it was"] and ends["rolled back and stopped"], "both ends were seen", str(ends))


def main():
    dirs, check = d.arguments(), d.Checks()
    seed = int(os.environ.get("RAMET_TEST_SEED", random.SystemRandom().getrandbits(32)))
    print(f"RAMET_TEST_SEED={seed}")
    with tempfile.TemporaryDirectory() as place:
        wrapper, flag = f"{place}/qemu", f"{place}/fail"
        with open(wrapper, "w", encoding="utf-8") as file:
            file.write(WRAPPER.format(flag=flag))
        os.chmod(wrapper, 0o755)
        with d.running(check, *dirs, env={"RAMET_POOL": "0", "RAMET_QEMU": wrapper}) as vm:
            vm.import_guest()
            vm.boot("web")
            d.start_counter(vm, "web")
            note(vm, "target")
            vm.post("/v1/sandboxes/web/snapshot", {"tag": "target"})
            no_vmm(vm, check, flag)
            no_overlay(vm, check)
            killed(vm, check, random.Random(seed))
    return check.end()


if __name__ == "__main__":
    sys.exit(main())
