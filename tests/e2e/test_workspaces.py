#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Goal: workspaces through the daemon, as people use them: made, written on the mount, forked, compared, taken back; what is
told by the API is what the mount shows; a sandbox takes its workspaces along; all is there after a restart and a kill.

usage: test_workspaces.py BIN_DIR GUEST_DIR
"""
import json
import os
import subprocess
import sys

import daemon as d


def put(path, text):
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)


def text(path):
    with open(path, encoding="utf-8") as file:
        return file.read()


def by_api(vm, check):
    made = vm.post("/v1/workspaces", {"name": "work", "uid": 0, "quota_bytes": 1 << 30})
    path = made["path"]
    check(os.path.isdir(path) and made["quota_bytes"] == 1 << 30, "a workspace is where its path says")
    check.fails("a name once", "exists", lambda: vm.post("/v1/workspaces", {"name": "work"}), 409)
    check.fails("a name needed", "invalid", lambda: vm.post("/v1/workspaces", {}), 400)
    check.fails("members are known", "invalid", lambda: vm.post("/v1/workspaces", {"name": "x", "nmae": 1}), 400)
    put(f"{path}/f", "one\n")
    os.makedirs(f"{path}/d/e")
    put(f"{path}/d/e/g", "below\n")
    state = vm.post("/v1/workspaces/work/snapshot", {"state": "first"})
    check(text(f"{state['path']}/f") == "one\n", "a state is where its path says")
    put(f"{path}/f", "one\ntwo\n")
    fork = vm.post("/v1/workspaces/work/fork", {"name": "try"})
    check(fork["parent"] == made["id"] and text(f"{fork['path']}/f") == "one\ntwo\n", "a fork has what was there")
    put(f"{fork['path']}/f", "one\ntwo\nthree\n")
    os.rename(f"{fork['path']}/d/e", f"{fork['path']}/moved")
    check(text(f"{path}/f") == "one\ntwo\n" and os.path.exists(f"{path}/d/e/g"), "and its parent nothing of its changes")
    diff = vm.get("/v1/workspaces/try/diff?patch=1")
    what = {item["path"]: item["what"] for item in diff["items"]}
    check(what.get("f") == "content" and what.get("moved") == "renamed", "the diff names both", str(what))
    check("+three" in diff["patch"] and diff["lines_added"] == 1, "and has the line", diff["patch"])
    old = vm.post("/v1/workspaces/work/fork", {"name": "old", "state": "first"})
    check(text(f"{old['path']}/f") == "one\n", "a fork of a state has the state")
    before = vm.post("/v1/workspaces/work/rollback", {"state": "first"})["before"]
    check(text(f"{path}/f") == "one\n", "a rollback shows the state at once")
    check(text(f"{before['path']}/f") == "one\ntwo\n", "and keeps what was there")
    names = [s["name"] for s in vm.get("/v1/workspaces/work/history")["states"]]
    check(names == ["first", before["name"]], "history lists both", str(names))
    vm.delete("/v1/workspaces/work/history?state=first")
    check.fails("a state that was forgotten", "not_found",
                lambda: vm.post("/v1/workspaces/work/rollback", {"state": "first"}), 404)
    vm.post("/v1/workspaces/try/promote")
    check(text(f"{path}/f") == "one\ntwo\nthree\n" and os.path.exists(f"{path}/moved/g"), "a promoted fork is the parent")
    check(not os.path.exists(fork["path"]), "and nowhere else")
    vm.post("/v1/workspaces/work/rename", {"name": "main"})
    check(os.path.exists(f"{vm.mount}/workspaces/main/f") and not os.path.exists(path), "a new name, and no old one")
    vm.delete("/v1/workspaces/old")
    check([w["name"] for w in vm.get("/v1/workspaces")["workspaces"]] == ["main"], "one is left")
    check(sorted(os.listdir(f"{vm.mount}/workspaces")) == ["main"], "on the mount, too")


def by_cli(vm, check):
    done = vm.ramet("ws", "create", "cli", "--bytes", "1G")
    check(done.returncode == 0 and done.stdout.startswith("created cli: "), "ramet ws create", done.stderr)
    path = vm.get("/v1/workspaces/cli")["path"]
    put(f"{path}/a", "x\n")
    check(vm.ramet("ws", "snapshot", "cli", "s").returncode == 0, "ramet ws snapshot")
    put(f"{path}/a", "y\n")
    done = vm.ramet("ws", "diff", "cli", "@s", "--patch")
    check("-x" in done.stdout and "+y" in done.stdout, "ramet ws diff --patch", done.stdout + done.stderr)
    check(vm.ramet("ws", "fork", "cli", "cli-2", "--state", "s").returncode == 0, "ramet ws fork --state")
    check(vm.ramet("ws", "rollback", "cli", "s").returncode == 0 and text(f"{path}/a") == "x\n", "ramet ws rollback")
    listed = json.loads(vm.ramet("ws", "ls", "--json").stdout)["workspaces"]
    check([w["name"] for w in listed] == ["cli", "cli-2", "main"], "ramet ws ls --json", str(listed))
    check(vm.ramet("ws", "rm", "cli", "cli-2").returncode == 0, "ramet ws rm")
    check(vm.ramet("ws", "show", "cli").returncode != 0, "what was removed is not found")
    check(vm.ramet("ws", "nonsense").returncode != 0, "an unknown command is refused")


def merged(vm, check):
    """The kernel has everything of the target cached when a merge changes it behind its back."""
    path = vm.post("/v1/workspaces", {"name": "ours"})["path"]
    for name in ("both", "theirs", "gone", "moved"):
        put(f"{path}/{name}", "".join(f"line {i}\n" for i in range(30)))
    os.mkdir(f"{path}/d")
    other = vm.post("/v1/workspaces/ours/fork", {"name": "theirs"})["path"]
    put(f"{other}/theirs", "changed\n")
    put(f"{other}/both", text(f"{other}/both").replace("line 3\n", "line three\n"))
    put(f"{path}/both", text(f"{path}/both").replace("line 25\n", "line XXV\n"))
    put(f"{other}/d/new", "new\n")
    os.unlink(f"{other}/gone")
    os.rename(f"{other}/moved", f"{other}/d/moved")
    held = open(f"{path}/theirs", encoding="utf-8")
    cached = held.read(), sorted(os.listdir(path)), os.listdir(f"{path}/d"), os.path.exists(f"{path}/d/new")
    check(cached[2] == [] and not cached[3], "before the merge nothing of theirs is here")
    answer = vm.post("/v1/workspaces/ours/merge", {"from": "theirs"})
    check(answer["applied"] and answer["unresolved"] == 0, "a merge without conflicts is done", str(answer))
    held.seek(0)
    check(held.read() == "changed\n" == text(f"{path}/theirs"), "what is open shows it, no stale page")
    held.close()
    check(sorted(os.listdir(path)) == ["both", "d", "theirs"] and sorted(os.listdir(f"{path}/d")) == ["moved", "new"],
          "listings show it", str(os.listdir(path)))
    check(not os.path.exists(f"{path}/gone") and text(f"{path}/d/new") == "new\n", "so do names")
    check("line three" in text(f"{path}/both") and "line XXV" in text(f"{path}/both"), "a text that both edited is both")
    put(f"{path}/theirs", "ours now\n")
    put(f"{other}/theirs", "theirs again\n")
    answer = vm.post("/v1/workspaces/ours/merge", {"from": "theirs"})
    check(not answer["applied"] and [c["path"] for c in answer["conflicts"]] == ["theirs"], "a conflict is listed", str(answer))
    check(text(f"{path}/theirs") == "ours now\n", "and nothing done")
    done = vm.ramet("ws", "merge", "ours", "theirs")
    check(done.returncode not in (0, 1) and "theirs" in done.stdout, "ramet ws merge says so", done.stdout + done.stderr)
    answer = vm.post("/v1/workspaces/ours/merge", {"from": "theirs", "resolutions": {"theirs": "theirs"}})
    check(answer["applied"] and text(f"{path}/theirs") == "theirs again\n", "until it is resolved", str(answer))
    put(f"{path}/theirs", "ours decided\n")
    put(f"{other}/later", "later\n")
    answer = vm.post("/v1/workspaces/ours/merge", {"from": "theirs"})
    check(answer["applied"] and text(f"{path}/theirs") == "ours decided\n" and text(f"{path}/later") == "later\n",
          "a merge brings what changed since the one before it", str(answer))
    kept = [s["name"] for s in vm.get("/v1/workspaces/theirs/history")["states"]]
    check(len(kept) == 1 and kept[0].startswith("merged-"), "which is kept as one state", str(kept))
    check(vm.ramet("ws", "merge", "theirs", "ours").returncode == 0 and text(f"{other}/theirs") == "ours decided\n",
          "and the other way round it is known too")
    for name in ("ours", "theirs"):
        vm.delete(f"/v1/workspaces/{name}")


def with_sandbox(vm, check):
    vm.import_guest()
    vm.boot("web")
    vm.post("/v1/workspaces/main/attach", {"sandbox": "web"})
    path = f"{vm.mount}/workspaces/main"
    # A writer that never stops: whatever instant is taken holds a prefix of its lines.
    writer = subprocess.Popen([sys.executable, "-u", "-c", "import sys, itertools\n"
                               "for i in itertools.count():\n"
                               "    open(sys.argv[1] + '/log', 'a').write(f'{i}\\n')", path])
    d.wait_until(lambda: os.path.exists(f"{path}/log") and len(text(f"{path}/log")) > 200, 20)
    forked = vm.post("/v1/sandboxes/web/fork", {"names": ["kid-1", "kid-2"], "wait_durable": True})
    writer.kill()
    writer.wait()
    snapshot = forked["snapshot"]["id"]
    kids = [f"{vm.mount}/workspaces/kid-{i}.main" for i in (1, 2)]
    logs = [text(f"{kid}/log") for kid in kids]
    check(logs[0] == logs[1], "children have the workspace of one instant")
    lines = logs[0].splitlines()
    check(lines == [str(i) for i in range(len(lines))] and len(lines) > 20, "a prefix of what was written", str(lines[-3:]))
    check(text(f"{path}/log").startswith(logs[0]), "which the parent went on with")
    infos = {w["name"]: w for w in vm.get("/v1/workspaces")["workspaces"]}
    ids = {s["name"]: s["id"] for s in vm.sandboxes()}
    check(infos["kid-1.main"]["sandbox"] == ids["kid-1"], "a child's is attached to it")
    put(f"{kids[0]}/log", "ruined")
    vm.post("/v1/sandboxes/kid-1/rollback", {"snapshot": snapshot})
    check(text(f"{kids[0]}/log") == logs[0], "a rollback of the child takes its workspace back")
    put(f"{path}/log", "later")
    taken = vm.post("/v1/sandboxes/web/snapshot")["snapshot"]["id"]
    put(f"{path}/log", "even later")
    vm.post("/v1/sandboxes/web/rollback", {"snapshot": taken})
    check(text(f"{path}/log") == "later", "so does one of the parent to its own snapshot")
    states = [s["name"] for s in vm.get("/v1/workspaces/main/history")["states"]]
    check(f"snapshot-{taken}" in states and f"snapshot-{snapshot}" in states, "states are named after snapshots", str(states))
    for name in ("kid-1", "kid-2", "web"):
        vm.delete(f"/v1/sandboxes/{name}")
    vm.delete(f"/v1/snapshots/{snapshot}")
    states = [s["name"] for s in vm.get("/v1/workspaces/main/history")["states"]]
    check(f"snapshot-{snapshot}" not in states, "and go with them", str(states))
    for name in ("kid-1.main", "kid-2.main"):
        vm.delete(f"/v1/workspaces/{name}")


def lives_on(vm, check):
    path = f"{vm.mount}/workspaces/main"
    put(f"{path}/kept", "kept")
    fd = os.open(f"{path}/kept", os.O_RDONLY)
    os.fsync(fd)
    os.close(fd)
    vm.kill()
    vm.up()
    check(text(f"{path}/kept") == "kept", "what was synced is there after a kill")
    put(f"{path}/calm", "calm")
    vm.down()
    vm.up()
    check(text(f"{path}/calm") == "calm", "what was written is there after a stop")


def main():
    check = d.Checks()
    vm = d.Daemon(*d.arguments()).up()
    try:
        by_api(vm, check)
        by_cli(vm, check)
        merged(vm, check)
        with_sandbox(vm, check)
        lives_on(vm, check)
    finally:
        vm.finish(check)
    return check.end()


if __name__ == "__main__":
    sys.exit(main())
