#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Goal: an agent reaches what the policy gives it and nothing else, through every route and door, and the audit tells
of each attempt; no token or argument is in anything that can be read; what was tampered with is named.

usage: test_access.py BIN_DIR GUEST_DIR
"""
import hashlib
import http.client
import io
import json
import os
import re
import subprocess
import sys
import tarfile

import daemon as d

TOKENS = {name: f"{name}-token-{hashlib.sha256(name.encode()).hexdigest()[:24]}" for name in ("ops", "claude", "bob", "none")}
CREDENTIAL = "hunter2-planted-credential"
AGENT_UID = 64321 # claude's, whom the machine does not know


def policy(**agents):
    def entry(name, **more):
        return {"name": name, "token_sha256": hashlib.sha256(TOKENS[name].encode()).hexdigest(), "role": "agent"} | more
    own = {"operations": ["*"], "sandboxes": ["@own"], "snapshots": ["@own"], "workspaces": ["@own"]}
    return {"principals": [
        entry("ops", role="admin"),
        entry("claude", user="alice", uid=AGENT_UID, allow=[{"operations": ["runSandbox"], "snapshots": ["debian"]}, own]),
        entry("bob", tools=["memory/read_*"], allow=[own, {"operations": ["getSandbox", "listSandboxes"], "sandboxes": ["shared-*"]}]),
        entry("none", **agents)]}


def write_policy(vm, content):
    with open(f"{vm.top}/policy.new", "w", encoding="utf-8") as file:
        file.write(content if isinstance(content, str) else json.dumps(content))
    os.chmod(f"{vm.top}/policy.new", 0o600)
    os.rename(f"{vm.top}/policy.new", f"{vm.top}/policy")


def call(vm, who, method, path, body=None, **headers):
    """As the principal; a token given in full is sent as it is."""
    token = TOKENS.get(who, who)
    headers = {"Authorization": f"Bearer {token}"} | {key.replace("_", "-"): value for key, value in headers.items()}
    if body is not None:
        headers["Content-Type"] = "application/json"
    return vm.raw(method, path, None if body is None else json.dumps(body), headers)


def audit(vm, **want):
    """Lines that have these members; the actor's name as `who`."""
    lines = vm.get("/v1/audit?limit=1000")["lines"]
    return [line for line in lines if all((line["actor"].get("name") if key == "who" else line.get(key)) == value
                                          for key, value in want.items())]


def every_route(vm, check):
    """An agent without grants: each route of the daemon refuses it, and says so in the audit."""
    routes = vm.run_program([f"{vm.bin}/rametd", "--routes"]).stdout.split("\n")
    tried = []
    for method, path, operation in (line.split() for line in routes if line):
        if operation in ("getPrincipal", "getOpenapi") or path == "/mcp":
            continue
        path = re.sub(r"{\w+}", "anything", path)
        body = {} if method in ("POST", "PUT") else None
        tried.append(operation)
        check.fails(f"{operation} is refused", "denied", lambda m=method, p=path, b=body: call(vm, "none", m, p, b), 403,
                    ["none"], hint=True)
    told = {line["action"] for line in audit(vm, who="none", decision="denied")}
    check(set(tried) <= told, f"{len(tried)} refusals are in the audit", str(set(tried) - told))
    check(call(vm, "none", "GET", "/v1/principal")["role"] == "agent", "it may ask who it is")


def who(vm, check):
    check(call(vm, "claude", "GET", "/v1/principal")["user"] == "alice", "a token tells who calls")
    check.fails("a wrong token is refused, whoever the user is", "denied",
                lambda: call(vm, "wrong-token", "GET", "/v1/status"), 401)
    check.fails("a scheme that is none", "denied", lambda: vm.raw("GET", "/v1/status", None, {"Authorization": "Basic eA=="}),
                401)
    check.fails("a page of another origin", "denied",
                lambda: call(vm, "ops", "GET", "/v1/status", Origin="https://evil.example"), 403)
    check(call(vm, "ops", "GET", "/v1/status", Origin="http://localhost:5173")["pid"], "one of this host may call")
    check(vm.get("/v1/principal")["name"] in ("@root", "@owner"), "without a token the user counts")
    narrowed = call(vm, "ops", "GET", "/v1/principal", Ramet_Act="bob")
    check(narrowed["act"] == ["bob"] and narrowed["role"] == "agent", "an admin that acts through an agent is none")
    check.fails("and may not what only it may", "denied", lambda: call(vm, "ops", "POST", "/v1/store/gc", {}, Ramet_Act="bob"))
    check.fails("an actor nobody knows", "denied", lambda: call(vm, "ops", "GET", "/v1/status", Ramet_Act="nobody"))
    done = vm.ramet("policy", "whoami", "--json", RAMET_TOKEN=TOKENS["claude"], RAMET_ACT="bob")
    check(done.returncode == 0 and json.loads(done.stdout)["act"] == ["bob"], "ramet takes both from its environment",
          done.stdout + done.stderr)
    done = vm.ramet("store", "gc", RAMET_TOKEN=TOKENS["claude"])
    check(done.returncode == 10 and "admins only" in done.stderr, "ramet says why it is denied", done.stderr)


def other_user(vm, check):
    """By uid: user 65534 is in the policy after a change, without a restart."""
    if os.geteuid() != 0:
        print("     skipped: only root can become another user")
        return
    os.chmod(vm.top, 0o755)
    ask = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups", sys.executable, "-c",
           "import socket,sys; s=socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]);"
           "s.sendall(b'GET /v1/principal HTTP/1.0\\r\\n\\r\\n'); print(s.makefile().read())", vm.socket]
    done = vm.run_program(ask)
    check("403" in done.stdout, "a user the policy does not name is refused", done.stdout + done.stderr)
    changed = policy()
    changed["principals"].append({"name": "nobody", "uid": 65534, "role": "agent"})
    write_policy(vm, changed)
    done = vm.run_program(ask)
    check('"name":"nobody"' in done.stdout, "one that it names is known at once", done.stdout + done.stderr)
    write_policy(vm, '{"principals": [{"name": "x"}]}')
    done = vm.run_program(ask)
    check('"name":"nobody"' in done.stdout, "a broken policy changes nothing", done.stdout)
    check("role" in vm.get("/v1/policy")["error"], "and is told of")
    check.fails("reload says what is wrong", "invalid", lambda: vm.post("/v1/policy/reload", {}), 400, ["\"x\"", "role"])
    write_policy(vm, policy())
    check(vm.post("/v1/policy/reload", {})["error"] == "", "a good one is in force again")


def objects(vm, check):
    vm.boot("shared-1")
    mine = call(vm, "claude", "POST", "/v1/sandboxes", {"snapshot": "debian", "name": "mine", "memory_bytes": 128 << 20})
    check(mine["sandbox"]["name"] == "mine", "an agent starts what it may")
    forked = call(vm, "claude", "POST", "/v1/sandboxes/mine/fork", {"count": 2, "tag": "point"})
    child = forked["children"][0]["sandbox"]
    said = call(vm, "claude", "POST", f"/v1/sandboxes/{child['id']}/exec",
                {"argv": ["sh", "-c", "cat"], "stdin": CREDENTIAL})
    check(said["stdout"] == CREDENTIAL, "and runs commands in its child")

    def names(who):
        return sorted(s["name"] for s in call(vm, who, "GET", "/v1/sandboxes")["sandboxes"])
    check(names("claude") == sorted(["mine"] + [c["sandbox"]["name"] for c in forked["children"]]), "it lists its own")
    check(names("bob") == ["shared-1"], "another lists what it may see", str(names("bob")))
    check(len(names("ops")) == 4, "an admin lists all")
    for what, method, path, body in (
            ("show", "GET", "/v1/sandboxes/mine", None), ("show by id", "GET", f"/v1/sandboxes/{child['id']}", None),
            ("exec", "POST", "/v1/sandboxes/mine/exec", {"argv": ["id"]}),
            ("exec in what it may only see", "POST", "/v1/sandboxes/shared-1/exec", {"argv": ["id"]}),
            ("fork", "POST", "/v1/sandboxes/mine/fork", {}), ("remove", "DELETE", "/v1/sandboxes/mine", None),
            ("snapshot", "POST", "/v1/sandboxes/mine/snapshot", {}), ("pause", "POST", "/v1/sandboxes/mine/pause", {}),
            ("rollback", "POST", "/v1/sandboxes/mine/rollback", {"snapshot": "point"}),
            ("run what it may not", "POST", "/v1/sandboxes", {"snapshot": "debian"}),
            ("run the default", "POST", "/v1/sandboxes", {}),
            ("restore", "POST", "/v1/snapshots/point/restore", {}), ("show a snapshot", "GET", "/v1/snapshots/point", None),
            ("remove a snapshot", "DELETE", "/v1/snapshots/point", None),
            ("diff", "GET", "/v1/diff?from=shared-1&to=mine", None),
            ("tag another's", "PUT", "/v1/tags/taken", {"snapshot": "point"}),
            ("untag", "DELETE", "/v1/tags/point", None), ("what is not there", "GET", "/v1/sandboxes/no-such", None)):
        check.fails(f"another may not {what}", "denied", lambda m=method, p=path, b=body: call(vm, "bob", m, p, b), 403)
    check.fails("a tag of another's does not move", "denied",
                lambda: call(vm, "claude", "POST", "/v1/sandboxes/mine/snapshot", {"tag": "debian"}), 403)
    check(call(vm, "claude", "GET", "/v1/diff?from=mine&to=point")["images"], "its own objects may be compared")
    check(call(vm, "claude", "PUT", "/v1/tags/again", {"snapshot": "point"})["tags"] == ["again", "point"], "and tagged")
    return child


def archive(*members):
    """A tar archive of files of root's; a member is a name, and what else its header says."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name, more in members:
            info = tarfile.TarInfo(name)
            info.mode = 0o4755
            for key, value in more.items():
                setattr(info, key, value)
            tar.addfile(info)
    return out.getvalue()


def workspaces(vm, check):
    """Whose trees of files are: what an agent makes, what follows its forks, what it imports; and which user's."""
    def make(who, name, **more):
        return call(vm, who, "POST", "/v1/workspaces", {"name": name} | more)

    def seen(who):
        return sorted(w["name"] for w in call(vm, who, "GET", "/v1/workspaces")["workspaces"])

    def send(who, data, method="POST", path="/v1/workspaces/import?name=arrived"):
        return vm.raw(method, path, data, {"Authorization": f"Bearer {TOKENS[who]}", "Content-Type": "application/x-tar"})
    tree = make("claude", "tree")
    check(tree["uid"] == tree["gid"] == AGENT_UID and os.stat(tree["path"]).st_uid == AGENT_UID,
          "a workspace of an agent's is its user's", str(tree))
    check(make("claude", "said", uid=AGENT_UID)["uid"] == AGENT_UID, "also when it says so")
    check.fails("it chooses no other user", "denied", lambda: make("claude", "x", uid=0), 403, ["user 0"], hint=True)
    check.fails("and no group that its user is not in", "denied", lambda: make("claude", "x", gid=0), 403, ["group 0"])
    check(make("ops", "foreign", uid=7, gid=8)["gid"] == 8, "an admin chooses both")
    check.fails("an admin acting through an agent does not", "denied",
                lambda: call(vm, "ops", "POST", "/v1/workspaces", {"name": "x", "uid": 0}, Ramet_Act="claude"), 403)
    check.fails("nor through one whose user nobody knows", "denied",
                lambda: call(vm, "ops", "POST", "/v1/workspaces", {"name": "x"}, Ramet_Act="bob"), 403, ["no user is known"])

    call(vm, "claude", "POST", "/v1/workspaces/tree/attach", {"sandbox": "mine"})
    forked = call(vm, "claude", "POST", "/v1/sandboxes/mine/fork", {"names": ["heir"]})
    check(seen("claude") == ["heir.tree", "said", "tree"], "what follows an agent's fork is its own", str(seen("claude")))
    check(seen("bob") == [], "and nobody else's", str(seen("bob")))
    call(vm, "claude", "POST", "/v1/workspaces/heir.tree/snapshot", {"state": "s"})
    check.fails("another may not touch it", "denied", lambda: call(vm, "bob", "DELETE", "/v1/workspaces/heir.tree"), 403)
    for name in ("tree", "heir.tree", "foreign"):
        for what, method, path, body in (
                ("export", "GET", "/tar", None), ("merge from", "POST", "/merge", {"from": "said"}),
                ("fork", "POST", "/fork", {"name": "loot"}), ("diff", "GET", "/diff", None)):
            check.fails(f"another may not {what} {name}", "denied",
                        lambda m=method, p=f"/v1/workspaces/{name}{path}", b=body: call(vm, "bob", m, p, b), 403)
        check.fails(f"nor import into {name}", "denied", lambda n=name: send("bob", archive(("f", {})), "PUT", f"/v1/workspaces/{n}/tar"), 403)
    check.fails("an agent merges nothing of another's", "denied",
                lambda: call(vm, "claude", "POST", "/v1/workspaces/tree/merge", {"from": "foreign"}), 403)
    check.fails("nor with such a base", "denied",
                lambda: call(vm, "claude", "POST", "/v1/workspaces/tree/merge", {"from": "heir.tree", "base": "foreign"}), 403)
    check(call(vm, "claude", "POST", "/v1/workspaces/tree/merge", {"from": "heir.tree@s", "base": "tree"})["applied"], "but its own")

    made = send("claude", archive(("d", {"type": tarfile.DIRTYPE}), ("d/f", {}), ("x/y", {"pax_headers": {"SCHILY.xattr.user.a": "1"}})))
    owners = {os.lstat(f"{made['path']}/{name}").st_uid for name in (".", "d", "d/f", "x", "x/y")}
    check(owners == {AGENT_UID} and os.getxattr(f"{made['path']}/x/y", "user.a") == b"1",
          "all that an agent imports is its user's", str(owners))
    check("arrived" in seen("claude") and "arrived" not in seen("bob"), "in a workspace of its own")
    for what, members, words in (("a device", [("null", {"type": tarfile.CHRTYPE})], ["null", "devices"]),
                                 ("a capability", [("f", {"pax_headers": {"SCHILY.xattr.security.capability": "x"}})],
                                  ["\"f\"", "security.capability"])):
        for method, path in (("POST", "/v1/workspaces/import?name=bad"), ("PUT", "/v1/workspaces/tree/tar")):
            check.fails(f"but {what} by {method}", "denied", lambda a=members, m=method, p=path: send("claude", archive(*a), m, p), 403,
                        words)
    check.fails("nor for another user", "denied", lambda: send("claude", archive(), path="/v1/workspaces/import?name=bad&uid=0"), 403)
    root = send("ops", archive(("f", {"uid": 12}), ("null", {"type": tarfile.CHRTYPE, "devmajor": 1, "devminor": 3})),
                path="/v1/workspaces/import?name=whole")
    check(os.lstat(f"{root['path']}/f").st_uid == 12 and os.lstat(f"{root['path']}/null").st_rdev == os.makedev(1, 3),
          "an admin imports what there is")
    check(len(audit(vm, who="claude", action="importWorkspace", event="call")) == 4, "imports are in the audit",
          str(audit(vm, who="claude", action="importWorkspace")))
    call(vm, "claude", "DELETE", f"/v1/sandboxes/{forked['children'][0]['sandbox']['id']}")
    for name in call(vm, "ops", "GET", "/v1/workspaces")["workspaces"]:
        if name["name"] not in ("tree", "heir.tree"):
            call(vm, "ops", "DELETE", f"/v1/workspaces/{name['name']}")


def told(vm, check, child):
    begun = audit(vm, who="claude", action="execInSandbox", event="call")
    ended = audit(vm, who="claude", action="execInSandbox", event="result")
    check(len(begun) == len(ended) == 1 and ended[0]["call"] == str(begun[0]["seq"]), "a call and its end are two lines",
          str(begun + ended))
    check(begun[0]["object"] == f"sandbox:{child['id']}" and len(begun[0]["arguments_hmac"]) == 64, "with object and hash")
    check(audit(vm, who="bob", action="removeSandbox")[0]["event"] == "denied", "a refusal is one")


def tools(vm, check):
    """A tool is called by its name: one pattern lets no other through, and the audit has both."""
    check.fails("a tool that the pattern fits passes the gate", "not_found",
                lambda: call(vm, "bob", "POST", "/v1/tools/memory/read_graph/call", {}))
    for path in ("memory/delete_entities", "other/read_graph", "memory/read_%2F..%2Fdelete", "memory%2Fread_x/y"):
        check.fails(f"{path} is refused", ("denied", "not_found"), lambda p=path: call(vm, "bob", "POST", f"/v1/tools/{p}/call", {}))
    lines = audit(vm, who="bob", action="callTool", event="denied")
    check({"memory/delete_entities", "other/read_graph"} <= {f"{line['server']}/{line['gen_ai.tool.name']}" for line in lines},
          "each refusal is in the audit", str(lines))
    check.fails("servers are for admins", "denied", lambda: call(vm, "bob", "GET", "/v1/tools"), 403)


def restart(vm, check):
    """Who made what is known to the next daemon."""
    vm.down()
    vm.up("--policy", f"{vm.top}/policy", "--listen", "0")
    check(call(vm, "claude", "GET", "/v1/sandboxes/mine")["state"] == "lost", "an agent finds its own after a restart")
    check.fails("another does not", "denied", lambda: call(vm, "bob", "GET", "/v1/sandboxes/mine"))
    check(sorted(w["name"] for w in call(vm, "claude", "GET", "/v1/workspaces")["workspaces"]) == ["heir.tree", "tree"],
          "and its workspaces")
    call(vm, "claude", "DELETE", "/v1/sandboxes/mine")


def tcp(vm, check):
    port = int(re.findall(r"listening on TCP port (\d+)", vm.log())[-1])

    def get(path, **headers):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
        connection.request("GET", path, headers=headers)
        answer = connection.getresponse()
        return answer.status, answer.getheader("WWW-Authenticate"), answer.read().decode()
    status, scheme, _ = get("/v1/status")
    check(status == 401 and scheme == "Bearer", "TCP without a token is 401", f"{status} {scheme}")
    check(get("/v1/status", Authorization="Bearer x")[0] == 401, "and with a wrong one")
    status, _, text = get("/v1/principal", Authorization=f"Bearer {TOKENS['bob']}")
    check(status == 200 and json.loads(text)["door"] == "tcp", "with a token it is served", text)
    with open("/proc/net/tcp", encoding="utf-8") as file:
        listening = [line.split()[1] for line in file if line.split()[3] == "0A"]
    check(f"0100007F:{port:04X}" in listening, "it listens on 127.0.0.1 only", str(listening))


def secrets(vm, check):
    """Nothing that a person or program can read has a token or an argument in it."""
    places = {"the daemon's log": vm.log(), "the policy's route": json.dumps(vm.get("/v1/policy"))}
    for name in os.listdir(f"{vm.store}/audit"):
        with open(f"{vm.store}/audit/{name}", encoding="latin-1") as file:
            places[f"audit/{name}"] = file.read()
    for route in ("/v1/status", "/v1/tree", "/v1/sandboxes", "/v1/snapshots", "/v1/metrics", "/v1/audit?limit=1000"):
        answer = vm.get(route)
        places[route] = json.dumps(answer) if not isinstance(answer, bytes) else answer.decode()
    for what, text in places.items():
        found = [secret for secret in [CREDENTIAL, *TOKENS.values()] if secret in text]
        check(not found, f"no credential in {what}", str(found))


def tampered(vm, check):
    path = f"{vm.store}/audit/audit-000001.jsonl"
    check(vm.ramet("audit", "verify").returncode == 0, "the audit is sound")
    with open(path, "r+", encoding="utf-8") as file:
        lines = file.read().splitlines(keepends=True)
        at = next(i for i, line in enumerate(lines) if '"denied"' in line and '"name":"bob"' in line)
        honest = list(lines)
        lines[at] = lines[at].replace('"name":"bob"', '"name":"eve"')
        file.seek(0)
        file.write("".join(lines))
    done = vm.ramet("audit", "verify")
    check(done.returncode == 12 and f"line {at + 1}: it was changed" in done.stdout, "a changed line is named", done.stdout)
    done = vm.ramet("audit", "verify", "--dir", f"{vm.store}/audit")
    check(done.returncode == 12 and f"line {at + 1}: " in done.stdout, "from the files alone too", done.stdout)
    with open(path, "r+", encoding="utf-8") as file: # what the daemon added meanwhile stays
        text = file.read()
        file.seek(0)
        file.write("".join(honest) + text[len("".join(lines)):])
    check(vm.ramet("audit", "verify").returncode == 0, "the honest line is sound again")
    shown = vm.ramet("audit", "ls", "-n", "1000").stdout
    check("denied  bob" in shown and "removeSandbox" in shown, "audit ls shows it", shown[-500:])


def main():
    check = d.Checks()
    vm = d.Daemon(*d.arguments())
    try:
        write_policy(vm, {"principals": []})
        done = vm.ramet("up", "--policy", f"{vm.top}/policy", "--listen", "0")
        check(done.returncode == 2 and "bearer token" in done.stderr, "TCP without tokens does not start", done.stderr)
        write_policy(vm, policy())
        vm.up("--policy", f"{vm.top}/policy", "--listen", "0")
        every_route(vm, check)
        who(vm, check)
        other_user(vm, check)
        tools(vm, check)
        vm.import_guest()
        child = objects(vm, check)
        told(vm, check, child)
        workspaces(vm, check)
        restart(vm, check)
        tcp(vm, check)
        secrets(vm, check)
        tampered(vm, check)
    except Exception as error:  # a failed step ends the test, but never leaves a VM behind
        check(False, "no step fails", repr(error))
        print(vm.log()[-3000:])
    finally:
        vm.finish(check)
    return check.end()


if __name__ == "__main__":
    sys.exit(main())
