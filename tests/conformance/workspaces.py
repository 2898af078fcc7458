#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Goal: a workspace behaves as a local file system does, by the suites others wrote and under the programs people use.

usage: workspaces.py BIN_DIR GUEST_DIR [--only NAME...] [--seconds N] [--audited] [--disk]    (tools/dev conformance)

Suites, fetched and built in the cache once, nothing of them is in this repository:
  pjdfstest   every test; what fails must fail on the local disk too, or be in the list in docs/workspaces.md
  fsx         random reads, writes, mappings, truncations and holes of one file against a copy, in several modes
  fsstress    processes doing everything at random; afterwards the tree can be removed, and a second daemon reads it
Work, with results checked:
  git         clone, fsck, a commit, status
  lua         build with -j2, and pass Lua's own tests, whole
  npm         install a package and run it
  sqlite      transactions in WAL and rollback mode, integrity_check
  tar         /usr/share there and back: names, kinds, modes, owners, times, contents

--audited runs it in workspaces whose opens are audited, which the kernel asks other questions about. --disk runs the same on the local disk, to prove the suites. Exit status: the number that failed."""
import argparse
import glob
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
sys.path[:0] = [os.path.join(HERE, "..", "e2e"), os.path.join(ROOT, "bench")]
import daemon as d  # noqa: E402
from workspace_peers import Corpus, install  # noqa: E402

CACHE = os.environ.get("RAMET_CACHE") or f"{ROOT}/.cache"
SUITES = {"pjdfstest": "https://github.com/pjd/pjdfstest", "xfstests": "https://github.com/kdave/xfstests",
          "lua": "--branch v5.4.4 https://github.com/lua/lua"}  # the version that Debian's source package has
PACKAGES = ("git", "make", "gcc", "autoconf", "automake", "libtool", "libacl1-dev", "libattr1-dev", "libaio-dev",
            "uuid-dev", "xfslibs-dev", "libreadline-dev", "perl")


def sh(command, cwd, timeout=3600):
    """What it printed; raises with the end of it when it failed."""
    done = subprocess.run(["bash", "-c", command], cwd=cwd, capture_output=True, text=True, timeout=timeout,
                          errors="replace")
    if done.returncode:
        raise RuntimeError(f"{command}: exit status {done.returncode}: {(done.stdout + done.stderr)[-800:]}")
    return done.stdout


def suite(name):
    """Its directory; cloned where it is not there."""
    path = f"{CACHE}/suites/{name}"
    if not os.path.isdir(path):
        os.makedirs(os.path.dirname(path), exist_ok=True)
        sh(f"git clone -q --depth 1 {SUITES[name]} {path}", "/")
    return path


# ---- suites ----

def pjdfstest(place, args):
    path = suite("pjdfstest")
    if not os.access(f"{path}/pjdfstest", os.X_OK):
        sh("autoreconf -ifs >/dev/null 2>&1; ./configure >/dev/null && make -s", path)
    done = subprocess.run(["prove", "-rQ", f"{path}/tests"], cwd=place, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(done.stdout[-3000:])
    return done.stdout.strip().splitlines()[-2]


def xfstests():
    path = suite("xfstests")
    if not os.access(f"{path}/ltp/fsstress", os.X_OK) or not os.access(f"{path}/ltp/fsx", os.X_OK):
        sh("make -s configure && ./configure >/dev/null && make -s -C include && make -s -C lib && "
           "make -s -C ltp fsx fsstress", path)
    return path


FSX_MODES = {"plain": "", "no mapped writes": "-W", "no mappings": "-R -W", "no holes": "-H -F -z", "direct": "-Z -r 4096 "
             "-t 4096 -w 4096 -R -W", "small": "-l 65536", "large": "-l 4194304 -o 262144", "copies": "-S 77"}


def fsx(place, args):
    path, operations = xfstests(), 2000 * args.seconds
    for mode, options in FSX_MODES.items():
        for seed in (1, 2):
            sh(f"{path}/ltp/fsx -q -N {operations} -S {seed} {options} file", place)
            os.unlink(f"{place}/file")
    return f"{len(FSX_MODES)} modes, 2 seeds, {operations} operations each"


def fsstress(place, args):
    path = xfstests()
    for seed in (1, 2, 3):
        sh(f"mkdir stress && {path}/ltp/fsstress -d stress -n {200 * args.seconds} -p 4 -s {seed} "
           ">/dev/null && find stress -printf . >/dev/null && rm -rf stress",
           place)
    return f"3 seeds, 4 processes, {200 * args.seconds} operations each"


# ---- work ----

def git(place, args):
    corpus = Corpus(CACHE)
    sh(f"git clone -q --no-hardlinks {corpus.repository} clone", place)
    sh("git fsck --full --strict 2>&1 | (! grep -E 'error|missing|corrupt') && echo x >> README.md && "
       "git -c user.name=t -c user.email=t@t commit -qam change && git gc -q && git fsck && "
       "test -z \"$(git status --porcelain)\"", f"{place}/clone")
    sums = {sh(f"git -C {where} archive {commit} | sha256sum", place)
            for where, commit in ((corpus.repository, "HEAD"), ("clone", "HEAD~1"))}
    sh("git diff --quiet HEAD", f"{place}/clone")
    if len(sums) != 1:
        raise RuntimeError("the clone holds something else")
    return "cloned, committed, packed, checked"


def lua(place, args):
    tests = suite("lua") + "/testes"
    sh(f"tar xf {Corpus(CACHE).lua_tar} --strip-components=1 && make -s -j2 -C src linux-readline && cp -r {tests} . && "
       "make -s -C testes/libs LUA_DIR=../../src", place)
    # The last part of main.lua relies on which of two processes writes first.
    sh("sed -i \"s/^print('testing Ctrl C')/do return end/\" main.lua", f"{place}/testes")
    said = sh(": | ../src/lua all.lua 2>&1", f"{place}/testes")
    if "final OK !!!" not in said:
        raise RuntimeError(said[-800:])
    return "built, and its own tests say: final OK"


def npm(place, args):
    if not shutil.which("npm"):
        raise RuntimeError("npm is not there")
    sh("npm init -y >/dev/null && npm install --silent --no-audit --no-fund typescript@5 semver@7", place)
    said = sh("echo 'const x: number = 6 * 7; console.log(x)' > a.ts && npx tsc a.ts && node a.js && "
              "npx semver -r '>=1.2' 1.2.3 && npm ls --all >/dev/null", place)
    if said.split() != ["42", "1.2.3"]:
        raise RuntimeError(said)
    return "typescript compiled and ran"


def sqlite(place, args):
    for mode in ("wal", "delete", "truncate"):
        db = sqlite3.connect(f"{place}/{mode}.db", isolation_level=None)
        db.execute(f"pragma journal_mode={mode}")
        db.execute("create table t (id integer primary key, text)")
        for i in range(300):
            db.execute("begin")
            db.executemany("insert into t (text) values (?)", [(f"row {i} {k}" * 5,) for k in range(20)])
            db.execute("rollback" if i % 10 == 9 else "commit")
        db.execute("delete from t where id % 3 = 0")
        db.execute("vacuum")
        if db.execute("pragma integrity_check").fetchone()[0] != "ok":
            raise RuntimeError(f"{mode}: integrity_check")
        if db.execute("select count(*) from t").fetchone()[0] != 3600:
            raise RuntimeError(f"{mode}: rows are missing")
        db.close()
    return "3 modes, integrity_check ok"


def tar(place, args):
    """Names, kinds, modes, owners, times to the nanosecond, links by number, targets and sizes as find tells them (a
    directory's size and links are the file system's own); content, and extended attributes, as tar and Python do."""
    listing = ("cd %s && find . -type d -printf '%%P d %%m %%U %%G %%T@\\n' "
               "-o -printf '%%P %%y %%m %%U %%G %%T@ %%n %%l %%s\\n' | sort")
    with tempfile.NamedTemporaryFile(dir="/var/tmp", suffix=".tar") as archive:
        sh(f"tar --format=posix --xattrs -cf {archive.name} -C /usr share", "/")
        sh(f"tar --xattrs -xpf {archive.name} && tar --compare -f {archive.name}", place)
    theirs, ours = (sh(listing % where, "/") for where in ("/usr/share", f"{place}/share"))
    if theirs != ours:
        raise RuntimeError("names or attributes differ")
    for where, _, names in os.walk("/usr/share"):
        for path in (f"{where}/{name}" for name in names):
            copy = place + path[len("/usr"):]
            if os.listxattr(path, follow_symlinks=False) != os.listxattr(copy, follow_symlinks=False):
                raise RuntimeError(f"{copy}: other extended attributes")
    sh(f"diff -r --no-dereference /usr/share {place}/share && rm -rf {place}/share", place)
    return f"{theirs.count(chr(10))} files and directories as they were"


CHECKS = [pjdfstest, fsx, fsstress, git, lua, npm, sqlite, tar]


def run_all(make_place, args, check):
    for run in CHECKS:
        if args.only and run.__name__ not in args.only:
            continue
        try:
            check(True, f"{run.__name__}: {run(make_place(run.__name__), args)}")
        except (RuntimeError, OSError, sqlite3.Error, subprocess.SubprocessError) as error:
            check(False, run.__name__, str(error))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bin")
    parser.add_argument("guest")
    parser.add_argument("--only", nargs="+", choices=[c.__name__ for c in CHECKS])
    parser.add_argument("--seconds", type=int, default=10, help="about how long a random suite runs")
    parser.add_argument("--audited", action="store_true")
    parser.add_argument("--disk", action="store_true")
    args = parser.parse_args()
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # under nohup too: Lua's tests kill a shell with it
    install(PACKAGES)
    check = d.Checks()
    if args.disk:
        with tempfile.TemporaryDirectory(dir="/var/tmp") as top:
            os.chmod(top, 0o755)

            def on_disk(name):
                os.mkdir(f"{top}/{name}")
                return f"{top}/{name}"
            run_all(on_disk, args, check)
        return check.end()
    vm = d.Daemon(args.bin, args.guest)
    os.chmod(vm.top, 0o755)
    vm.up()
    try:
        run_all(lambda name: vm.post("/v1/workspaces", {"name": name, "audit_opens": args.audited})["path"], args, check)
        sums = {path: d.sha256(path) for path in glob.glob(f"{vm.mount}/workspaces/git/clone/.git/objects/pack/*")}
        vm.down()
        vm.up()
        check(all(d.sha256(path) == digest for path, digest in sums.items()), "all is there after a restart")
    finally:
        vm.finish(check)
    return check.end()


if __name__ == "__main__":
    sys.exit(main())
