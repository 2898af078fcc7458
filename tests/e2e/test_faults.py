#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Goal: bad input and faults get a clear error that names the thing, with the right status and exit code, and leave
nothing half-made behind.

usage: test_faults.py BIN_DIR GUEST_DIR
"""
import glob
import os
import re
import signal
import subprocess
import sys
import threading
import time

import daemon as d


def ramet_fails(vm, check, what, code, argv, words=(), **more):
    done = vm.ramet(*argv, **more)
    lacking = [word for word in words if str(word) not in done.stderr]
    check(done.returncode == code and not lacking, what, f"exit code {done.returncode}: {done.stderr.strip()}")
    return done


def unknown(vm, check):
    for kind, call in {
            "sandbox": lambda: vm.get("/v1/sandboxes/nosuch"), "snapshot": lambda: vm.get("/v1/snapshots/nosuch"),
            "tag": lambda: vm.delete("/v1/tags/nosuch"),
            "snapshot to run": lambda: vm.post("/v1/sandboxes", {"snapshot": "nosuch"}),
            "snapshot to restore": lambda: vm.post("/v1/snapshots/nosuch/restore"),
            "sandbox to fork": lambda: vm.post("/v1/sandboxes/nosuch/fork"),
            "sandbox to run in": lambda: vm.post("/v1/sandboxes/nosuch/exec", {"argv": ["true"]}),
            "sandbox to remove": lambda: vm.delete("/v1/sandboxes/nosuch")}.items():
        check.fails(f"unknown {kind}", "not_found", call, 404, ["nosuch"], hint=True)
    check.fails("unknown id", "not_found", lambda: vm.get("/v1/snapshots/0123456789abcdef"), 404, ["0123456789abcdef"])
    ramet_fails(vm, check, "ramet show of an unknown sandbox exits 3", 3, ["show", "nosuch"], ["nosuch"])
    ramet_fails(vm, check, "ramet rm of an unknown snapshot exits 3", 3, ["rm", "--snapshot", "nosuch"], ["nosuch"])
    ramet_fails(vm, check, "an unknown command exits 2", 2, ["nosuch"], ["nosuch"])


def requests(vm, check):
    fork, boxes = "/v1/sandboxes/web/fork", "/v1/sandboxes"
    json_type = {"Content-Type": "application/json"}
    check.fails("malformed JSON", "invalid", lambda: vm.raw("POST", boxes, '{"name": ', json_type), 400)
    check.fails("a body that is no object", "invalid", lambda: vm.raw("POST", boxes, "[1]", json_type), 400)
    check.fails("a body of 2 MiB", "too_large",
                lambda: vm.raw("POST", boxes, '{"name": "' + "x" * (2 << 20) + '"}', json_type), 413)
    check.fails("a body of another type", "invalid",
                lambda: vm.raw("POST", boxes, "a=b", {"Content-Type": "text/plain"}), 415)
    check.fails("a wrong type", "invalid", lambda: vm.post(boxes, {"name": 7}), 400, ["name"])
    check.fails("an unknown member", "invalid", lambda: vm.post(boxes, {"nmae": "x"}), 400, ["nmae"])
    check.fails("a bad name", "invalid", lambda: vm.post(boxes, {"name": "../x"}), 400, ["../x"])
    check.fails("a negative count", "invalid", lambda: vm.post(fork, {"count": -1}), 400, ["count"])
    check.fails("count 0", "invalid", lambda: vm.post(fork, {"count": 0}), 400, ["count"])
    check.fails("count 100000", "invalid", lambda: vm.post(fork, {"count": 100000}), 400, ["count"])
    check.fails("count and names that differ", "invalid", lambda: vm.post(fork, {"count": 3, "names": ["a"]}), 400)
    check.fails("an unknown route", "not_found", lambda: vm.get("/v1/nosuch"), 404, ["/v1/nosuch"])
    check.fails("a wrong method", "invalid", lambda: vm.api("DELETE", "/v1/status"), 405)
    check.fails("exec without argv", "invalid", lambda: vm.post("/v1/sandboxes/web/exec", {}), 400, ["argv"])
    check.fails("an import of a relative path", "invalid",
                lambda: vm.post("/v1/snapshots/import", {"disk": "disk.raw"}), 400, ["disk"])
    check.fails("an import of a file that is not there", "not_found",
                lambda: vm.post("/v1/snapshots/import", {"disk": "/nosuch/disk"}), 404, ["/nosuch/disk"])


def memory(vm, check):
    error = check.fails("more children than memory allows", "no_memory",
                        lambda: vm.post("/v1/sandboxes/web/fork", {"count": 1024}), 507, hint=True)
    if error:
        check(len(re.findall(r"\d+ (?:MiB|GiB|bytes)", error.message)) >= 2, "it says what is needed and what is free",
              error.message)
    ramet_fails(vm, check, "ramet fork beyond memory exits 7", 7, ["fork", "web", "-n", "1024"])
    check.fails("a memory size that is not the snapshot's", "invalid", lambda: vm.post(
        "/v1/sandboxes", {"snapshot": "warm", "memory_bytes": 256 << 20}), 400, ["128", "256"])
    check.fails("and so at restore", "invalid", lambda: vm.post(
        "/v1/snapshots/warm/restore", {"memory_bytes": 256 << 20}), 400, ["128", "256"])
    check.fails("a restore of a template without memory", ("invalid", "conflict"),
                lambda: vm.post("/v1/snapshots/debian/restore"), None, ["debian"])


def names(vm, check):
    check.fails("a sandbox's name that is taken", "exists",
                lambda: vm.post("/v1/snapshots/warm/restore", {"name": "web"}), 409, ["web"])
    check.fails("a child's name that is taken", "exists",
                lambda: vm.post("/v1/sandboxes/web/fork", {"names": ["free", "web"]}), 409, ["web"])
    vm.post("/v1/sandboxes/web/snapshot", {"tag": "latest"})
    second = vm.post("/v1/sandboxes/web/snapshot", {"tag": "latest"})["snapshot"]["id"]
    holders = [snapshot["id"] for snapshot in vm.snapshots() if "latest" in snapshot["tags"]]
    check(holders == [second], "a tag that is taken moves to the new snapshot", str(holders))
    ramet_fails(vm, check, "ramet restore with a taken name exits 4", 4, ["restore", "warm", "--name", "web"], ["web"])
    vm.post("/v1/snapshots/warm/restore", {"name": "user"})
    check.fails("removing a snapshot in use", "conflict", lambda: vm.delete("/v1/snapshots/warm"), 409, ["user"])
    vm.delete("/v1/sandboxes/user")


def timeouts(vm, check):
    begun = time.monotonic()
    check.fails("exec of a command that sleeps on", "timeout", lambda: vm.post(
        "/v1/sandboxes/web/exec", {"argv": ["sleep", "60"], "timeout_ms": 1000}), 504)
    check(time.monotonic() - begun < 10, "the time-out is kept", f"{time.monotonic() - begun:.1f} s")
    check(vm.exec("web", "echo", "on") == "on\n", "exec works after a time-out")
    vm.post("/v1/sandboxes/web/pause")
    check.fails("exec in a paused sandbox", ("conflict", "timeout"), lambda: vm.post(
        "/v1/sandboxes/web/exec", {"argv": ["true"], "timeout_ms": 1000}), None, ["web"])
    vm.post("/v1/sandboxes/web/resume")
    check(vm.exec("web", "echo", "on") == "on\n", "exec works after the pause")


def contents(vm):
    return sorted(s["id"] for s in vm.snapshots()), sorted(box["name"] for box in vm.sandboxes())


def dying_child(vm, check):
    """QEMUs that appear during a fork are killed at once."""
    before, parent = contents(vm), vm.get("/v1/sandboxes/web")["pid"]
    known, stop, killed = set(d.processes_of(vm.top)), threading.Event(), []

    def hunt():
        while not stop.is_set():
            for pid in set(d.processes_of(vm.top)) - known - set(killed):
                try:
                    with open(f"/proc/{pid}/comm", encoding="utf-8") as file:
                        if "qemu" in file.read():
                            os.kill(pid, signal.SIGKILL)
                            killed.append(pid)
                except OSError:
                    pass

    hunter = threading.Thread(target=hunt)
    hunter.start()
    check.fails("a fork whose children's QEMU is killed", ("vmm", "unavailable"),
                lambda: vm.post("/v1/sandboxes/web/fork", {"count": 2, "wait_ms": 20000}))
    stop.set()
    hunter.join()
    check(len(killed) > 0, "a child was killed")
    half_made(vm, check, before, parent)


def half_made(vm, check, before, parent):
    check(contents(vm) == before, "no child and no snapshot is listed", f"{before} then {contents(vm)}")
    check(vm.exec("web", "echo", "on") == "on\n" and vm.get("/v1/sandboxes/web")["pid"] == parent,
          "the parent runs on")
    check(d.wait_until(lambda: sorted(d.processes_of(vm.top)) == sorted([vm.pid, parent]), 3), "no QEMU is left",
          str(d.processes_of(vm.top)))


def running(bin_dir, guest_dir, check):
    vm = d.Daemon(bin_dir, guest_dir, {"RAMET_POOL": "0"})  # each child starts a QEMU of its own
    # A QEMU that starts until the flag file is there, and then fails where it should take a state in.
    wrapper = f"{vm.top}/qemu"
    with open(wrapper, "w", encoding="utf-8") as file:
        file.write(f'#!/bin/sh\ncase "$*" in *-incoming*) if [ -e {vm.top}/break ]; then echo no luck today >&2; '
                   'exit 1; fi;; esac\nexec qemu-system-x86_64 "$@"\n')
    os.chmod(wrapper, 0o755)
    try:
        vm.up(RAMET_QEMU=wrapper)
        vm.import_guest()
        vm.boot("web")
        vm.post("/v1/sandboxes/web/snapshot", {"tag": "warm"})
        for part in (unknown, requests, memory, names, timeouts, dying_child):
            part(vm, check)
        before, parent = contents(vm), vm.get("/v1/sandboxes/web")["pid"]
        with open(f"{vm.top}/break", "w", encoding="utf-8"):
            check.fails("a fork where QEMU fails to start", ("vmm", "unavailable"),
                        lambda: vm.post("/v1/sandboxes/web/fork", {"count": 2, "wait_ms": 20000}), None, ["no luck"])
        half_made(vm, check, before, parent)
        os.unlink(f"{vm.top}/break")
        check(len(vm.post("/v1/sandboxes/web/fork", {"count": 2})["children"]) == 2, "the next fork works")
        os.kill(parent, signal.SIGKILL)
        stopped = d.wait_until(lambda: vm.get("/v1/sandboxes/web")["state"] == "stopped", 5)
        about = vm.get("/v1/sandboxes/web")
        check(stopped and about["reason"], "a sandbox whose QEMU died is stopped, with a reason", str(about))
        check.fails("exec in it", "conflict", lambda: vm.post("/v1/sandboxes/web/exec", {"argv": ["true"]}), 409,
                    ["web"])
    except Exception as error:  # a failed step ends this part, but never leaves a VM behind
        check(False, "no step fails", repr(error))
        print(vm.log()[-3000:])
    finally:
        vm.finish(check)


def places(bin_dir, guest_dir, check):
    """Two daemons, and places that are taken."""
    vm, other = d.Daemon(bin_dir, guest_dir), d.Daemon(bin_dir, guest_dir)
    try:
        vm.up()
        ramet_fails(other, check, "a second daemon on a store exits 6 and names the first", 6, ["up"],
                    [vm.pid, vm.store], RAMET_STORE=vm.store)
        done = subprocess.run([f"{vm.bin}/rametd"], capture_output=True, text=True, timeout=30,
                              env=other.env | {"RAMET_SOCKET": vm.socket})
        check(done.returncode == 6 and vm.socket in done.stderr, "a second daemon on a socket exits 6 and names it",
              f"{done.returncode}: {done.stderr}")
        ramet_fails(other, check, "a mount point in use exits 6 and is named", 6, ["up"], [vm.mount],
                    RAMET_MOUNT=vm.mount)
        os.makedirs(other.mount, exist_ok=True)
        with open(f"{other.mount}/precious", "w", encoding="utf-8") as file:
            file.write("kept")
        ramet_fails(other, check, "a mount point that is not empty exits 6 and is named", 6, ["up"], [other.mount])
        check(os.path.exists(f"{other.mount}/precious"), "what it holds is untouched")
        check(vm.get("/v1/status")["pid"] == vm.pid, "the first daemon answers throughout")
        check(not d.processes_of(other.top), "no second daemon is left")
        os.unlink(f"{other.mount}/precious")
        missing = d.Daemon(bin_dir, guest_dir, {"RAMET_QEMU": "/nonexistent"})
        up = missing.ramet("up")
        if up.returncode == 0:
            missing.up()
            missing.import_guest()
            check.fails("QEMU missing", "unavailable", lambda: missing.boot("web"), 503, ["/nonexistent"], hint=True)
            check(missing.sandboxes() == [], "no sandbox is listed")
        else:
            check(up.returncode == 16 and "/nonexistent" in up.stderr, "QEMU missing exits 16", up.stderr)
        missing.finish(check)
        ramet_fails(other, check, "no daemon exits 16", 16, ["ls"], [other.socket])
    except Exception as error:
        check(False, "no step fails", repr(error))
    finally:
        vm.finish(check)
        other.clear()


def full(bin_dir, guest_dir, check):
    """A store on a few MiB of tmpfs."""
    vm = d.Daemon(bin_dir, guest_dir)
    os.makedirs(vm.store)
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", vm.store], check=False).returncode != 0:
        print("     a full store is not tested: mounting tmpfs is not allowed here")
        vm.clear()
        return
    try:
        vm.up()
        check.fails("an import into a full store", "no_space", vm.import_guest, 507, [vm.store])
        check(vm.snapshots() == [], "nothing half-made is listed")
        vm.post("/v1/store/gc")
        small = f"{vm.top}/small"
        with open(small, "wb") as file:
            file.write(os.urandom(1 << 20))
        taken = vm.post("/v1/snapshots/import", {"disk": small, "tag": "small"})
        check(d.sha256(vm.image(taken["id"], "disk0")) == d.sha256(small), "the daemon goes on: a small import works")
        check(vm.post("/v1/store/fsck")["problems"] == 0, "the store is sound")
        check(vm.down() == 0, "the daemon goes down")
        subprocess.run(["mount", "-o", "remount,ro", vm.store], check=True)
        done = ramet_fails(vm, check, "a read-only store exits 9 and is named", 9, ["up"], [vm.store])
        if done.returncode == 0:
            vm.up()
        subprocess.run(["mount", "-o", "remount,rw", vm.store], check=True)
    except Exception as error:
        check(False, "no step fails", repr(error))
        print(vm.log()[-2000:])
    finally:
        vm.down()
        subprocess.run(["umount", "-l", vm.store], check=False)
        vm.finish()


def corrupt(bin_dir, guest_dir, check):
    """Single bytes of packs flipped: reads give the right bytes or EIO, fsck names the pack and the snapshot."""
    with d.running(check, bin_dir, guest_dir) as vm:
        source = f"{vm.top}/source"
        with open(source, "wb") as file:
            for page in range(2048):
                file.write(os.urandom(2048) + b"%2048d" % page)
        taken = vm.post("/v1/snapshots/import", {"disk": source, "tag": "victim"})
        with open(source, "rb") as file:
            right = file.read()
        for part in (0.1, 0.5, 0.9):
            vm.down()
            pack = max(glob.glob(f"{vm.store}/packs/*.pack"), key=os.path.getsize)
            offset = int(os.path.getsize(pack) * part)
            with open(pack, "r+b") as file:
                file.seek(offset)
                byte = file.read(1)[0]
                file.seek(offset)
                file.write(bytes([byte ^ 0x40]))
            vm.up()
            wrong = failed = 0
            with open(vm.image(taken["id"], "disk0"), "rb", buffering=0) as file:
                for at in range(0, len(right), 4096):
                    try:
                        wrong += os.pread(file.fileno(), 4096, at) != right[at:at + 4096]
                    except OSError as error:
                        failed += error.errno == 5
                        wrong += error.errno != 5
            check(wrong == 0 and failed > 0, f"byte {offset} flipped: EIO or the right bytes, never wrong ones",
                  f"{wrong} pages wrong, {failed} EIO")
            report = vm.post("/v1/store/fsck")
            text = str(report["report"])
            name = os.path.basename(pack)
            check(report["problems"] > 0 and (name in text or name.split(".")[0].lstrip("0") in text)
                  and (taken["id"] in text or "victim" in text), "fsck names pack and snapshot", text[:400])
            ramet_fails(vm, check, "ramet store fsck exits 12", 12, ["store", "fsck"])
            check.fails("an export of it", ("corrupt", "io"), lambda: vm.post(
                "/v1/snapshots/victim/export", {"image": "disk0", "path": f"{vm.top}/out"}), 500)
            check(not os.path.exists(f"{vm.top}/out"), "leaves no file")
            vm.down()
            with open(pack, "r+b") as file:
                file.seek(offset)
                file.write(bytes([byte]))
            vm.up()
            check(d.sha256(vm.image(taken["id"], "disk0")) == d.sha256(source), "the byte put back, all is readable")


def main():
    dirs, check = d.arguments(), d.Checks()
    for part in (corrupt, places, full, running):
        print(f"{part.__name__}:", flush=True)
        part(*dirs, check)
    return check.end()


if __name__ == "__main__":
    sys.exit(main())
