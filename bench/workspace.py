#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What a workspace costs beside a local disk and the file systems that do such things: ext4 (whatever the machine's disk
has), overlayfs, fuse-overlayfs, and libfuse's passthrough_hp. `tools/dev bench workspace [--quick] [--json FILE]
[--only ROWS] [--peers NAMES]`

Rounds; in each every system does everything, one after another, the order turned by one each round, so that noise meets
all alike. Rows:
  untar            git's source from a tar file          find      find and stat of all of it, the second time
  grep             grep -r through it, the second time    clone     git clone of a repository of it
  compile          make -j2 of Lua                        rm        rm -rf of git's source
  npm_ci, npm_rm   npm ci from a cache; rm -rf node_modules
  small operations and large files: ramet-workspace-load (its head says how)
  sqlite           a row a transaction, WAL, synchronous=NORMAL
And of forks, of a tree of 20,000 files and 256 MiB: the time of a fork and of a removal as the API answers (the peers:
of a mount over it), bytes of disk a fork takes, and what the first append to a file of 256 MiB costs. Ours: fork_bytes
is by how much the store's directory grew over all forks and a sync, divided by them, without the audit log, whose line
a fork is fork_audit_bytes; append_bytes is what the daemon wrote until the append was durable, its audit line and
answers to FUSE among it (wchar of /proc/PID/io), since files are laid out ahead and blocks would tell nothing. The
peers: what is in the upper directory.

FUSE is as quick as the machine wakes up: with /sys/module/haltpoll/parameters/guest_halt_poll_ns 0 a virtual CPU that
waits is slow to wake. The setting is part of the report; --halt-poll NS sets it for the run and puts it back."""
import contextlib
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "tools", "demo"))
from daemon import Daemon  # noqa: E402
from report import arguments, finish, number, promise, series  # noqa: E402
from workspace_peers import (Corpus, Ext4, FuseOverlayfs, Overlayfs, Passthrough, install, run)  # noqa: E402

HALT_POLL = "/sys/module/haltpoll/parameters/guest_halt_poll_ns"
LOAD = {"create": "us", "stat_after_write": "us", "open_read_close": "us", "unlink": "us", "sequential_read": "GB/s",
        "random_read": "op/s", "random_write": "op/s"}
BETTER_HIGH = ("sequential_read", "random_read", "random_write", "sqlite")


def halt_poll():
    with contextlib.suppress(OSError), open(HALT_POLL, encoding="utf-8") as file:
        return int(file.read())
    return None


def set_halt_poll(value):
    with open(HALT_POLL, "w", encoding="utf-8") as file:
        file.write(str(value))


class Ours:
    name = "ramet"

    def __init__(self, daemon):
        self.daemon = daemon
        self.workspace = daemon.json("workspace", "create", "tree")
        self.dir = self.workspace["path"]

    def close(self):
        self.daemon.run("workspace", "rm", "tree")


# ---- rows ----

def timed(call):
    began = time.monotonic()
    call()
    return time.monotonic() - began


def sqlite_rate(path, seconds):
    db = sqlite3.connect(path, isolation_level=None)
    db.execute("pragma journal_mode=wal")
    db.execute("pragma synchronous=normal")
    db.execute("create table t (id integer primary key, text)")
    count, began = 0, time.monotonic()
    while time.monotonic() - began < seconds:
        db.execute("begin")
        db.execute("insert into t (text) values (?)", ("x" * 100,))
        db.execute("commit")
        count += 1
    rate = count / (time.monotonic() - began)
    ok = db.execute("pragma integrity_check").fetchone()[0]
    db.close()
    if ok != "ok":
        raise RuntimeError(f"{path}: {ok}")
    return rate


class Round:
    """Everything one system does, in an empty tree."""

    def __init__(self, system, corpus, args):
        self.dir, self.corpus, self.args, self.rows = system.dir, corpus, args, {}
        self.name = system.name

    def row(self, name, unit, call):
        """`call` gives the value, or None: the time it took counts. Skipped unless asked for."""
        if self.args.only and name not in self.args.only:
            return
        began = time.monotonic()
        value = call()
        self.rows[name] = (unit, time.monotonic() - began if value is None else value)

    def sh(self, command):
        done = subprocess.run(["sh", "-c", command], cwd=self.dir, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"{self.name}: {command}: {done.stderr[-400:]}")

    def second(self, command):
        self.sh(command)
        return timed(lambda: self.sh(command))

    def trees(self):
        if not self.wants("untar", "find", "grep", "rm"):
            return
        untar = f"mkdir git && tar xf {self.corpus.git_tar} -C git"
        self.row("untar", "s", lambda: self.sh(untar))
        if not self.wants("untar"):
            self.sh(untar)
        self.row("find", "s", lambda: self.second("find git -printf '%s %T@\\n' >/dev/null"))
        self.row("grep", "s", lambda: self.second("grep -r no_such_word_in_here git || true"))
        self.row("rm", "s", lambda: self.sh("rm -rf git"))

    def wants(self, *rows):
        return not self.args.only or set(rows) & set(self.args.only)

    def builds(self):
        if not self.wants("clone", "compile"):
            return
        self.row("clone", "s", lambda: self.sh(f"git clone -q --no-hardlinks {self.corpus.repository} clone"))
        self.sh("rm -rf clone")
        self.sh(f"mkdir lua && tar xf {self.corpus.lua_tar} -C lua --strip-components=1")
        self.row("compile", "s", lambda: self.sh("make -s -C lua/src -j2 linux"))
        self.sh("rm -rf lua")

    def npm(self):
        if not self.corpus.has_npm or (self.args.quick and not self.args.only) or not self.wants("npm_ci", "npm_rm"):
            return
        self.sh(f"mkdir npm && cp {self.corpus.npm}/package*.json npm")
        self.row("npm_ci", "s", lambda: self.sh("cd npm && npm ci --silent --offline --no-audit --no-fund "
                                                f"--cache={self.corpus.npm_cache}"))
        self.row("npm_rm", "s", lambda: self.sh("rm -rf npm/node_modules"))
        self.sh("rm -rf npm")

    def load(self):
        if not self.wants(*LOAD):
            return
        files, size, seconds = (1000, 64 << 20, 0.5) if self.args.quick else (5000, 256 << 20, 2)
        values = json.loads(run(f"{self.args.bin}/ramet-workspace-load", self.dir, str(files), str(size), str(seconds)))
        for name, unit in LOAD.items():
            self.row(name, unit, lambda name=name: values[name])

    def database(self):
        self.row("sqlite", "txn/s", lambda: sqlite_rate(f"{self.dir}/db", 0.5 if self.args.quick else 2))

    def all(self):
        self.load()
        self.trees()
        self.builds()
        self.npm()
        self.database()
        return self.rows


# ---- forks ----

def fill_tree(path, quick):
    """20,000 files of 256 MiB in all, beside one file of 256 MiB."""
    directories, each, size = (20, 100, 13 << 10) if quick else (200, 100, 13 << 10)
    data = os.urandom(size)
    for d in range(directories):
        os.makedirs(f"{path}/d{d}")
        for f in range(each):
            with open(f"{path}/d{d}/f{f}", "wb") as file:
                file.write(d.to_bytes(4, "little") + f.to_bytes(4, "little") + data[8:])
    with open(f"{path}/large", "wb") as file:
        for _ in range(32 if quick else 256):
            file.write(os.urandom(1 << 20))


def disk_bytes(directory, without=None):
    total = 0
    for where, _, names in os.walk(directory):
        for name in names:
            if where == without:
                continue
            with contextlib.suppress(OSError):
                total += os.lstat(f"{where}/{name}").st_blocks * 512
    return total


def written_bytes(pid):
    """What a process handed to write(2) and its like so far."""
    with open(f"/proc/{pid}/io", encoding="ascii") as file:
        return int(dict(line.split(": ") for line in file)["wchar"])


def fork_ours(daemon, samples, args):
    """Times are of the API's answer over one connection, as a program has it."""
    from http_unix import Api  # noqa: E402
    api = Api(daemon.env["RAMET_SOCKET"])
    path = api.post("/v1/workspaces", {"name": "base"})["path"]
    fill_tree(path, args.quick)
    api.post("/v1/workspaces/base/sync")
    store, forks = daemon.env["RAMET_STORE"], 20 if args.quick else 200
    audit, pid = f"{store}/audit", api.get("/v1/status")["pid"]
    before, audit_before = disk_bytes(store, audit), disk_bytes(audit)
    for i in range(forks):
        began = time.monotonic()
        api.post("/v1/workspaces/base/fork", {"name": f"fork-{i}"})
        samples.add("ramet.fork", "us", (time.monotonic() - began) * 1e6)
    api.post("/v1/workspaces/base/sync")
    samples.add("ramet.fork_bytes", "bytes", max(0, disk_bytes(store, audit) - before) / forks)
    samples.add("ramet.fork_audit_bytes", "bytes", (disk_bytes(audit) - audit_before) / forks)
    for i in range(20):
        before, began = written_bytes(pid), time.monotonic()
        with open(f"{path[:-4]}fork-{i}/large", "ab") as file:
            file.write(b"x")
        samples.add("ramet.append", "us", (time.monotonic() - began) * 1e6)
        api.post(f"/v1/workspaces/fork-{i}/sync")
        samples.add("ramet.append_bytes", "bytes", written_bytes(pid) - before)
    for i in range(forks):
        began = time.monotonic()
        api.delete(f"/v1/workspaces/fork-{i}")
        samples.add("ramet.discard", "us", (time.monotonic() - began) * 1e6)
    api.delete("/v1/workspaces/base")


def fork_mounted(top, samples, args, program, name):
    """An overlay over the tree is what its users call a fork."""
    lower = f"{top}/lower"
    os.makedirs(lower)
    fill_tree(lower, args.quick)
    os.sync()
    for i in range(3 if args.quick else 10):
        for part in ("upper", "work", "tree"):
            os.makedirs(f"{top}/{part}")
        options = f"lowerdir={lower},upperdir={top}/upper,workdir={top}/work"
        began = time.monotonic()
        run(*program, "-o", options, f"{top}/tree")
        samples.add(f"{name}.fork", "us", (time.monotonic() - began) * 1e6)
        began = time.monotonic()
        with open(f"{top}/tree/large", "ab") as file:
            file.write(b"x")
        samples.add(f"{name}.append", "us", (time.monotonic() - began) * 1e6)
        samples.add(f"{name}.append_bytes", "bytes", disk_bytes(f"{top}/upper"))
        began = time.monotonic()
        run("umount", f"{top}/tree")
        for part in ("upper", "work", "tree"):
            shutil.rmtree(f"{top}/{part}")
        samples.add(f"{name}.discard", "us", (time.monotonic() - began) * 1e6)
    shutil.rmtree(top)


# ---- the run ----

class Samples(dict):
    def add(self, name, unit, value):
        self.setdefault(name, (unit, []))[1].append(value)

    def series(self):
        return [series(name, unit, values) for name, (unit, values) in self.items()]


def systems(top, daemon, corpus, args):
    makers = [lambda: Ours(daemon), lambda: Ext4(f"{top}/ext4"), lambda: Overlayfs(f"{top}/overlayfs"),
              lambda: FuseOverlayfs(f"{top}/fuse-overlayfs"),
              lambda: Passthrough(f"{top}/passthrough", corpus.passthrough)]
    names = ["ramet", "ext4", "overlayfs", "fuse-overlayfs", "passthrough_hp"]
    return [maker for maker, name in zip(makers, names) if not args.peers or name in args.peers + ["ramet"]]


def measure(args, top):
    corpus = Corpus(os.environ.get("RAMET_CACHE") or os.path.join(os.path.dirname(__file__), "..", ".cache"))
    samples = Samples()
    samples.add("halt_poll", "ns", halt_poll() or 0)
    with Daemon(args.bin, args.guest) as daemon:
        makers = systems(top, daemon, corpus, args)
        for i in range(args.rounds or (2 if args.quick else 5)):
            for maker in makers[i % len(makers):] + makers[:i % len(makers)]:
                system = maker()
                try:
                    for name, (unit, value) in Round(system, corpus, args).all().items():
                        samples.add(f"{system.name}.{name}", unit, value)
                finally:
                    system.close()
        if not args.only or "fork" in args.only:
            fork_ours(daemon, samples, args)
            if not args.peers or "overlayfs" in args.peers:
                fork_mounted(f"{top}/fork-overlayfs", samples, args, ["mount", "-t", "overlay", "overlay"], "overlayfs")
            if not args.peers or "fuse-overlayfs" in args.peers:
                fork_mounted(f"{top}/fork-fuse", samples, args, ["fuse-overlayfs"], "fuse-overlayfs")
    return samples.series()


def promises(results):
    p50 = {r["name"]: r["p50"] for r in results}

    def against(row, peer, op, bar):
        mine, theirs = p50.get(f"ramet.{row}"), p50.get(f"{peer}.{row}")
        return [promise(f"{row}, ramet / {peer}", mine / theirs, op, bar)] if mine and theirs else []

    made = []
    rows = [name.split(".", 1)[1] for name in p50 if name.startswith("ramet.")]
    for row in rows:
        if row in ("fork", "fork_bytes", "fork_audit_bytes", "append", "append_bytes", "discard"):
            continue
        for peer in ("fuse-overlayfs", "passthrough_hp"):
            made += against(row, peer, ">=" if row in BETTER_HIGH else "<=", 1.0)
    made += against("compile", "ext4", "<=", 1.05) + against("npm_ci", "ext4", "<=", 1.3)
    limits = {"create": 50, "stat_after_write": 8, "clone": 0.8, "fork": 1000, "fork_bytes": 0, "append_bytes": 65536,
              "discard": 10000}
    for row, limit in limits.items():
        if f"ramet.{row}" in p50:
            made.append(promise(f"{row}, p50", p50[f"ramet.{row}"], "<=", limit))
    return made


def print_table(results):
    """Rows down, systems across, medians."""
    p50 = {r["name"]: (r["p50"], r["unit"]) for r in results}
    names = sorted({n.split(".", 1)[0] for n in p50 if "." in n}, key=lambda n: (n != "ramet", n))
    rows = dict.fromkeys(n.split(".", 1)[1] for n in p50 if "." in n)
    print(f"{'':<18}{'':<7}" + "".join(f"{name:>16}" for name in names))
    for row in rows:
        cells = [p50.get(f"{name}.{row}") for name in names]
        unit = next(c[1] for c in cells if c)
        print(f"{row:<18}{unit:<7}" + "".join(f"{number(c[0]) if c else '-':>16}" for c in cells))


def main():
    parser = arguments(__doc__)
    parser.add_argument("--only", nargs="+", metavar="ROW")
    parser.add_argument("--peers", nargs="+", metavar="NAME")
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--halt-poll", type=int, metavar="NS")
    args = parser.parse_args()
    install()
    before = halt_poll()
    top = tempfile.mkdtemp(prefix="workspace-bench-", dir="/var/tmp")
    try:
        if args.halt_poll is not None:
            set_halt_poll(args.halt_poll)
        results = measure(args, top)
    finally:
        if args.halt_poll is not None and before is not None:
            set_halt_poll(before)
        shutil.rmtree(top, ignore_errors=True)
    print_table(results)
    missing = [] if any(r["name"] == "ramet.npm_ci" for r in results) or args.quick or args.only else ["npm_ci"]
    for row in missing:
        print(f"missing: {row} (npm or its registry is not there)")
    return finish("workspace", args.json, results, promises(results)) or (1 if missing else 0)


if __name__ == "__main__":
    sys.exit(main())
