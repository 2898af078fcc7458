#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""An MCP server over stdio that misbehaves in the ways its arguments name. Tools: good, and one for each misdeed.

usage: hostile_mcp.py [--state FILE] [MISDEED]...

Misdeeds at the start: exit, hang-on-start, chatter (lines that are no JSON), no-discover (exits on what comes before
initialize), flood-stderr. In listings: tools-N (N tools, 100 a page), empty-cursors, same-cursor, half-list (an error
on the second page), invalid-list, endless (a new cursor for ever), bad-schemas, huge-description, storm (list_changed
as fast as it goes), odd-names. With --state the number of starts is kept in FILE.
"""
import json
import os
import sys
import threading
import time

ARGS = sys.argv[1:]
LOCK = threading.Lock()
HUGE = 100 << 20


def given(name):
    return name in ARGS


def number(prefix):
    return next((int(arg[len(prefix):]) for arg in ARGS if arg.startswith(prefix)), 0)


def write(text):
    with LOCK:
        sys.stdout.write(text + "\n")
        sys.stdout.flush()


def send(message):
    write(json.dumps({"jsonrpc": "2.0", **message}))


def tool(name, **more):
    return {"name": name, "description": f"The tool {name}.", "inputSchema": {"type": "object"}, **more}


MISDEEDS = ("good", "crash", "hang", "huge", "garbage", "wrong-id", "slow", "secret", "rpc-error", "is-error", "ask-back",
            "exact")


def tools():
    listed = [tool(name) for name in MISDEEDS]
    listed += [tool(f"tool-{i:05}") for i in range(number("tools-"))]
    if given("bad-schemas"):
        listed += [tool("schema-loop", inputSchema={"$ref": "#"}), tool("schema-number", inputSchema=7),
                   tool("schema-deep", inputSchema=json.loads('{"not":' * 400 + "{}" + "}" * 400)),
                   tool("schema-odd", inputSchema={"type": 5, "required": "x", "properties": [], "pattern": "("}),
                   {"description": "has no name"}, 7, None, tool("good", description="a second one of this name")]
    if given("huge-description"):
        listed.append(tool("wordy", description="w" * (4 << 20)))
    if given("odd-names"):
        listed += [tool(name) for name in ("../../etc/passwd", "a/b c", "été", "n\n\x1b[31m", "x" * 300)]
    return listed


def page(cursor):
    listed = tools()
    if given("invalid-list"):
        return {"tools": "none"}
    if given("endless"):
        return {"tools": listed, "nextCursor": str(time.monotonic_ns())}
    if given("same-cursor"):
        return {"tools": listed[:1], "nextCursor": "again"}
    if given("half-list"):
        if cursor is not None:
            raise ValueError("the second page is broken")
        return {"tools": listed[:1], "nextCursor": "second"}
    if given("empty-cursors"):
        return {"tools": listed[:3], "nextCursor": ""} if cursor is None else {"tools": listed[3:]}
    if not number("tools-"):
        return {"tools": listed}
    at = int(cursor or 0)
    return {"tools": listed[at:at + 100]} | ({"nextCursor": str(at + 100)} if at + 100 < len(listed) else {})


def call(request, name, arguments):
    text = {"content": [{"type": "text", "text": "fine"}]}
    if name == "crash":
        print("the last words, with", os.environ.get("HOSTILE_TOKEN"), file=sys.stderr, flush=True)
        os._exit(3)
    elif name == "hang":
        time.sleep(3600)
    elif name == "huge":
        with LOCK:
            sys.stdout.write('{"jsonrpc":"2.0","result":{"content":[{"type":"text","id":1,"text":"')
            for _ in range(HUGE >> 16):
                sys.stdout.write("x" * (1 << 16))
            sys.stdout.write('"}]},"id":%d}\n' % request)
            sys.stdout.flush()
        return None
    elif name == "garbage":
        write('{"jsonrpc":"2.0","id":%d,"result":{' % request)
        return None
    elif name == "wrong-id":
        send({"id": request + 1000, "result": text})
        return None
    elif name == "slow":
        time.sleep(arguments.get("seconds", 1))
    elif name == "secret":
        return {"content": [{"type": "text", "text": f"it is {os.environ.get('HOSTILE_TOKEN')}"}]}
    elif name == "is-error":
        return {"content": [{"type": "text", "text": "no"}], "isError": True}
    elif name == "ask-back":
        for i in range(20000):
            send({"id": f"ask-{i}", "method": "sampling/createMessage", "params": {}})
    elif name == "exact":
        # Byte for byte, as few parsers keep it.
        write('{"jsonrpc":"2.0","id":%d,"result":{"content": [],"structuredContent":{"a":1.0,"a":2,"big":'
              '123456789012345678901234567890,"nul":"\\u0000","e":1E2}}}' % request)
        return None
    return text


def answer(message):
    method, request, params = message.get("method"), message.get("id"), message.get("params") or {}
    if request is None:
        return
    try:
        if method == "initialize":
            result = {"protocolVersion": params["protocolVersion"], "capabilities": {"tools": {"listChanged": True}},
                      "serverInfo": {"name": "hostile", "version": "0"}, "instructions": os.environ.get("HOSTILE_TOKEN", "")}
        elif method == "tools/list":
            result = page(params.get("cursor"))
        elif method == "ping":
            result = {}
        elif method == "tools/call" and params["name"] == "rpc-error":
            send({"id": request, "error": {"code": -32099, "message": "a \"special\" one", "data": {"why": [1, 2]}}})
            return
        elif method == "tools/call":
            result = call(request, params["name"], params.get("arguments", {}))
        else:
            if given("no-discover"):
                os._exit(4)
            send({"id": request, "error": {"code": -32601, "message": "Method not found"}})
            return
    except ValueError as error:
        send({"id": request, "error": {"code": -32000, "message": str(error)}})
        return
    if result is not None:
        send({"id": request, "result": result})


def storm():
    while True:
        send({"method": "notifications/tools/list_changed"})


def main():
    if "--state" in ARGS:
        with open(ARGS[ARGS.index("--state") + 1], "a", encoding="utf-8") as file:
            file.write("x")
    if given("exit"):
        print("cannot start today", file=sys.stderr)
        sys.exit(5)
    if given("hang-on-start"):
        time.sleep(3600)
    if given("chatter"):
        write("> hostile@0 start\n\nnpm notice\n[1,2]\n{}\n" + "z" * 100000)
    if given("flood-stderr"):
        threading.Thread(target=lambda: [sys.stderr.write("noise " * 1000 + "\n") for _ in range(20000)], daemon=True).start()
    if given("storm"):
        threading.Timer(1, storm).start()
    for line in sys.stdin:
        message = json.loads(line)
        if message.get("method") == "tools/call" and message["params"]["name"] in ("slow", "ask-back", "huge"):
            threading.Thread(target=answer, args=(message,), daemon=True).start()
        else:
            answer(message)
    os._exit(0)


if __name__ == "__main__":
    main()
