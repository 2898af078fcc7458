#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Goal: what goes into a workspace as an archive or a directory is there with all its metadata, and comes out the same, as
GNU tar sees it; an import is whole or leaves nothing, whatever ends it: a bad archive, a client that goes away, a kill; and
none of it is held in memory.

usage: test_workspaces_tar.py BIN_DIR GUEST_DIR
"""
import hashlib
import http.client
import io
import os
import shutil
import stat
import subprocess
import sys
import tarfile

import daemon as d

ROOT = os.geteuid() == 0


def build(top):
    """A tree of everything that an archive can hold."""
    os.makedirs(f"{top}/d/e/{'long-' * 40}")
    os.makedirs(f"{top}/empty")
    for name, size in (("small", 5), ("d/page", 4096), ("d/e/odd", 100001), ("empty-file", 0)):
        with open(f"{top}/{name}", "wb") as file:
            file.write(os.urandom(size))
    with open(os.fsencode(top) + b"/name-\xff-not-utf8", "wb") as file:
        file.write(b"x")
    with open(f"{top}/sparse", "wb") as file:
        file.truncate(64 << 20)
        file.seek(16 << 20)
        file.write(b"in the middle" * 1000)
    os.link(f"{top}/small", f"{top}/d/hard")
    os.link(f"{top}/small", f"{top}/hard-2")
    os.symlink("small", f"{top}/link")
    os.symlink("/no/such/place", f"{top}/d/dangling")
    os.mkfifo(f"{top}/fifo", 0o620)
    os.setxattr(f"{top}/small", "user.color", b"blue\x00\xff")
    os.setxattr(f"{top}/d", "user.of-a-directory", b"1")
    if ROOT:
        os.mknod(f"{top}/null", 0o666 | stat.S_IFCHR, os.makedev(1, 3))
        os.chown(f"{top}/d/page", 1234, 5678)
        os.chown(f"{top}/link", 99, 98, follow_symlinks=False)
    os.chmod(f"{top}/d/page", 0o4711)
    os.chmod(f"{top}/d/e", 0o2750)
    os.chmod(f"{top}/empty", 0o1777)
    for at, (where, dirs, files) in enumerate(os.walk(top, topdown=False)):
        for name in files + dirs + ["."]:
            ns = 1_500_000_000_123_456_789 + at * 1_000_000_007
            os.utime(os.path.join(where, name), ns=(ns, ns), follow_symlinks=False)


def facts(path, first):
    info = os.lstat(path)
    told = [stat.S_IFMT(info.st_mode), stat.S_IMODE(info.st_mode), info.st_mtime_ns]
    if not stat.S_ISDIR(info.st_mode):
        told += [info.st_nlink, info.st_size, info.st_rdev, first.setdefault(info.st_ino, path_key(path))]
    told += [info.st_uid, info.st_gid]
    if stat.S_ISLNK(info.st_mode):
        return told + [os.readlink(path)]
    told.append(sorted((name, os.getxattr(path, name)) for name in os.listxattr(path)))
    if stat.S_ISREG(info.st_mode):
        with open(path, "rb") as file:
            told.append(hashlib.sha256(file.read()).hexdigest())
        told.append(info.st_blocks * 512 < info.st_size // 2) # holes are holes
    return told


def path_key(path):
    return os.path.basename(path)


def walk(top):
    """Everything about a tree; of hard links, which names are one file."""
    first, found, top = {}, {}, os.fsencode(top)
    paths = [top]
    for where, dirs, files in os.walk(top):
        dirs.sort()
        paths += sorted(os.path.join(where, name) for name in dirs + files)
    for path in sorted(paths):
        found[os.path.relpath(path, top)] = facts(path, first)
    return found


def difference(a, b):
    return str([(name, a.get(name), b.get(name)) for name in sorted(set(a) | set(b)) if a.get(name) != b.get(name)][:3])


def names(vm):
    return sorted(w["name"] for w in vm.get("/v1/workspaces")["workspaces"])


def put(path, text):
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)


def round_trip(vm, check, tree):
    want = walk(tree)
    archive = f"{vm.top}/tree.tar"
    tar = ["tar", "--format=pax", "--xattrs", "--xattrs-include=*", "--sparse", "-C", tree]
    subprocess.run([*tar, "-cf", archive, "."], check=True)
    done = vm.ramet("ws", "import", "from-file", archive)
    check(done.returncode == 0 and done.stdout.startswith("imported "), "ramet ws import of a file", done.stderr)
    done = vm.ramet("ws", "import", "from-dir", tree)
    check(done.returncode == 0, "and of a directory", done.stderr)
    packed = subprocess.run([*tar, "-czf", "-", "."], check=True, capture_output=True).stdout
    done = subprocess.run([f"{vm.bin}/ramet", "ws", "import", "from-pipe", "-"], input=packed, env=vm.env, capture_output=True)
    check(done.returncode == 0, "and of a compressed one from standard input", done.stderr.decode())
    for name in ("from-file", "from-dir", "from-pipe"):
        got = walk(f"{vm.mount}/workspaces/{name}")
        check(got == want, f"{name} is as the tree was, with all metadata", difference(want, got))
    with open(f"{vm.top}/out.tar", "wb") as out:
        done = subprocess.run([f"{vm.bin}/ramet", "ws", "export", "from-file"], stdout=out, stderr=subprocess.PIPE, env=vm.env)
    check(done.returncode == 0 and os.path.getsize(f"{vm.top}/out.tar") < 4 << 20, "ramet ws export, without the holes",
          done.stderr.decode())
    if ROOT:
        done = subprocess.run(["tar", "--compare", "-f", f"{vm.top}/out.tar", "-C", tree], capture_output=True, text=True)
        check(done.returncode == 0, "GNU tar finds no difference to the tree", done.stdout + done.stderr)
        os.mkdir(f"{vm.top}/unpacked")
        subprocess.run(["tar", "--xattrs", "--xattrs-include=*", "-xpf", f"{vm.top}/out.tar", "-C", f"{vm.top}/unpacked"], check=True)
        got = walk(f"{vm.top}/unpacked")
        check(got == want, "and unpacks it as it was", difference(want, got))


def exported(vm, state="", path=""):
    query = "&".join(f"{key}={value}" for key, value in (("state", state), ("path", path)) if value)
    data = vm.raw("GET", f"/v1/workspaces/parts/tar{'?' if query else ''}{query}")
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        return {member.name: archive.extractfile(member).read().decode() for member in archive if member.isreg()}


def parts(vm, check):
    path = vm.post("/v1/workspaces", {"name": "parts"})["path"]
    os.makedirs(f"{path}/src/deep")
    put(f"{path}/src/a", "old")
    put(f"{path}/src/deep/b", "below")
    put(f"{path}/top", "top")
    vm.post("/v1/workspaces/parts/snapshot", {"state": "then"})
    put(f"{path}/src/a", "new")
    check(exported(vm) == {"./src/a": "new", "./src/deep/b": "below", "./top": "top"}, "an export has the whole")
    check(exported(vm, path="src") == {"./a": "new", "./deep/b": "below"}, "or a directory, with names from there")
    check(exported(vm, path="/src/deep/b") == {"b": "below"}, "or a file")
    check(exported(vm, state="then", path="src") == {"./a": "old", "./deep/b": "below"}, "of a past state, too")
    check.fails("what is not there", "not_found", lambda: exported(vm, path="src/none"), 404, ["src/none"])
    check.fails("nor a state", "not_found", lambda: exported(vm, state="never"), 404, ["never"])


def into(vm, check, tree):
    """Into a workspace that programs have open and change."""
    path = f"{vm.mount}/workspaces/parts"
    held = open(f"{path}/top", "r+", encoding="utf-8")
    os.listdir(path), os.path.exists(f"{path}/deps/small")
    archive = f"{vm.top}/tree.tar"
    done = vm.ramet("ws", "import", "parts", archive, "--into", "deps/of/mine")
    check(done.returncode == 0, "ramet ws import --into", done.stderr)
    got, want = walk(f"{path}/deps/of/mine"), walk(tree)
    check(got == want, "a directory of a workspace is as the tree was, with its times", difference(want, got))
    held.write("TOP")
    held.close()
    with open(f"{path}/top", encoding="utf-8") as file:
        check(file.read() == "TOP", "what was open stays so")
    done = vm.ramet("ws", "import", "parts", archive, "--into", "deps/of/mine")
    got = walk(f"{path}/deps/of/mine")
    check(done.returncode == 0 and got == want, "once more, over itself", done.stderr + difference(want, got))
    put(f"{path}/deps/of/mine/small", "another")
    put(f"{path}/deps/of/mine/own", "own")
    check(vm.ramet("ws", "import", "parts", archive, "--into", "deps/of/mine").returncode == 0, "over what was changed")
    with open(f"{path}/deps/of/mine/own", encoding="utf-8") as file:
        check(file.read() == "own" and os.path.getsize(f"{path}/deps/of/mine/small") == 5, "the archive wins, the rest stays")
    check(names(vm) == ["from-dir", "from-file", "from-pipe", "parts"], "nothing else is left", str(names(vm)))


def refused(vm, check):
    before = names(vm)
    with open(f"{vm.top}/tree.tar", "rb") as file:
        good = file.read()

    def send(data, to="POST /v1/workspaces/import?name=bad"):
        method, path = to.split()
        return vm.raw(method, path, data, {"Content-Type": "application/x-tar"})

    def archive(*members):
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w") as tar:
            for name, kind in members:
                info = tarfile.TarInfo(name)
                info.type = kind
                info.linkname = "/etc"
                tar.addfile(info)
        return out.getvalue()

    plain = ("first", tarfile.REGTYPE)
    for what, data, words in (
            ("that is none", os.urandom(70000), []), ("that is empty", b"", []),
            ("that ends in a file", good[:len(good) // 2 // 512 * 512 + 100], []),
            ("with a way out", archive(plain, ("a/../../out", tarfile.REGTYPE)), ["a/../../out"]),
            ("through a link", archive(plain, ("l", tarfile.SYMTYPE), ("l/passwd", tarfile.REGTYPE)), ["l/passwd"]),
            ("with the reserved name", archive(plain, (".ramet/x", tarfile.REGTYPE)), [".ramet/x"]),
            ("with a link to nothing", archive(plain, ("h", tarfile.LNKTYPE)), ["\"h\""]),
            ("with a damaged header", archive(plain, ("second", tarfile.REGTYPE))[:512] + b"\x00x" * 256 + good, ["first"])):
        check.fails(f"an archive {what}", ("invalid", "not_found"), lambda b=data: send(b), None, words)
        check.fails(f"nor into one: {what}", ("invalid", "not_found"),
                    lambda b=data, q="" if ".ramet/x" in words else "?into=bad": send(b, f"PUT /v1/workspaces/parts/tar{q}"), None, words)
    check(names(vm) == before and not os.path.exists(f"{vm.mount}/workspaces/parts/bad"), "leave nothing", str(names(vm)))
    check.fails("a name that is taken", "exists", lambda: send(good, "POST /v1/workspaces/import?name=parts"), 409)
    check.fails("a workspace that is none", "not_found", lambda: send(good, "PUT /v1/workspaces/none/tar"), 404)
    check.fails("no name", "invalid", lambda: send(good, "POST /v1/workspaces/import"), 400, ["name"])
    check.fails("a quota is kept", "no_space", lambda: send(good, "POST /v1/workspaces/import?name=bad&quota_inodes=3"))
    check(names(vm) == before, "and nothing is left of that either", str(names(vm)))
    done = vm.ramet("ws", "import", "bad", f"{vm.top}/no-such")
    check(done.returncode != 0 and "no-such" in done.stderr, "ramet says which file it cannot read", done.stderr)
    check(names(vm) == before, "and made nothing")


def upload(vm, target, data):
    """A request whose body has begun and does not end."""
    connection = d.Connection(vm.socket, 60)
    connection.putrequest("POST", target)
    connection.putheader("Transfer-Encoding", "chunked")
    connection.endheaders()
    for at in range(0, len(data), 65536):
        piece = data[at:at + 65536]
        connection.send(b"%x\r\n%s\r\n" % (len(piece), piece))
    return connection


def broken_off(vm, check):
    """At the border of two members, where the archive itself looks whole."""
    before = names(vm)
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for i in range(500):
            info = tarfile.TarInfo(f"file-{i}")
            info.size = 1024
            tar.addfile(info, io.BytesIO(b"x" * 1024))
    half = out.getvalue()[:1536 * 250]

    def begun():
        return any(name.startswith("import-") for name in names(vm))
    connection = upload(vm, "/v1/workspaces/import?name=half", half)
    check(d.wait_until(begun, 20), "an import under way has a name of its own", str(names(vm)))
    check("half" not in names(vm), "and not the one it is to get")
    connection.close()
    check(d.wait_until(lambda: names(vm) == before, 20), "a client that goes away leaves nothing", str(names(vm)))
    connection = upload(vm, "/v1/workspaces/import?name=half", half)
    check(d.wait_until(begun, 20), "another one")
    vm.ramet("ws", "sync", "parts")
    vm.kill()
    connection.close()
    vm.up()
    check(names(vm) == before, "after a kill nothing is left of it", str(names(vm)))
    connection = upload(vm, "/v1/workspaces/import?name=half", half)
    check(d.wait_until(begun, 20), "a third one")
    down = subprocess.Popen([f"{vm.bin}/ramet", "down"], env=vm.env)
    with_end = False
    try: # the daemon cuts it off, at the latest when it sends more
        for _ in range(600):
            connection.send(b"1\r\nx\r\n")
            if down.poll() is not None:
                break
            d.time.sleep(0.05)
        with_end = True
    except (OSError, http.client.HTTPException):
        pass
    connection.close()
    check(down.wait(60) == 0, "a stop does not wait for it", str(with_end))
    d.wait_until(lambda: not d.processes_of(vm.top), 20)
    vm.up()
    check(names(vm) == before, "and leaves nothing either", str(names(vm)))


def peak(vm):
    with open(f"/proc/{vm.pid}/status", encoding="utf-8") as file:
        return next(int(line.split()[1]) >> 10 for line in file if line.startswith("VmHWM:"))


def streams(vm, check):
    """Three files of 64 MB, of which the second half of each is the same."""
    before, block = peak(vm), os.urandom(1 << 20)
    big = f"{vm.top}/big"
    os.mkdir(big)
    for name in "abc":
        with open(f"{big}/{name}", "wb") as file:
            for i in range(64):
                file.write(os.urandom(1 << 20) if i < 32 else block)
    done = vm.ramet("ws", "import", "big", big)
    check(done.returncode == 0, "192 MB come in", done.stderr)
    with open(f"{vm.top}/big.tar", "wb") as out:
        done = subprocess.run([f"{vm.bin}/ramet", "ws", "export", "big"], stdout=out, stderr=subprocess.PIPE, env=vm.env)
    done = subprocess.run(["tar", "--compare", "-f", f"{vm.top}/big.tar", "-C", big], capture_output=True, text=True)
    check(done.returncode == 0, "and go out as they were", done.stdout[-300:] + done.stderr[-300:])
    check(peak(vm) - before < 128, "in little memory", f"{before} MB, then {peak(vm)} MB")
    out = subprocess.Popen([f"{vm.bin}/ramet", "ws", "export", "big"], stdout=subprocess.PIPE, env=vm.env)
    out.stdout.read(100000)
    out.kill()
    out.wait()
    out.stdout.close()
    check(vm.ramet("ws", "rm", "big").returncode == 0, "an export whose reader goes away hinders nobody")


def main():
    check = d.Checks()
    vm = d.Daemon(*d.arguments()).up()
    tree = f"{vm.top}/tree"
    try:
        build(tree)
        round_trip(vm, check, tree)
        parts(vm, check)
        into(vm, check, tree)
        refused(vm, check)
        broken_off(vm, check)
        streams(vm, check)
    finally:
        vm.finish(check)
        shutil.rmtree(tree, ignore_errors=True)
    return check.end()


if __name__ == "__main__":
    sys.exit(main())
