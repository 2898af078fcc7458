#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Goal: tools/ on the mount has the tools of real MCP servers as files: definitions equal to what the reference SDK's
client lists; stubs that compilers take, and that give what that client gets, errors included; each user's own view by
every way there is to a file; live and consistent under refreshes; the last good documents of a server that is down;
and no secret anywhere.

usage: test_tools_docs.py BIN_DIR GUEST_DIR MCP_DIR
"""
import json
import os
import py_compile
import shutil
import subprocess
import sys
import tempfile
from urllib.parse import unquote

import daemon as d

HERE = os.path.dirname(os.path.abspath(__file__))
SECRET = "s3cr3t-Zx81-planted"
OTHER = 65534
SERVERS = {"everything": ["mcp-server-everything"], "filesystem": ["mcp-server-filesystem", "{files}"],
           "memory": ["mcp-server-memory"], "sequential-thinking": ["mcp-server-sequential-thinking"],
           "playwright": ["playwright-mcp"], "chrome-devtools": ["chrome-devtools-mcp"]}

# A server whose words are in a file: what it lists changes when that does, and it dies when that says so.
CHANGING = r'''
import json, os, sys
for line in sys.stdin:
    asked = json.loads(line)
    words = open(sys.argv[1]).read().strip()
    if words == "die":
        sys.exit(1)
    tools = [{"name": name, "description": "Says " + words, "inputSchema": {"type": "object"}}
             for name in ["say"] + (["more"] if "more" in words else [])]
    said = "the key is " + os.environ["TOKEN"]
    answers = {"initialize": {"protocolVersion": "2025-11-25", "capabilities": {"tools": {}},
                              "serverInfo": {"name": "changing", "version": "1"}},
               "tools/list": {"tools": tools}, "ping": {},
               "tools/call": {"content": [{"type": "text", "text": said}], "isError": True}}
    print(said, file=sys.stderr, flush=True)
    if "id" in asked:
        known = {"result": answers[asked["method"]]} if asked["method"] in answers else \
                {"error": {"code": -32601, "message": "no such method; " + said}}
        print(json.dumps({"jsonrpc": "2.0", "id": asked["id"]} | known), flush=True)
'''


class Test:
    def __init__(self, vm, check, mcp_dir):
        self.vm, self.check, self.mcp = vm, check, mcp_dir
        self.top = f"{vm.mount}/tools"
        self.files = f"{vm.top}/files"
        os.makedirs(self.files, exist_ok=True)
        with open(f"{self.files}/note.txt", "w", encoding="utf-8") as file:
            file.write("hällo 'quoted' \"twice\"\n")

    def config(self, name):
        program, *args = SERVERS[name]
        return {"command": "node", "args": [os.path.realpath(f"{self.mcp}/node_modules/.bin/{program}"),
                                            *[arg.format(files=self.files) for arg in args]],
                "cwd": self.files, "env": {"PATH": os.environ["PATH"], "HOME": self.files}}

    def reference(self, name, calls=()):
        done = subprocess.run(["node", f"{HERE}/../mcp/reference.mjs"], timeout=180, capture_output=True, text=True,
                              input=json.dumps(self.config(name) | {"calls": list(calls)}),
                              env=os.environ | {"RAMET_MCP_DIR": self.mcp}, check=False)
        if done.returncode != 0:
            raise RuntimeError(f"reference.mjs: {done.stderr[-2000:]}")
        return json.loads(done.stdout)

    def read(self, path):
        with open(f"{self.top}/{path}", encoding="utf-8") as file:
            return file.read()

    def as_other(self, *argv):
        return self.vm.run_program(["setpriv", "--reuid", str(OTHER), "--regid", str(OTHER), "--clear-groups", *argv])


def add_all(t):
    for name in SERVERS:
        t.vm.post("/v1/tools", {"server": name, "config": t.config(name)})
    for name in SERVERS:
        t.vm.post(f"/v1/tools/{name}/refresh", {"timeout_ms": 120000})
    lines = t.read("INDEX").splitlines()
    t.check(sorted(line.split(":")[0] for line in lines) == sorted([*SERVERS, "tri%2Fcky"]), "INDEX has a line a server",
            str(lines))
    t.check(all(name in t.read("README.md") for name in ("INDEX", "search/", "TOOL.json")), "README.md says how")


def definitions(t):
    """Of each kind, in full."""
    for name in SERVERS:
        wanted = t.reference(name)
        found = {"tools": {}, "prompts": {}, "resources": {}, "resourceTemplates": {}}
        for below, kinds in (("", ["tools"]), ("prompts", ["prompts"]), ("resources", ["resources", "resourceTemplates"])):
            folder = os.path.join(t.top, name, below)
            for file in os.listdir(folder) if os.path.isdir(folder) else []:
                if file.endswith(".json"):
                    one = json.loads(t.read(os.path.join(name, below, file)))
                    kind = kinds[-1] if "uriTemplate" in one else kinds[0]
                    key = one.get("uriTemplate") or one.get("uri") or one["name"]
                    t.check(unquote(file[:-5]) == key or "%~" in file, f"{name}: {file} is {key} escaped")
                    found[kind][key] = one
        for kind, key in (("tools", "name"), ("prompts", "name"), ("resources", "uri"), ("resourceTemplates", "uriTemplate")):
            want = {one[key]: one for one in wanted[kind]}
            t.check(found[kind] == want, f"{name}: {len(want)} {kind} equal what the SDK's client lists")
        index = t.read(f"{name}/INDEX")
        t.check(all(f"{tool['name']}" in index for tool in wanted["tools"]), f"{name}/INDEX has them all")


def compilers(t):
    """All stubs on the mount; the hard ones of golden/tools/tricky.json among them."""
    servers = [*SERVERS, "tri%2Fcky"]
    stubs = [f"{t.top}/{name}/{file}" for name in servers for file in sorted(os.listdir(f"{t.top}/{name}"))]
    ts = [stub for stub in stubs if stub.endswith(".ts") and not stub.endswith("/Tree.ts")]  # differs by case from another
    with tempfile.TemporaryDirectory() as temp:
        options = {"strict": True, "noEmit": True, "target": "es2022", "module": "nodenext", "types": ["node"],
                   "typeRoots": [f"{t.mcp}/node_modules/@types"]}
        with open(f"{temp}/tsconfig.json", "w", encoding="utf-8") as file:
            json.dump({"compilerOptions": options, "files": ts}, file)
        done = subprocess.run(["node", f"{t.mcp}/node_modules/.bin/tsc", "-p", temp], capture_output=True, text=True,
                              check=False)
        t.check(done.returncode == 0 and len(ts) >= 110, f"tsc --strict takes {len(ts)} .ts", done.stdout[-1500:])
        for name in servers:
            py = [stub for stub in stubs if stub.endswith(".py") and f"/{name}/" in stub]
            for stub in py:
                py_compile.compile(stub, cfile=f"{temp}/x.pyc", doraise=True)
            done = subprocess.run(["mypy", "--strict", "--scripts-are-modules", "--cache-dir", f"{temp}/mypy", *py],
                                  capture_output=True, text=True, check=False, cwd=temp)
            t.check(done.returncode == 0, f"{name}: {len(py)} .py compile, and mypy --strict takes them",
                    done.stdout[-1500:] + done.stderr[-500:])
    sh = [stub for stub in stubs if stub.endswith(".sh")]
    bad = [stub for stub in sh if subprocess.run(["sh", "-n", stub], check=False).returncode or not os.access(stub, os.X_OK)]
    t.check(not bad, f"{len(sh)} .sh are programs a shell takes", str(bad))


CALLS = {
    "everything": [("echo", {"message": "it's \"so\" — ü\n"}), ("get-sum", {"a": 2, "b": 0.5}),
                   ("get-structured-content", {"location": "New York"}), ("get-tiny-image", {}),
                   ("get-annotated-message", {"messageType": "error", "includeImage": False})],
    "filesystem": [("read_text_file", {"path": "{files}/note.txt"}), ("read_text_file", {"path": "/etc/shadow"}),
                   ("list_directory", {"path": "{files}"})],
    "memory": [("read_graph", {}), ("search_nodes", {"query": "nothing"})],
}


def call_ts(t, compiled, server, tool, arguments):
    script = ("const [path, args] = process.argv.slice(1); import(path).then(async (m) => {"
              " const f = Object.values(m).find((x) => typeof x === 'function' && x.name !== 'ToolError');"
              " try { console.log(JSON.stringify({result: await f(JSON.parse(args))})); }"
              " catch (e) { console.log(JSON.stringify({name: e.name, code: e.code, said: e.message, result: e.result})); }"
              "});")
    done = t.vm.run_program(["node", "-e", script, f"{compiled}/{server}/{tool}.js", json.dumps(arguments)])
    return json.loads(done.stdout), done.stderr


def calls(t):
    with tempfile.TemporaryDirectory() as temp:
        sources = [f"{t.top}/{server}/{tool}.ts" for server, made in CALLS.items() for tool, _ in made]
        subprocess.run(["node", f"{t.mcp}/node_modules/.bin/tsc", "--strict", "--target", "es2022", "--module", "nodenext",
                        "--types", "node", "--typeRoots", f"{t.mcp}/node_modules/@types", "--outDir", temp, "--rootDir",
                        t.top, *sorted(set(sources))], check=True)
        for server, made in CALLS.items():
            made = [(tool, json.loads(json.dumps(args).replace("{files}", t.files))) for tool, args in made]
            wanted = t.reference(server, [{"name": tool, "arguments": args} for tool, args in made])["results"]
            for (tool, args), want in zip(made, wanted):
                result, stub = want["result"], f"{t.top}/{server}/{tool}"
                failed, text = result.get("isError", False), json.dumps(args)
                what = f"{server}/{tool}{' (an error)' if failed else ''}"
                done = t.vm.run_program([f"{stub}.sh", text])
                t.check(done.returncode == failed and json.loads(done.stdout) == result, f"{what} by .sh",
                        f"{done.returncode} {done.stdout[:300]} {done.stderr[:300]}")
                done = t.vm.run_program([sys.executable, f"{stub}.py", text])
                t.check(done.returncode == failed and json.loads(done.stdout) == result, f"{what} by .py",
                        f"{done.stdout[:300]} {done.stderr[:300]}")
                answer, said = call_ts(t, temp, server, tool, args)
                t.check(answer["result"] == result and (answer.get("name") == "ToolError") == failed, f"{what} by .ts",
                        f"{str(answer)[:300]} {said[:300]}")
                done = t.vm.ramet("tools", "call", f"{server}/{tool}", text, "--json")
                t.check(done.returncode == failed and json.loads(done.stdout) == result, f"{what} by the CLI",
                        f"{done.stdout[:300]} {done.stderr[:300]}")
        done = t.vm.run_program([f"{t.top}/everything/get-sum.sh", '{"a": 1}'])
        t.check(done.returncode == 2 and json.loads(done.stdout)["error"]["code"] == "invalid", ".sh: arguments that do not fit are refused", done.stdout)
        answer, _ = call_ts(t, temp, "everything", "get-sum", {"a": 1})
        t.check(answer["code"] == "invalid" and "b" in answer["said"], ".ts: the same, raised", str(answer))
        done = t.vm.run_program([sys.executable, f"{t.top}/everything/get-sum.py", '{"a": 1}'])
        t.check(done.returncode == 1 and done.stderr.startswith("invalid:"), ".py: the same", done.stderr)
        done = t.vm.run_program([sys.executable, f"{t.top}/everything/echo.py", "{}"], RAMET_SOCKET="/nowhere.sock")
        t.check("unavailable" in done.stderr, "no daemon is an error that says so", done.stderr)
        code = ("import sys; sys.path.append(sys.argv[1]); from everything.echo import echo, ToolError\n"
                "print(echo({'message': 'x'})['content'][0]['text'])")
        done = t.vm.run_program([sys.executable, "-c", code, t.top])
        t.check(done.stdout == "Echo: x\n", "as README.md says, from Python", done.stdout + done.stderr)


def searches(t):
    for words, best in (("take a screenshot", "take_screenshot"), ("sum of two numbers", "everything/get-sum"),
                        ("read file", "filesystem/read"), ("createEntities", "memory/create_entities")):
        hits = t.read(f"search/{words}").splitlines()
        t.check(best in hits[0] and len(hits) <= 5, f"search/{words} finds {best}", str(hits))
        done = t.vm.ramet("tools", "search", *words.split())
        t.check(best in done.stdout.splitlines()[0], "and so does the CLI", done.stdout + done.stderr)
    t.check("No tool" in t.read("search/zzzzqqq"), "what fits nothing says so")
    found = t.vm.get("/v1/tool-search?words=screenshot&limit=1")["tools"]
    t.check(len(found) == 1 and os.path.exists(f"{t.top}/{found[0]['file']}.md"), "the API names the files", str(found))
    t.check.fails("a limit that is none", "invalid", lambda: t.vm.get("/v1/tool-search?words=x&limit=0"), 400, ["limit"])
    t.check.fails("no words", "invalid", lambda: t.vm.get("/v1/tool-search?words="), 400, ["words"])


def own_views(t):
    """An agent that may call one tool, by every way to the others."""
    if os.geteuid() != 0:
        print("     skipped: only root can become another user")
        return
    top, other = t.top, t.as_other
    hidden = ["everything/get-sum.json", "everything/get-sum.sh", "filesystem", "filesystem/INDEX",
              "filesystem/read_text_file.md", "everything/prompts", "everything/prompts/INDEX", "memory/resources"]
    for path in hidden:  # root has it in the kernel's cache
        os.stat(f"{top}/{path}")
    ls = other("ls", "-R", top)
    names = set(ls.stdout.split())
    t.check(not names & {"get-sum.json", "filesystem:", "filesystem", "prompts", "resources"} and "echo.md" in names,
            "another user lists one tool", ls.stdout[:600] + ls.stderr)
    for path in hidden:
        for program in (["stat"], ["cat"], ["ls"], ["head", "-c1"], ["dd", "status=none", "if=" + f"{top}/{path}"]):
            done = other(*program, *([] if program[0] == "dd" else [f"{top}/{path}"]))
            t.check(done.returncode != 0 and not done.stdout, f"{program[0]} {path}: not there", done.stdout[:200])
        os.stat(f"{top}/{path}")
    t.check(other("cat", f"{top}/everything/echo.json").stdout == t.read("everything/echo.json"), "it reads its tool's")
    index = other("cat", f"{top}/INDEX", f"{top}/everything/INDEX", f"{top}/README.md").stdout
    t.check("1 tool" in index and "filesystem" not in index and "get-sum" not in index, "indexes tell of no other", index)
    found = other("cat", f"{top}/search/sum of two numbers", f"{top}/search/read file").stdout
    t.check("get-sum" not in found and "filesystem" not in found, "searches find no other", found)
    t.check("echo" in other("cat", f"{top}/search/echo").stdout, "but its own")
    found = other(f"{t.vm.bin}/ramet", "tools", "search", "sum")
    t.check(found.returncode == 0 and "get-sum" not in found.stdout, "nor by the API", found.stdout + found.stderr)
    found = other(f"{t.vm.bin}/ramet", "tools", "search", "echo")
    t.check("everything/echo" in found.stdout, "which finds its own", found.stdout + found.stderr)
    done = other(f"{top}/everything/echo.sh", '{"message": "x"}')
    t.check("Echo: x" in done.stdout, "it calls its tool", done.stdout + done.stderr)
    copy = f"{t.files}/get-sum.sh"  # what it might have from elsewhere
    shutil.copy(f"{top}/everything/get-sum.sh", copy)
    done = other("sh", copy, '{"a": 1, "b": 2}')
    t.check(done.returncode == 2 and "sum" not in done.stdout.replace("get-sum", ""), "and no other, with a stub of it",
            done.stdout + done.stderr)
    lines = [json.loads(line) for name in sorted(os.listdir(f"{t.vm.store}/audit")) if name.endswith(".jsonl")
             for line in open(f"{t.vm.store}/audit/{name}", encoding="utf-8")]
    denied = {(line.get("server"), line.get("gen_ai.tool.name")) for line in lines
              if line.get("event") == "denied" and line.get("action") == "readTool"}
    t.check(("everything", "get-sum") in denied, "each attempt is in the audit", str(denied))
    read = [line for line in lines if line.get("action") == "readTool" and line.get("event") != "denied" and
            line["actor"].get("uid") == OTHER]
    t.check({line["gen_ai.tool.name"] for line in read} == {"echo"}, "and so are reads", str(read[:2]))
    t.check(t.vm.ramet("audit", "verify").returncode == 0, "the audit verifies")
    t.check(other("cat", f"{top}/everything/echo.py").returncode == 0, "nothing of it hinders what is allowed")


def write_words(t, words):
    with open(f"{t.files}/words.new", "w", encoding="utf-8") as file:
        file.write(words)
    os.rename(f"{t.files}/words.new", f"{t.files}/words")


def refreshes(t):
    """Who has a file open keeps it; everybody else sees the new one at once, wherever they stand."""
    write_words(t, "first")
    config = {"command": sys.executable, "args": ["-c", CHANGING, f"{t.files}/words"],
              "env": {"TOKEN": SECRET, "PATH": os.environ["PATH"]}}
    t.vm.post("/v1/tools", {"server": "changing", "config": config})
    t.vm.post("/v1/tools/changing/refresh", {})
    with open(f"{t.top}/changing/say.md", encoding="utf-8") as kept:
        ino = os.stat(f"{t.top}/changing").st_ino
        for i in range(5):
            write_words(t, f"words {i}" + (" more" if i % 2 else ""))
            t.vm.post("/v1/tools/changing/refresh", {})
            t.check(f"words {i}" in t.read("changing/say.md") and f"words {i}" in t.read("changing/INDEX"),
                    f"refresh {i} is seen at once")
            t.check(("more.md" in os.listdir(f"{t.top}/changing")) == bool(i % 2), "names too")
            kept.seek(0)
            t.check("Says first" in kept.read(), "an open file stays")
        t.check(os.stat(f"{t.top}/changing").st_ino == ino, "a directory is the same one")
    before = os.stat(f"{t.top}/everything/echo.md")
    t.vm.post("/v1/tools/everything/refresh", {})
    t.check(os.stat(f"{t.top}/everything/echo.md").st_ino == before.st_ino, "what did not change is the same file")


def down(t):
    before = t.read("changing/say.md")
    write_words(t, "die")
    for _ in range(2):
        try:
            t.vm.post("/v1/tools/changing/say/call", {})
        except d.ApiError:
            pass
    t.check(d.wait_until(lambda: "state: down" in t.read("changing/STATUS"), 60), "STATUS says that a server is down",
            t.read("changing/STATUS"))
    t.check("ago" in t.read("changing/STATUS"), "and how old its documents are")
    t.check("changing: 1 tool, down" in t.read("INDEX"), "INDEX too", t.read("INDEX"))
    t.check(t.read("changing/say.md") == before, "its documents stay as they were")


def secrets(t):
    """In no file of the mount, answer, log or line of the audit; the daemon's own configuration has it, for root."""
    write_words(t, "back")
    t.vm.post("/v1/tools/changing/refresh", {})
    texts = {}
    for folder, _, names in os.walk(t.top):
        for name in names:
            with open(os.path.join(folder, name), "rb") as file:
                texts[os.path.join(folder, name)] = file.read()
    for path in ("/v1/tools", "/v1/tools/changing", "/v1/tools/changing/document", "/v1/tool-search?words=key",
                 "/v1/status", "/v1/audit"):
        texts[path] = json.dumps(t.vm.get(path)).encode()
    for way in (lambda: t.vm.post("/v1/tools/changing/say/call", {}), lambda: t.vm.post("/v1/tools/changing/no/call", {})):
        try:
            texts[f"call {len(texts)}"] = json.dumps(way()).encode()
        except d.ApiError as error:
            texts[f"call {len(texts)}"] = json.dumps(error.body).encode()
    texts["stub"] = t.vm.run_program([f"{t.top}/changing/say.sh"]).stdout.encode()
    texts["the log"] = t.vm.log().encode()
    for folder, _, names in os.walk(f"{t.vm.store}/audit"):
        for name in names:
            with open(os.path.join(folder, name), "rb") as file:
                texts[name] = file.read()
    found = [where for where, text in texts.items() if SECRET.encode() in text]
    t.check(not found and len(texts) > 600, f"the secret is in none of {len(texts)} texts", str(found))


def main():
    bin_dir, guest_dir = d.arguments()
    mcp_dir = os.path.abspath(sys.argv[3])
    if not os.path.isdir(f"{mcp_dir}/node_modules") or not shutil.which("node"):
        sys.exit(f"{mcp_dir} has no MCP servers: run 'tools/dev mcp'")
    check = d.Checks()
    vm = d.Daemon(bin_dir, guest_dir)
    os.chmod(vm.top, 0o755)
    os.makedirs(vm.store)
    try:
        with open(f"{HERE}/../golden/tools/tricky.json", encoding="utf-8"):
            subprocess.run([f"{os.path.dirname(vm.bin)}/tests/catalogue_put", f"{vm.store}/tools",
                            f"{HERE}/../golden/tools/tricky.json"], check=True)
        with open(f"{vm.top}/policy", "w", encoding="utf-8") as file:
            json.dump({"principals": [{"name": "other", "uid": OTHER, "role": "agent", "tools": ["everything/echo"]}]}, file)
        os.chmod(f"{vm.top}/policy", 0o600)
        vm.up("--policy", f"{vm.top}/policy")
        t = Test(vm, check, mcp_dir)
        for step in (add_all, definitions, compilers, calls, searches, own_views, refreshes, down, secrets):
            print(f"-- {step.__name__}", flush=True)
            step(t)
    except Exception as error:  # a failed step ends the test as a failed check
        check(False, "no step fails", repr(error))
        print(vm.log()[-3000:])
    finally:
        vm.finish(check)
    sys.exit(check.end())


if __name__ == "__main__":
    main()
