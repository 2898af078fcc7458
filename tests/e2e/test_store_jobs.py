#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Goal: the store looks after itself and can be mended: scrubs find what rotted and go on after a restart,
recompression makes it smaller and changes no byte, damaged headers are written anew, and a lost index comes back
whole from the packs.

usage: test_store_jobs.py BIN_DIR GUEST_DIR
"""
import glob
import json
import os
import shutil
import sys

import daemon as d

SCRUB, RECOMPRESS = "/v1/store/scrub", "/v1/store/recompress"


def run(vm, *argv, timeout=300):
    """Exit code, answer and standard error of `ramet ARGV --json`."""
    done = vm.ramet(*argv, "--json", timeout=timeout)
    return done.returncode, json.loads(done.stdout) if done.stdout else {}, done.stderr


def ended(vm, path, seconds=300):
    check = {"state": "running"}

    def over():
        check.update(vm.get(path))
        return check["state"] != "running"
    d.wait_until(over, seconds)
    return check


def largest_pack(vm):
    return max(glob.glob(f"{vm.store}/packs/*.pack"), key=os.path.getsize)


def flip(path, offset):
    with open(path, "r+b") as file:
        file.seek(offset)
        byte = file.read(1)[0]
        file.seek(offset)
        file.write(bytes([byte ^ 0x40]))


def scrubs(vm, check):
    """Slowed down, it is stopped by a restart and goes on there."""
    check(vm.get(SCRUB)["state"] == "none", "no scrub has run yet")
    started = vm.post(SCRUB, {"bytes_per_second": 20 << 20})
    check(started["state"] == "running", "a scrub starts", str(started))
    check.fails("a second one", "busy", lambda: vm.post(SCRUB), 423, ["--status"], hint=True)
    done = vm.ramet("store", "scrub")
    check(done.returncode == 6 and "runs already" in done.stderr, "ramet store scrub exits 6 then", done.stderr)
    d.wait_until(lambda: vm.get(SCRUB)["frames"] > 1000, 60)
    before = vm.get(SCRUB)
    vm.down()
    vm.up()
    check(vm.get(SCRUB)["state"] == "none", "the daemon restarts under it")
    vm.post(SCRUB, {"bytes_per_second": 20 << 20})
    d.wait_until(lambda: vm.get(SCRUB)["total_frames"] > 0, 60)
    after = vm.get(SCRUB)
    check(before["frames"] <= after["frames"] < after["total_frames"] and after["duration_us"] < 5000000,
          "started again it goes on where it stood", f"{before} then {after}")
    stopped = vm.delete(SCRUB)
    check(stopped["state"] == "stopped", "DELETE stops it", str(stopped))
    code, status, text = run(vm, "store", "scrub", "--wait")
    check(code == 0 and status["state"] == "finished" and status["problems"] == 0 and
          status["frames"] == vm.stat()["frames"] and status["frames"] > stopped["frames"],
          "the third part ends it: every frame was read, once", f"{code} {status} {text}")


def rot(vm, check, debian):
    """A flipped byte: found, named with what it hits, not mended; gone when the byte is put back."""
    vm.down()
    pack = largest_pack(vm)
    offset, name = os.path.getsize(pack) // 2, f"pack {os.path.basename(pack).split('.')[0]} at "
    flip(pack, offset)
    vm.up()
    code, status, text = run(vm, "store", "scrub", "--restart", "--wait")
    report = "\n".join(status.get("report", []))
    check(code == 12 and status["problems"] == 1, "a scrub finds a flipped byte and exits 12", f"{code} {text}")
    check(name in report and debian["id"] in report and "ramet rm --snapshot debian" in report,
          "it names pack, snapshot and remedy", report)
    check(name in vm.log(), "and so does the daemon's log")
    code, answer, _ = run(vm, "store", "fsck", "--repair")
    report = "\n".join(answer["report"])
    check(code == 12 and answer["repaired"] and answer["mended_headers"] == 0 and name in report and
          "debian" in report, "fsck --repair cannot mend that and says so", str(answer))
    check(len(answer["report"]) == answer["problems"], "a line a problem", report)
    flip(pack, offset)
    vm.down()
    vm.up()
    code, _, text = run(vm, "store", "scrub", "--wait")
    check(code == 0, "the byte put back, a scrub is clean", text)


def header(vm, check):
    """A damaged pack header is found and written anew."""
    pack = largest_pack(vm)
    flip(pack, 20)
    code, answer, _ = run(vm, "store", "fsck")
    check(code == 12 and answer["problems"] == 1 and "fsck --repair" in answer["report"][0],
          "fsck finds a damaged header and names the remedy", str(answer))
    done = vm.ramet("store", "fsck", "--repair")
    check(done.returncode == 0 and "1 pack headers anew" in done.stdout, "fsck --repair mends it", done.stdout)
    flip(pack, 20)
    answer = vm.post("/v1/store/fsck", {"repair": True})
    check(answer["repaired"] and answer["mended_headers"] == 1 and answer["problems"] == 0, "by the API too",
          str(answer))
    check(not vm.post("/v1/store/fsck", {"repair": True})["repaired"], "nothing is mended where nothing is wrong")


def recompression(vm, check):
    """It makes the store smaller and what it holds stays as it is."""
    before = vm.stat()
    check.fails("a level of 23", "invalid", lambda: vm.post(RECOMPRESS, {"level": 23}), 400, ["level"])
    started = vm.post(RECOMPRESS, {"level": 6, "threads": 2})
    check(started["state"] == "running" and not started["automatic"], "recompression starts", str(started))
    stopped = vm.delete(RECOMPRESS)
    check(stopped["state"] == "stopped", "DELETE stops it", str(stopped))
    code, status, text = run(vm, "store", "recompress", "--level", "6", "--threads", "2", "--wait")
    check(code == 0 and status["state"] == "finished" and status["after_bytes"] < status["before_bytes"],
          "ramet store recompress --wait returns at its end", f"{code} {status} {text}")
    after = vm.stat()
    check(after["stored_bytes"] < before["stored_bytes"] * 0.95 and after["cold_frames"] == after["frames"],
          "the store is smaller", f"{before['stored_bytes']} then {after['stored_bytes']}; {after}")
    path = f"{vm.top}/disk.raw"
    answer = vm.post("/v1/snapshots/debian/export", {"image": "disk0", "path": path})
    right = d.sha256(f"{vm.guest}/disk.raw")
    check(d.sha256(path) == right, "an export is what was imported, byte for byte")
    check(answer["sha256"] == right, "its answer has the file's SHA-256")
    done = vm.ramet("export", "debian", "disk0", f"{vm.top}/disk.qcow2", "--format", "qcow2")
    check(f"sha256 {d.sha256(f'{vm.top}/disk.qcow2')}" in done.stdout, "also of another format, in what ramet prints",
          done.stdout + done.stderr)
    os.unlink(f"{vm.top}/disk.qcow2")


def parents(vm, check):
    """A later state of a disk costs its changes when its parent is named."""
    path, size = f"{vm.top}/disk.raw", os.path.getsize(f"{vm.top}/disk.raw")
    with open(path, "r+b") as file:
        for page in range(0, size // 4096, 64):
            data = os.pread(file.fileno(), 4096, page * 4096)
            if data.count(0) < 4096:
                os.pwrite(file.fileno(), os.urandom(16), page * 4096 + 2000)
    check.fails("an import over a parent that is not there", "not_found",
                lambda: vm.post("/v1/snapshots/import", {"disk": path, "parent": "nosuch"}), 404, ["nosuch"])
    alone = vm.post("/v1/snapshots/import", {"disk": path})
    vm.delete(f"/v1/snapshots/{alone['id']}")
    vm.post("/v1/store/gc")
    code, later, text = run(vm, "import", "--disk", path, "--parent", "debian", "--tag", "later")
    check(code == 0 and later["parent"] == vm.get("/v1/snapshots/debian")["id"], "an import over a parent grows from it",
          f"{later} {text}")
    check(later["stored_bytes"] < alone["stored_bytes"] / 2, "it takes less than half",
          f"{later['stored_bytes']}, alone {alone['stored_bytes']}")
    check(vm.stat()["delta_frames"] > 0, "stored as differences")
    check(d.sha256(vm.image("later", "disk0")) == d.sha256(path), "and is what was imported")


def contents(vm):
    """All that snapshots, tags and branches are: their records and the digests of their bytes."""
    snapshots = [{**snapshot, "images": {os.path.basename(path): d.sha256(path) for path in
                 sorted(glob.glob(vm.image(snapshot["id"], "*"))) if not path.endswith(".json")}}
                 for snapshot in vm.snapshots()]
    branches = [{**{key: sandbox[key] for key in ("id", "name", "base", "parent", "last_snapshot", "memory_bytes",
                                                  "created_ms")},
                 "disk": d.sha256(f"{vm.mount}/branches/{sandbox['name']}/disk0")} for sandbox in vm.sandboxes()]
    return {"snapshots": snapshots, "branches": branches}


def rebuild(vm, check):
    """Without its index, part of it, or its superblock: everything is back from the packs."""
    vm.boot("web")
    vm.exec("web", "sh", "-c", "echo kept > /root/note && sync")
    vm.post("/v1/sandboxes/web/snapshot", {"tag": "warm"})
    vm.exec("web", "sh", "-c", "echo more >> /root/note && sync")
    vm.post("/v1/snapshots/import", {"disk": f"{vm.guest}/vmlinuz", "tag": "gone"})
    vm.delete("/v1/snapshots/gone")
    vm.api("PUT", "/v1/tags/first", {"snapshot": "debian"})
    vm.api("PUT", "/v1/tags/second", {"snapshot": "debian"})
    vm.delete("/v1/tags/second")
    rametd = [f"{vm.bin}/rametd", "--rebuild"]
    done = vm.run_program(rametd)
    check(done.returncode == 6 and "in use" in done.stderr, "no rebuild while a daemon holds the store", done.stderr)
    vm.down()
    vm.up()
    before = contents(vm)
    check(len(before["snapshots"]) == 3 and len(before["branches"]) == 1, "there is something to lose", str(before))
    losses = {"index": lambda: shutil.rmtree(f"{vm.store}/index"),
              "manifest": lambda: os.unlink(glob.glob(f"{vm.store}/index/MANIFEST-*")[0]),
              "superblock": lambda: os.unlink(f"{vm.store}/store")}
    for what, lose in losses.items():
        vm.down()
        lose()
        stray = f"{vm.store}/branches/00000000{what[:4].encode().hex()}"
        os.mkdir(stray)
        done = vm.ramet("up")
        check(done.returncode == 12 and "rametd --rebuild" in done.stderr, f"without its {what} the store is not opened",
              f"{done.returncode} {done.stderr}")
        done = vm.run_program(rametd)
        check(done.returncode == 0 and "3 snapshots found, 0 problems" in done.stdout, "rametd --rebuild exits 0",
              f"{done.returncode} {done.stdout} {done.stderr}")
        check(os.path.isdir(stray.replace("/branches/", "/lost+branches/")), "an unknown branch's files are set aside")
        vm.up()
        after = contents(vm)
        check(after == before, f"every snapshot, tag and branch is as before the loss of its {what}",
              f"{before}\nthen {after}")
        check(vm.post("/v1/store/fsck")["problems"] == 0, "fsck finds nothing")
    vm.post("/v1/snapshots/warm/restore", {"name": "again"})
    check(vm.exec("again", "cat", "/root/note").split() == ["kept"], "a snapshot restores")
    for sandbox in vm.sandboxes():
        vm.delete(f"/v1/sandboxes/{sandbox['id']}")
    vm.down()
    pack = largest_pack(vm)
    flip(pack, os.path.getsize(pack) // 2)
    shutil.rmtree(f"{vm.store}/index")
    done = vm.run_program(rametd)
    check(done.returncode == 12 and "bytes of the packs are no record" in done.stdout and "is damaged" in done.stdout,
          "where packs are damaged too it says what is hit and exits 12", f"{done.returncode} {done.stdout}")


def automatic_start(bin_dir, guest_dir, check):
    quiet = d.Daemon(bin_dir, guest_dir, {"RAMET_RECOMPRESS": "loud"})
    done = quiet.ramet("up")
    check(done.returncode == 2 and "RAMET_RECOMPRESS" in done.stderr, "a wrong RAMET_RECOMPRESS is refused",
          f"{done.returncode} {done.stderr}")
    quiet.env["RAMET_RECOMPRESS"] = "3"
    quiet.up()
    quiet.post("/v1/snapshots/import", {"disk": f"{quiet.guest}/initrd.img"})
    check(quiet.get(RECOMPRESS)["state"] == "none", "nothing is recompressed at once")
    return quiet


def automatic_end(quiet, check):
    """After a minute in which nothing was stored, all is recompressed."""
    d.wait_until(lambda: quiet.get(RECOMPRESS)["state"] != "none", 100)
    status, stat = ended(quiet, RECOMPRESS), quiet.stat()
    check(status["state"] == "finished" and status["automatic"] and status["level"] == 3 and
          stat["cold_frames"] == stat["frames"] > 0, "recompression begins by itself", f"{status} {stat}")


def main():
    dirs, check = d.arguments(), d.Checks()
    quiet = automatic_start(*dirs, check)
    with d.running(check, *dirs, {"RAMET_RECOMPRESS": "off"}) as vm:
        debian = vm.import_guest()
        for part in (scrubs, lambda *a: rot(*a, debian), header, recompression, parents, rebuild):
            part(vm, check)
        automatic_end(quiet, check)
    quiet.finish(check)
    return check.end()


if __name__ == "__main__":
    sys.exit(main())
