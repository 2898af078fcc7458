#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The naive ways to branch a VM, beside a live fork, a restore and a rollback of the same guest in the same run.

A section of `tools/dev bench branch`; by itself: branch_naive.py BIN_DIR GUEST_DIR [--quick] [--json FILE]

A Debian guest of 512 MiB, booted once by the daemon and once by each plain QEMU, which gets the daemon's own command line
(bare_qemu.py). How long the guest stands still for a branch to be possible:
  fork       Ramet's live fork, and the time until its child runs
  savevm     QEMU's snapshot in a qcow2 file; loadvm is its way back, in the same process
  cp         stop, device state, memory file copied, cont
  reflink    the same with cp --reflink, on an XFS in a file, made for it
and how long until a machine runs that is back at an earlier state:
  rollback   of a sandbox by the daemon, and restore of a new one
  kill_spawn the limit of a rollback: a QEMU is killed and one that waited maps the memory, loads the state and runs
CRIU dumps and restores a process of as much memory, where it works. What does not run here is named."""
import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "tools", "demo"))
from bare_qemu import Qemu, machine_of  # noqa: E402
from branch_children import Samples, await_spares  # noqa: E402
from daemon import Daemon  # noqa: E402
from report import arguments, finish, print_series, promise  # noqa: E402

MEMORY_MIB, SPARES = 512, 2
MEMORY_BYTES = MEMORY_MIB << 20
HOLDER = f"m = bytearray(b'x') * {MEMORY_BYTES}; print('ready', flush=True); import time; time.sleep(3600)"


class Missing(Exception):
    pass


def timed(samples, name, call):
    began = time.monotonic()
    answer = call()
    samples.add(name, "us", round((time.monotonic() - began) * 1e6))
    return answer


# Ramet


def ramet(daemon, samples, rounds):
    """Returns the machine's command line and files of a stopped guest: memory, state, disk, all of "base"."""
    daemon.import_debian()
    daemon.json("run", "debian", "--name", "booted", "--memory", f"{MEMORY_MIB}M")
    daemon.json("snapshot", "booted", "--tag", "base")
    daemon.run("rm", "booted")
    daemon.json("restore", "base", "--name", "web")
    machine = machine_of(daemon.json("show", "web")["pid"])
    for _ in range(rounds):
        daemon.exec("web", "sh", "-c", "head -c 16M /dev/urandom > /dev/shm/changed")
        await_spares(daemon, SPARES)
        answer = daemon.json("fork", "web", "--name", "child")
        daemon.run("rm", "child")
        samples.add("fork.pause", "us", answer["timing"]["pause_us"])
        samples.add("fork.running", "us", answer["children"][0]["timing"]["running_us"])
        await_spares(daemon, SPARES)
        samples.add("rollback.running", "us", daemon.json("rollback", "web", "base")["timing"]["running_us"])
        await_spares(daemon, SPARES)
        timing = daemon.json("restore", "base", "--name", "other")["sandboxes"][0]["timing"]
        samples.add("restore.running", "us", timing["running_us"])
        daemon.run("rm", "other")
    return machine


def export(daemon, place):
    for image in ("memory", "state", "disk0"):
        daemon.json("export", "base", image, f"{place}/{image}")


# Plain QEMU


def boot(machine, guest, memory, disk, disk_format):
    with open(f"{guest}/cmdline", encoding="utf-8") as file:
        cmdline = file.read().strip()
    qemu = Qemu(machine, "-kernel", f"{guest}/vmlinuz", "-initrd", f"{guest}/initrd.img", "-append", cmdline)
    with contextlib.ExitStack() as undo:
        undo.callback(qemu.kill)
        qemu.run(memory, MEMORY_BYTES, disk, disk_format, share=True)
        qemu.await_agent()
        undo.pop_all()
    return qemu


def savevm(machine, guest, place, samples, rounds):
    disk = f"{place}/disk.qcow2"
    subprocess.run(["qemu-img", "convert", "-O", "qcow2", f"{guest}/disk.raw", disk], check=True)
    with boot(machine, guest, f"{place}/savevm-memory", disk, "qcow2") as qemu:
        for _ in range(rounds):
            timed(samples, "savevm.pause", lambda: qemu.human("savevm one"))
            timed(samples, "loadvm.running", lambda: qemu.human("loadvm one"))
            qemu.human("delvm one")


def copies(machine, guest, place, samples, rounds, name, option):
    """Stop, state, memory copied, cont: what a fork without a store is."""
    memory, disk = f"{place}/{name}-memory", f"{place}/{name}-disk"
    shutil.copyfile(f"{guest}/disk.raw", disk)
    with boot(machine, guest, memory, disk, "raw") as qemu:
        def branch():
            qemu.call("stop")
            qemu.call("xen-save-devices-state", filename=f"{place}/{name}-state")
            subprocess.run(["cp", option, memory, f"{memory}.copy"], check=True)
            qemu.call("cont")
        for _ in range(rounds):
            timed(samples, f"{name}.pause", branch)
            os.unlink(f"{memory}.copy")
    os.unlink(memory)


@contextlib.contextmanager
def reflinks(place):
    """A directory on an XFS that shares blocks, gone afterwards."""
    if os.geteuid() or not shutil.which("mkfs.xfs"):
        raise Missing("no root, or no mkfs.xfs (apt install xfsprogs)")
    image, directory = f"{place}/xfs", f"{place}/xfs-mount"
    os.mkdir(directory)
    with open(image, "wb") as file:
        file.truncate(4 << 30)
    subprocess.run(["mkfs.xfs", "-q", "-m", "reflink=1", image], check=True)
    done = subprocess.run(["mount", "-o", "loop", image, directory], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise Missing(f"an XFS in a file cannot be mounted: {done.stderr.strip()}")
    try:
        yield directory
    finally:
        subprocess.run(["umount", directory], check=True)


def reflink(machine, guest, place, samples, rounds):
    with reflinks(place) as directory:
        copies(machine, guest, directory, samples, rounds, "reflink", "--reflink=always")


def kill_spawn(machine, place, samples, rounds):
    """Both wait; the old one runs. From the kill until the new one runs."""
    def spawn():
        return Qemu(machine, "-incoming", "defer")

    def run(qemu):
        qemu.run(f"{place}/memory", MEMORY_BYTES, f"{place}/disk0", state=f"{place}/state")

    old = spawn()
    run(old)
    for _ in range(rounds):
        new = spawn()
        time.sleep(0.5)

        def swap(old=old, new=new):
            old.kill()
            run(new)
        timed(samples, "kill_spawn.running", swap)
        old = new
    old.kill()


def criu(place, samples, rounds):
    if not shutil.which("criu"):
        raise Missing("it is not installed (apt install criu)")
    check = subprocess.run(["criu", "check"], capture_output=True, text=True, check=False)
    if check.returncode != 0:
        raise Missing(f"'criu check' fails here: {check.stderr.strip().splitlines()[-1]}")
    for number in range(rounds):
        images = f"{place}/criu-{number}"
        os.mkdir(images)
        process = subprocess.Popen([sys.executable, "-c", HOLDER], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                   stderr=subprocess.DEVNULL, start_new_session=True)
        process.stdout.readline()
        timed(samples, "criu.dump", lambda: subprocess.run(
            ["criu", "dump", "-t", str(process.pid), "-D", images, "-o", "log"], check=True))
        process.wait()
        timed(samples, "criu.restore", lambda: subprocess.run(
            ["criu", "restore", "-d", "-D", images, "-o", "log", "--pidfile", f"{images}/pid"], check=True))
        with open(f"{images}/pid", encoding="utf-8") as file:
            os.kill(int(file.read()), 9)
        shutil.rmtree(images)


def measure(args):
    samples, rounds = Samples(), 3 if args.quick else 10
    os.environ["RAMET_POOL"] = str(SPARES)
    guest = os.path.abspath(args.guest)
    with tempfile.TemporaryDirectory(prefix="ramet-naive-") as place:
        with Daemon(args.bin, guest) as daemon:
            machine = ramet(daemon, samples, rounds)
            export(daemon, place)
        peers = {"kill_spawn": lambda: kill_spawn(machine, place, samples, rounds),
                 "savevm": lambda: savevm(machine, guest, place, samples, rounds),
                 "cp": lambda: copies(machine, guest, place, samples, rounds, "cp", "--sparse=auto"),
                 "reflink": lambda: reflink(machine, guest, place, samples, rounds),
                 "criu": lambda: criu(place, samples, rounds)}
        for name, peer in peers.items():
            try:
                peer()
            except Missing as why:
                print(f"{name} is missing: {why}")
    del os.environ["RAMET_POOL"]
    results = samples.series()
    return results, promises(results)


def promises(results):
    p50 = {r["name"]: r["p50"] for r in results}
    kept = [promise("rollback / kill and spawn of a VMM that waited, until it runs, p50",
                    p50["rollback.running"] / p50["kill_spawn.running"], "<=", 1.5)]
    for name in ("savevm", "cp", "reflink"):
        if f"{name}.pause" in p50:
            kept.append(promise(f"pause of {name} / of a live fork, p50", p50[f"{name}.pause"] / p50["fork.pause"], ">=", 2))
    return kept


def main():
    args = arguments(__doc__).parse_args()
    results, promised = measure(args)
    print_series(results)
    return finish("branch_naive", args.json, results, promised)


if __name__ == "__main__":
    sys.exit(main())
