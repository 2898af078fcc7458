#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What tools cost as files: `tools/dev bench tools [--quick] [--json FILE]`.

Tokens (o200k_base): the definitions of every tool of seven real MCP servers, as a client that lists them would hand
them to a model, against what a model reads of the files for a task with one tool of each of two servers. Ways to read:
`search` is two searches and two definitions; `first` the same with README.md before, which is read once for any number
of tasks; `index` is INDEX, two servers' indexes and two definitions; `prose` as search, with the .md files instead of
the definitions. Promised is `search`, which reads no description that is not lossless.

Time: listing, reading and searching the files of 1,000 tools, from a program that opens and reads (no shell); what the
kernel keeps of a file's pages is dropped with its number, names are asked for each time. Then calls: the same tool of
a real server called over its own pipe by the reference SDK's way of speaking, by the API's socket, by the Python stub
in one process, by the shell stub.

Servers: tests/mcp/package.json, in .cache/mcp. None is asked for anything but its lists and its echo."""
import contextlib
import importlib.util
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time

from report import arguments, finish, print_series, promise, series

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "tests", "e2e"))
import daemon as d  # noqa: E402

MCP = os.path.join(os.environ.get("RAMET_CACHE") or os.path.join(HERE, "..", ".cache"), "mcp")
BIN = os.path.join(MCP, "node_modules", ".bin")
SERVERS = {"everything": ["mcp-server-everything"], "filesystem": ["mcp-server-filesystem", "{top}"],
           "memory": ["mcp-server-memory"], "sequential-thinking": ["mcp-server-sequential-thinking"],
           "playwright": ["playwright-mcp", "--caps=vision,pdf,devtools"],
           "chrome-devtools": ["chrome-devtools-mcp", "--categoryExtensions", "--experimentalVision"],
           "github": ["mcp-server-github"]}
# A task, the words a model would search for, and the tool that does it: two servers each.
TASKS = [
    ("a page's picture into a file", ("take screenshot", "playwright/browser_take_screenshot"),
     ("write file", "filesystem/write_file")),
    ("facts of a document into the graph", ("read text file", "filesystem/read_text_file"),
     ("add observations to entities", "memory/add_observations")),
    ("console errors into the graph", ("console messages", "chrome-devtools/list_console_messages"),
     ("create entities", "memory/create_entities")),
    ("a page's text into a file", ("navigate to url", "playwright/browser_navigate"),
     ("create directory", "filesystem/create_directory")),
    ("which files the graph knows", ("search nodes", "memory/search_nodes"), ("search files", "filesystem/search_files")),
    ("numbers of a file, summed", ("read multiple files", "filesystem/read_multiple_files"),
     ("sum of numbers", "everything/get-sum")),
    ("requests of a page, kept", ("network requests", "chrome-devtools/list_network_requests"),
     ("write file", "filesystem/write_file")),
    ("a file to an issue", ("read text file", "filesystem/read_text_file"), ("create issue", "github/create_issue")),
]
COUNT = """import {encode} from "gpt-tokenizer/encoding/o200k_base";
const texts = JSON.parse(require("fs").readFileSync(0, "utf8"));
console.log(JSON.stringify(texts.map((t) => encode(t).length)));"""


def tokens(texts):
    """Of each text."""
    script = COUNT.replace("import {encode} from", "const {encode} = require(").replace('o200k_base";', 'o200k_base");')
    done = subprocess.run(["node", "-e", script], input=json.dumps(texts), cwd=MCP, capture_output=True, text=True,
                          check=True)
    return json.loads(done.stdout)


def read(vm, path):
    with open(f"{vm.mount}/tools/{path}", encoding="utf-8") as file:
        return file.read()


def add_servers(vm):
    for name, (program, *args) in SERVERS.items():
        config = {"command": os.path.join(BIN, program), "args": [arg.format(top=vm.top) for arg in args]}
        vm.post("/v1/tools", {"server": name, "config": config})
    for name in SERVERS:
        vm.post(f"/v1/tools/{name}/refresh", {"timeout_ms": 120000}, timeout=150)


# Tokens

def count_tokens(vm, say):
    documents = {name: vm.get(f"/v1/tools/{name}/document") for name in SERVERS}
    definitions = [tool for document in documents.values() for tool in document["tools"]]
    whole = tokens([json.dumps(definitions, ensure_ascii=False, separators=(",", ":"))])[0]
    say(f"{len(definitions)} tools of {len(SERVERS)} servers: {whole} tokens of definitions")
    results, least = [], {}
    for way in ("search", "first", "index", "prose"):
        costs = []
        for task, *parts in TASKS:
            texts = [read(vm, "README.md")] if way == "first" else []
            for words, tool in parts:
                hits = read(vm, f"search/{words}")
                if f"{tool}:" not in hits:
                    raise RuntimeError(f"search/{words} does not find {tool}:\n{hits}")
                server = tool.split("/")[0]
                texts.append(hits if way != "index" else read(vm, f"{server}/INDEX"))
                texts.append(read(vm, f"{tool}.{'md' if way == 'prose' else 'json'}"))
            if way == "index":
                texts.append(read(vm, "INDEX"))
            costs.append(sum(tokens(texts)))
            say(f"  {way:<7}{costs[-1]:>6} {100 * (1 - costs[-1] / whole):.1f} % less  {task}")
        results.append(series(f"tokens, {way}", "tokens", costs))
        least[way] = 100 * (1 - max(costs) / whole)
    results.append(series("tokens, all definitions", "tokens", [whole]))
    return results, [promise("tools whose definitions are compared", len(definitions), ">=", 100),
                     promise("tokens saved by a search, the worst task, %", least["search"], ">=", 97),
                     promise("tokens saved with README.md read before, the worst task, %", least["first"], ">=", 96)]


# Time

def planted(count):
    """A document of as many tools as asked for, described in words that differ."""
    rng = random.Random(1)
    verbs = "list read write create delete search update move copy open close merge send fetch check".split()
    things = "issue page file branch entity message invoice ticket user folder event report image note order".split()
    tools = []
    for i in range(count):
        verb, thing, other = rng.choice(verbs), rng.choice(things), rng.choice(things)
        tools.append({"name": f"{verb}_{thing}_{i}", "description": f"{verb.title()} a {thing} of the {other}. " * 3,
                      "inputSchema": {"type": "object", "required": [f"{thing}_id"], "properties": {
                          f"{thing}_id": {"type": "string", "description": f"Which {thing}."},
                          "limit": {"type": "integer", "minimum": 1, "default": 20},
                          "state": {"enum": ["open", "closed", "all"]}}}})
    return {"server": "many", "protocolVersion": "2025-11-25", "serverInfo": {"name": "many", "version": "1"},
            "tools": tools, "prompts": [], "resources": [], "resourceTemplates": []}


def timed(call, count):
    samples = []
    for i in range(count):
        began = time.perf_counter_ns()
        call(i)
        samples.append((time.perf_counter_ns() - began) / 1000)
    return samples


def read_raw(path):
    fd = os.open(path, os.O_RDONLY)
    while os.read(fd, 1 << 16):
        pass
    os.close(fd)


def time_files(vm, quick):
    top = f"{vm.mount}/tools/many"
    names = sorted(os.listdir(top))
    definitions = [name for name in names if name.endswith(".json")]
    queries = ["send message", "merge branch report", "open ticket", "update invoice limit", "folder"]
    n = 200 if quick else 2000
    lists = timed(lambda i: os.listdir(top), n // 20)
    first = timed(lambda i: read_raw(f"{top}/{definitions[i]}"), len(definitions) if not quick else 200)
    return [series("list a directory of 1,000 tools", "us", lists),
            series("read a definition the first time", "us", first),
            series("read a definition again", "us", timed(lambda i: read_raw(f"{top}/{definitions[i % 1000]}"), n)),
            series("stat a stub", "us", timed(lambda i: os.stat(f"{top}/{definitions[i % 1000][:-5]}.ts"), n)),
            series("search 1,000 tools", "us",
                   timed(lambda i: read_raw(f"{vm.mount}/tools/search/{queries[i % 5]}"), n))]


class Direct:
    """A server spoken to over its own pipe, one request at a time."""

    def __init__(self, argv):
        self.process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        self.last = 0
        self.ask("initialize", {"protocolVersion": "2025-11-25", "capabilities": {},
                                "clientInfo": {"name": "bench", "version": "1"}})
        self.send({"jsonrpc": "2.0", "method": "notifications/initialized"})

    def send(self, message):
        self.process.stdin.write(json.dumps(message).encode() + b"\n")
        self.process.stdin.flush()

    def ask(self, method, params):
        self.last += 1
        self.send({"jsonrpc": "2.0", "id": self.last, "method": method, "params": params})
        while True:
            answer = json.loads(self.process.stdout.readline())
            if answer.get("id") == self.last and "method" not in answer:
                return answer["result"]

    def close(self):
        self.process.stdin.close()
        self.process.kill()
        self.process.wait()


def time_calls(vm, quick):
    n = 50 if quick else 500
    args = {"message": "hello"}
    direct = Direct([os.path.join(BIN, "mcp-server-everything")])
    spec = importlib.util.spec_from_file_location("echo", f"{vm.mount}/tools/everything/echo.py")
    stub = importlib.util.module_from_spec(spec)
    os.environ["RAMET_SOCKET"] = vm.socket
    spec.loader.exec_module(stub)
    ways = {"directly": lambda i: direct.ask("tools/call", {"name": "echo", "arguments": args}),
            "through the API": lambda i: vm.post("/v1/tools/everything/echo/call", args),
            "through the Python stub": lambda i: stub.echo(args)}
    samples = {way: [] for way in ways}
    for i in range(n + 10):  # by turns, the first ones to warm up
        for way, call in ways.items():
            took = timed(call, 1)
            if i >= 10:
                samples[way] += took
    direct.close()
    shell = f"{vm.mount}/tools/everything/echo.sh"
    samples["through the shell stub"] = timed(
        lambda i: subprocess.run([shell, json.dumps(args)], check=True, capture_output=True), n // 10)
    results = [series(f"call echo, {way}", "us", taken) for way, taken in samples.items()]
    overhead = results[2]["p50"] - results[0]["p50"]
    return results, [promise("what a call through the Python stub adds to a direct one, ms", overhead / 1000, "<=", 5)]


def main():
    options = arguments(__doc__).parse_args()
    put = os.path.join(os.path.dirname(os.path.abspath(options.bin)), "tests", "catalogue_put")
    vm = d.Daemon(options.bin, options.guest or ".")
    with contextlib.ExitStack() as stack:
        stack.callback(vm.clear)
        with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
            json.dump(planted(1000), file)
            file.flush()
            os.makedirs(vm.store)
            subprocess.run([put, f"{vm.store}/tools", file.name], check=True)
        vm.up()
        stack.callback(vm.down)
        results = time_files(vm, options.quick)
        shutil.rmtree(f"{vm.store}/tools/many", ignore_errors=True)
        vm.down()
        vm.up()  # without the planted server
        add_servers(vm)
        token_results, promises = count_tokens(vm, print)
        call_results, call_promises = time_calls(vm, options.quick)
    p = {r["name"]: r for r in results}
    promises += [promise("listing 1,000 tools, p99, ms", p["list a directory of 1,000 tools"]["p99"] / 1000, "<=", 50),
                 promise("a search over 1,000 tools, p99, ms", p["search 1,000 tools"]["p99"] / 1000, "<=", 10),
                 promise("reading a definition, p99, ms", p["read a definition again"]["p99"] / 1000, "<=", 10)]
    print_series(results + call_results)
    return finish("tools", options.json, token_results + results + call_results, promises + call_promises)


if __name__ == "__main__":
    sys.exit(main())
