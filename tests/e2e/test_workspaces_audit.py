#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Goal: opens of files in an audited workspace are in the audit, with who, which file and what for, whichever program opens
it and by whatever path; no other workspace's are; it stays so after a kill; and a program still works there as anywhere.

usage: test_workspaces_audit.py BIN_DIR GUEST_DIR
"""
import json
import os
import subprocess
import sys

import daemon as d

AGENT_UID = 64321
ROOT = os.geteuid() == 0


def write_policy(vm):
    with open(f"{vm.top}/policy", "w", encoding="utf-8") as file:
        json.dump({"principals": [{"name": "claude", "user": "alice", "uid": AGENT_UID, "role": "agent"}]}, file)
    os.chmod(f"{vm.top}/policy", 0o600)
    os.chmod(vm.top, 0o755)


def opens(vm, seen):
    """(object, access, name, uid) of the opens since the last call."""
    lines = [line for line in vm.get("/v1/audit?limit=1000")["lines"] if line["action"] == "openFile"]
    fresh = [(line["object"], line["access"], line["actor"].get("name"), line["actor"]["uid"], line["trigger"],
              line["decision"]) for line in lines if line["seq"] > seen[0]]
    seen[0] = max([line["seq"] for line in lines] + seen)
    return fresh


def told(vm, check):
    seen = [0]
    made = vm.post("/v1/workspaces", {"name": "work", "uid": AGENT_UID if ROOT else os.geteuid(), "audit_opens": True})
    path = made["path"]
    check(made["audit_opens"] and path == f"{vm.mount}/audited/work", "an audited workspace has a path of its own", str(made))
    who = {"user": AGENT_UID, "group": AGENT_UID, "extra_groups": []} if ROOT else {}
    subprocess.run(["sh", "-c", "mkdir src && echo '#!/bin/sh' > src/run && chmod +x src/run && ./src/run && cat src/run"],
                   cwd=path, check=True, stdout=subprocess.DEVNULL, **who)
    me = ("claude" if ROOT else "admin", AGENT_UID if ROOT else os.geteuid(), "mount", "allowed")
    fresh = opens(vm, seen)
    check(fresh[0] == ("file:work/src/run", "create, write") + me, "what is made is told, and by whom", str(fresh))
    check(("file:work/src/run", "execute") + me in fresh, "what is run is told", str(fresh))
    check(fresh[-1] == ("file:work/src/run", "read") + me, "what is read is told", str(fresh))
    with open(f"{vm.mount}/workspaces/work/src/run", "r+", encoding="utf-8"):
        pass
    fresh = opens(vm, seen)
    check(len(fresh) == 1 and fresh[0][:2] == ("file:work/src/run", "read, write"), "by the other path, too", str(fresh))
    plain = vm.post("/v1/workspaces", {"name": "plain"})["path"]
    with open(f"{plain}/a", "w", encoding="utf-8") as file:
        file.write("a")
    check(opens(vm, seen) == [], "opens elsewhere are not")
    return seen


def work(vm, check, seen):
    """A real program among many files; git opens, maps and renames them."""
    top = f"{vm.mount}/audited/work/repo"
    env = vm.env | {"HOME": vm.top, "GIT_CONFIG_NOSYSTEM": "1", "GIT_AUTHOR_NAME": "a", "GIT_AUTHOR_EMAIL": "a@b",
                    "GIT_COMMITTER_NAME": "a", "GIT_COMMITTER_EMAIL": "a@b"}
    subprocess.run(["git", "init", "-q", top], check=True, env=env)
    for i in range(40):
        with open(f"{top}/file-{i}", "w", encoding="utf-8") as file:
            file.write(f"{i}\n" * i)
    for argv in (["add", "-A"], ["commit", "-qm", "all"], ["fsck", "--strict"], ["gc", "-q"]):
        done = subprocess.run(["git", *argv], cwd=top, env=env, capture_output=True, text=True)
        check(done.returncode == 0, f"git {argv[0]}", done.stderr)
    fresh = {entry[:2] for entry in opens(vm, seen)}
    missing = [i for i in range(40) if not {(f"file:work/repo/file-{i}", "create, write"),
                                            (f"file:work/repo/file-{i}", "read")} <= fresh]
    check(not missing, "what git read of 40 files is told", str(missing))


def changed(vm, check, seen):
    done = vm.ramet("ws", "audit", "work", "off")
    check(done.returncode == 0 and f"{vm.mount}/workspaces/work" in done.stdout, "ramet ws audit off", done.stderr)
    with open(f"{vm.mount}/workspaces/work/src/run", encoding="utf-8"):
        pass
    check(opens(vm, seen) == [], "off is off")
    check(vm.ramet("ws", "audit", "work", "maybe").returncode == 2, "on or off")
    check.fails("opens is needed", "invalid", lambda: vm.post("/v1/workspaces/work/audit", {}), 400)
    check(vm.ramet("ws", "audit", "work", "on").returncode == 0, "ramet ws audit on")
    fork = vm.post("/v1/workspaces/work/fork", {"name": "fork"})
    check(fork["audit_opens"], "a fork of it is audited")
    vm.ramet("ws", "create", "by-cli", "--audit-opens")
    check(vm.get("/v1/workspaces/by-cli")["audit_opens"], "ramet ws create --audit-opens")
    vm.post("/v1/workspaces/work/sync", {})
    vm.kill()
    vm.up("--policy", f"{vm.top}/policy")
    with open(f"{fork['path']}/src/run", encoding="utf-8"):
        pass
    fresh = opens(vm, seen)
    check(len(fresh) == 1 and fresh[0][:2] == ("file:fork/src/run", "read"), "after a kill, too", str(fresh))
    check(vm.ramet("audit", "verify").returncode == 0, "the audit is sound")
    check(sorted(os.listdir(f"{vm.mount}/audited")) == ["by-cli", "fork", "work"], "they are listed",
          str(os.listdir(f"{vm.mount}/audited")))


def main():
    check = d.Checks()
    vm = d.Daemon(*d.arguments())
    try:
        write_policy(vm)
        vm.up("--policy", f"{vm.top}/policy")
        seen = told(vm, check)
        work(vm, check, seen)
        changed(vm, check, seen)
    finally:
        vm.finish(check)
    return check.end()


if __name__ == "__main__":
    sys.exit(main())
