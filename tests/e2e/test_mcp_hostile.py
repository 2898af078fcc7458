#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Goal: whatever an MCP server does, the daemon answers others at once, keeps the last good docs, bounded memory and
every secret, and takes up with the server again.

usage: test_mcp_hostile.py BIN_DIR GUEST_DIR
"""
import contextlib
import json
import os
import statistics
import sys
import threading
import time

import daemon as d

HERE = os.path.dirname(os.path.abspath(__file__))
SERVER = os.path.join(HERE, "hostile_mcp.py")
TOKEN = f"hunter2-and-{os.getpid()}-more"  # of this run: it tells our servers from those of another
LIMIT_MS = 10
SLOW = 10 if os.environ.get("RAMET_SLOW_BUILD") else 1  # under sanitizers


class Watch(threading.Thread):
    """Asks the daemon for a document and for the list of servers, and walks tools/ on the mount, again and again."""

    def __init__(self, vm, path):
        super().__init__(daemon=True)
        self.vm, self.path, self.times, self.ended, self.failures = vm, path, [], False, []

    def run(self):
        connection = d.Connection(self.vm.socket, 60)
        while not self.ended:
            began = time.monotonic()
            try:
                connection.request("GET", self.path)
                answer = connection.getresponse()
                body = answer.read()
                if answer.status != 200:
                    self.failures.append(body)
            except OSError as error:
                self.failures.append(repr(error))
                connection = d.Connection(self.vm.socket, 60)
            self.times.append(1000 * (time.monotonic() - began))
            time.sleep(0.005)

    def end(self):
        self.ended = True
        self.join()
        self.times.sort()
        return self.times


def rss_kib(pid):
    with open(f"/proc/{pid}/status", encoding="utf-8") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmRSS"))


def add(vm, name, *misdeeds, **config):
    return vm.post("/v1/tools", {"server": name, "config": {"command": sys.executable, "args": [SERVER, *misdeeds],
                                                           "env": {"HOSTILE_TOKEN": TOKEN}} | config})


def call(vm, server, tool, arguments=None, timeout_ms=None, timeout=180):
    query = f"?timeout_ms={timeout_ms}" if timeout_ms else ""
    return vm.post(f"/v1/tools/{server}/{tool}/call{query}", arguments or {}, timeout)


def fine(vm, server):
    return call(vm, server, "good")["content"][0]["text"] == "fine"


def refresh(vm, server):
    return vm.post(f"/v1/tools/{server}/refresh", {})


def names(vm, server):
    return [tool["name"] for tool in vm.get(f"/v1/tools/{server}/document")["tools"]]


def good_one(vm, check):
    add(vm, "good", "chatter")
    check(fine(vm, "good"), "a call made before the server is listed waits for it")
    check(vm.get("/v1/tools/good")["state"] == "up", "it is up")
    exact = vm.raw("POST", "/v1/tools/good/exact/call", "{}", {"Content-Type": "application/json"})
    text = json.dumps(exact)
    check("123456789012345678901234567890" in text, "a number that no double holds comes through", text)
    check(call(vm, "good", "is-error")["isError"] is True, "that a tool failed is a result")
    error = check.fails("an error of the protocol", "remote", lambda: call(vm, "good", "rpc-error"), 502, ["-32099"])
    check(error and error.body["error"]["rpc"] == {"code": -32099, "message": 'a "special" one', "data": {"why": [1, 2]}},
          "is passed on whole", str(error and error.body))
    check.fails("a tool that is not there", "not_found", lambda: call(vm, "good", "nothing"), 404)
    check.fails("a server that is not there", "not_found", lambda: call(vm, "nobody", "good"), 404)


def calls_that_go_wrong(vm, check):
    check.fails("a call that crashes the server", "unavailable", lambda: call(vm, "good", "crash"), 503,
                ["exited with status 3", "last words", "[redacted]"])
    check(fine(vm, "good"), "the next call finds it started again")
    check.fails("a call that hangs", "timeout", lambda: call(vm, "good", "hang", timeout_ms=500), 504)
    before = vm.get("/v1/tools/good")["starts"]
    check(d.wait_until(lambda: vm.get("/v1/tools/good")["starts"] > before, 30), "a server that hangs is started anew")
    check(fine(vm, "good"), "and answers")
    for tool in ("garbage", "wrong-id"):
        check.fails(f"an answer that is none ({tool})", "timeout", lambda: call(vm, "good", tool, timeout_ms=500), 504)
    check(fine(vm, "good"), "the server goes on afterwards")
    check(call(vm, "good", "ask-back")["content"][0]["text"] == "fine", "20,000 requests of its own are held off")
    slow = [threading.Thread(target=call, args=(vm, "good", "slow", {"seconds": 2})) for _ in range(8)]
    began = time.monotonic()
    for thread in slow:
        thread.start()
    check(fine(vm, "good"), "a call beside eight slow ones")
    check(time.monotonic() - began < 2, "does not wait for them")
    for thread in slow:
        thread.join()


def huge_answers(vm, check):
    before = rss_kib(vm.pid)
    peak, ended = [before], []

    def sample():
        while not ended:
            peak.append(rss_kib(vm.pid))
            time.sleep(0.01)

    sampler = threading.Thread(target=sample)
    sampler.start()
    check.fails("an answer of 100 MB", "too_large", lambda: call(vm, "good", "huge"), 413)
    ended.append(True)
    sampler.join()
    check(max(peak) - before < (64 << 10) * SLOW, "takes bounded memory", f"{(max(peak) - before) >> 10} MiB more")
    check(fine(vm, "good"), "and the server is still there")


def listings(vm, check):
    add(vm, "many", "tools-5000")
    refresh(vm, "many")
    check(len(names(vm, "many")) == 5012, "5,000 tools in pages of a hundred", str(len(names(vm, "many"))))
    add(vm, "empty", "empty-cursors")
    refresh(vm, "empty")
    check(len(names(vm, "empty")) == 12, "an empty string is a cursor")
    add(vm, "odd", "bad-schemas", "odd-names", "huge-description", "no-discover", "flood-stderr")
    refresh(vm, "odd")
    listed = vm.get("/v1/tools/odd/document")["tools"]
    check([tool["name"] for tool in listed].count("good") == 1, "a second tool of a name is left out")
    check({"../../etc/passwd", "a/b c", "été", "x" * 300} <= set(names(vm, "odd")), "odd names are kept")
    check.fails("a call of a tool whose schema has no end", "invalid", lambda: call(vm, "odd", "schema-loop"), 400,
                ["too complex"])
    for tool in ("schema-number", "schema-odd", "a%2Fb%20c", "%C3%A9t%C3%A9", "..%2F..%2Fetc%2Fpasswd"):
        check(call(vm, "odd", tool)["content"][0]["text"] == "fine", f"a call of {tool}")
    for misdeed, words in (("same-cursor", ["again"]), ("invalid-list", ["tools"]), ("endless", ["goes on"]),
                           ("half-list", ["second page is broken"])):
        add(vm, misdeed, misdeed)
        check.fails(f"a listing gone wrong: {misdeed}", ("unavailable", "too_large"), lambda: refresh(vm, misdeed), None, words)
        check.fails("has no document", "not_found", lambda: vm.get(f"/v1/tools/{misdeed}/document"), 404)


def docs_outlive_servers(vm, check):
    before = vm.get("/v1/tools/many/document")
    config = {"command": sys.executable, "args": [SERVER, "half-list"], "env": {"HOSTILE_TOKEN": TOKEN}}
    vm.post("/v1/tools", {"server": "many", "config": config, "replace": True})
    check.fails("a server that lists half of what it had", "unavailable", lambda: refresh(vm, "many"))
    check(vm.get("/v1/tools/many/document") == before, "its last good document stays")
    vm.post("/v1/tools", {"server": "many", "config": config | {"args": [SERVER, "exit"]}, "replace": True})
    check.fails("a server that exits at once", "unavailable", lambda: refresh(vm, "many"), None,
                ["status 5", "cannot start today"])
    check(vm.get("/v1/tools/many/document") == before, "and still")
    shown = vm.get("/v1/tools/many")
    check(shown["state"] == "down" and "cannot start" in shown["problem"], "it is said to be down, and why", str(shown))
    vm.down()
    vm.up()
    check(vm.get("/v1/tools/many/document") == before, "a new daemon has it, whether or not the server starts")
    vm.post("/v1/tools", {"server": "many", "config": config | {"args": [SERVER, "tools-10"]}, "replace": True})
    refresh(vm, "many")
    changes = vm.get("/v1/tools/many/diff")
    check(changes["from"] == 1 and changes["to"] == 2 and len(changes["changes"]) == 4990, "the difference is told",
          str(changes)[:300])


def backoff(vm, check):
    state = f"{vm.top}/starts"
    add(vm, "failing", "--state", state, "exit")
    time.sleep(6)
    starts = os.path.getsize(state)
    check(2 <= starts <= 6, "a server that fails to start is tried less and less often", f"{starts} in 6 s")


def storms(vm, check):
    quiet = Watch(vm, "/v1/tools/good")
    quiet.start()
    time.sleep(1)
    usual = statistics.median(quiet.end())
    add(vm, "storm", "storm", "tools-5000")
    refresh(vm, "storm")
    before = rss_kib(vm.pid)
    watch = Watch(vm, "/v1/tools/good")
    watch.start()
    with contextlib.suppress(d.ApiError):
        call(vm, "good", "crash")
    for tool in ("huge", "hang"):
        with contextlib.suppress(d.ApiError):
            call(vm, "good", tool, timeout_ms=2000)
    add(vm, "hung", "hang-on-start")
    time.sleep(3)
    times = watch.end()
    p50, p99 = statistics.median(times), times[int(len(times) * 0.99)]
    # One server floods a processor, another has died, sent 100 MB, hung; on two processors all of that is work too.
    # Where others use the machine too, what counts is how it answered just before.
    check(p50 <= max(LIMIT_MS * SLOW, 5 * usual), "the daemon answers within 10 ms meanwhile",
          f"{usual:.1f} ms before, p50 {p50:.1f} ms, p99 {p99:.1f} ms, max {times[-1]:.1f} ms of {len(times)}")
    print(f"     p50 {p50:.2f} ms, p99 {p99:.2f} ms, max {times[-1]:.2f} ms of {len(times)} requests")
    check(not watch.failures, "and with success", str(watch.failures[:3]))
    check(rss_kib(vm.pid) - before < (200 << 10) * SLOW, "memory stays bounded", f"{(rss_kib(vm.pid) - before) >> 10} MiB more")
    check(vm.get("/v1/tools/storm/document")["version"] == 1, "a storm makes no versions")
    vm.delete("/v1/tools/storm")
    check.fails("a server that was removed", "not_found", lambda: vm.get("/v1/tools/storm"), 404)
    check.fails("and its document", "not_found", lambda: vm.get("/v1/tools/storm/document"), 404)


def secrets(vm, check):
    text = json.dumps(call(vm, "good", "secret"))
    check(TOKEN not in text and "[redacted]" in text, "a secret is taken out of a result", text)
    seen = [json.dumps(vm.get("/v1/tools")), json.dumps(vm.get("/v1/tools/good/document")), vm.log(), vm.ramet("tools", "ls").stdout]
    for directory, _, files in os.walk(vm.store):
        for name in files:
            path = os.path.join(directory, name)
            if path == f"{vm.store}/tools/config.json":
                check(os.stat(path).st_mode & 0o777 == 0o600, "the configuration is private")
                continue
            with open(path, "rb") as file:
                seen.append(file.read().decode(errors="replace"))
    for directory, _, files in os.walk(vm.mount):
        for name in files:
            with contextlib.suppress(OSError), open(os.path.join(directory, name), "rb") as file:
                seen.append(file.read(1 << 20).decode(errors="replace"))
    check(not any(TOKEN in text for text in seen), f"and in none of {len(seen)} answers and files")
    with open(f"/proc/{vm.get('/v1/tools/good')['pid']}/environ", "rb") as file:
        names_given = sorted(entry.split(b"=")[0].decode() for entry in file.read().split(b"\0") if entry)
    check(set(names_given) <= {"PATH", "HOME", "LANG", "HOSTILE_TOKEN", "LC_CTYPE"}, "its environment is what was named",
          str(names_given))
    links = [os.readlink(f"/proc/{vm.get('/v1/tools/good')['pid']}/fd/{fd}")
             for fd in os.listdir(f"/proc/{vm.get('/v1/tools/good')['pid']}/fd")]
    check(all(link.startswith("pipe:") for link in links), "no descriptor of ours is open in it", str(links))


def main():
    check = d.Checks()
    vm = d.Daemon(*d.arguments(), env={"RAMET_POOL": "0"}).up()
    try:
        good_one(vm, check)
        calls_that_go_wrong(vm, check)
        huge_answers(vm, check)
        listings(vm, check)
        docs_outlive_servers(vm, check)
        backoff(vm, check)
        secrets(vm, check)
        storms(vm, check)
        began = time.monotonic()
        vm.down()
        check(time.monotonic() - began < 10 * SLOW, "the daemon stops soon, hung servers or not", f"{time.monotonic() - began:.1f} s")
        left = [pid for pid in os.listdir("/proc") if pid.isdigit() and TOKEN.encode() in environment(pid)]
        check(not left, "no server outlives it", str(left))
    finally:
        vm.finish(check)
    return check.end()


def environment(pid):
    with contextlib.suppress(OSError), open(f"/proc/{pid}/environ", "rb") as file:
        return file.read()
    return b""


if __name__ == "__main__":
    sys.exit(main())
