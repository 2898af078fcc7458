#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Goal: api/openapi.yaml is valid OpenAPI 3.1 and says exactly what the daemon serves.

usage: test_openapi.py RAMETD OPENAPI_YAML [--live SOCKET]

Checks the document's structure, that every $ref resolves, every schema against the
JSON Schema 2020-12 metaschema, and every example against its schema; compares the
operations with `rametd --routes` in both directions. With --live, also calls what can
be called without arguments on a running daemon and checks the answers against their
schemas, and that the daemon serves this very file.
"""
import http.client
import json
import re
import socket
import subprocess
import sys

import jsonschema
import yaml

METHODS = ("get", "put", "post", "delete", "patch", "head", "options", "trace")
problems = []


def check(ok, message):
    if not ok:
        problems.append(message)
    return ok


def resolve(doc, node):
    """Follows a $ref to its target; a node without one is its own target."""
    while isinstance(node, dict) and "$ref" in node:
        ref, node = node["$ref"], doc
        for part in ref.removeprefix("#/").split("/"):
            node = node[part.replace("~1", "/").replace("~0", "~")]
    return node


def walk(node, path=""):
    yield path, node
    children = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, child in children:
        yield from walk(child, f"{path}/{key}")


def operations(doc):
    for path, item in doc["paths"].items():
        for method in METHODS:
            if method in item:
                yield method.upper(), path, item, item[method]


def validator(doc, schema):
    """A validator whose local references resolve inside the document."""
    return jsonschema.Draft202012Validator({**schema, "components": doc["components"]})


def check_top(doc):
    check(re.fullmatch(r"3\.1\.\d+", str(doc.get("openapi"))), "openapi: not 3.1.x")
    for key in ("title", "version"):
        check(isinstance(doc.get("info", {}).get(key), str), f"info.{key}: missing")
    known = {"openapi", "info", "servers", "paths", "components", "tags", "security", "externalDocs", "webhooks",
             "jsonSchemaDialect"}
    check(set(doc) <= known, f"unknown top-level members {set(doc) - known}")
    for section, members in doc["components"].items():
        for name in members:
            check(re.fullmatch(r"[A-Za-z0-9._-]+", name), f"components/{section}/{name}: name not allowed")


def check_refs(doc):
    used = set()
    for path, node in walk(doc):
        if isinstance(node, dict) and isinstance(node.get("$ref"), str):
            used.add(node["$ref"])
            try:
                resolve(doc, node)
            except (KeyError, TypeError):
                check(False, f"{path}: {node['$ref']} does not resolve")
    for section, members in doc["components"].items():
        for name in members:
            check(f"#/components/{section}/{name}" in used, f"components/{section}/{name}: never used")


def check_content(doc, where, content, required=True):
    check(content or not required, f"{where}: no content")
    for media, body in (content or {}).items():
        schema = body.get("schema")
        if not check(isinstance(schema, dict), f"{where} {media}: no schema"):
            continue
        examples = [body["example"]] if "example" in body else []
        for example in examples + [e["value"] for e in body.get("examples", {}).values()]:
            for error in validator(doc, schema).iter_errors(example):
                check(False, f"{where} {media}: example: {error.message}")


def check_parameters(doc, where, path, item, operation):
    parameters = [resolve(doc, p) for p in item.get("parameters", []) + operation.get("parameters", [])]
    for p in parameters:
        check(p.get("in") in ("path", "query", "header", "cookie") and isinstance(p.get("schema"), dict),
              f"{where}: malformed parameter {p.get('name')}")
        check(p.get("in") != "path" or p.get("required") is True, f"{where}: path parameter must be required")
    declared = sorted(p["name"] for p in parameters if p["in"] == "path")
    check(declared == sorted(re.findall(r"{(.*?)}", path)), f"{where}: path parameters do not fit the path")


def check_operations(doc):
    seen = set()
    tags = {t["name"] for t in doc.get("tags", [])}
    for method, path, item, operation in operations(doc):
        where = f"{method} {path}"
        name = operation.get("operationId")
        check(name and name not in seen, f"{where}: operationId missing or used twice")
        seen.add(name)
        check(operation.get("summary"), f"{where}: no summary")
        check(set(operation.get("tags", [])) <= tags, f"{where}: unknown tag")
        check_parameters(doc, where, path, item, operation)
        if "requestBody" in operation:
            check(method in ("POST", "PUT", "PATCH"), f"{where}: takes a body")
            check_content(doc, f"{where} request", resolve(doc, operation["requestBody"]).get("content"))
        responses = operation.get("responses", {})
        check(any(s.startswith("2") for s in responses), f"{where}: no success")
        check("default" in responses, f"{where}: no error response")
        for status, response in responses.items():
            check(re.fullmatch(r"[1-5](\d\d|XX)|default", status), f"{where}: status {status}")
            response = resolve(doc, response)
            check(response.get("description"), f"{where} {status}: no description")
            check_content(doc, f"{where} {status}", response.get("content"), status not in ("202", "204"))
    for path in doc["paths"]:
        check(path.startswith("/"), f"{path}: does not begin with /")


def schemas(doc):
    for name, schema in doc["components"]["schemas"].items():
        yield f"schema {name}", schema
    for path, node in walk({k: v for k, v in doc.items() if k != "components"}):
        if path.endswith("/schema"):
            yield path, node


def check_schemas(doc):
    for where, schema in schemas(doc):
        try:
            jsonschema.Draft202012Validator.check_schema(schema)
        except jsonschema.SchemaError as error:
            check(False, f"{where}: {error.message}")
        for path, node in walk(schema):
            if isinstance(node, dict) and node.get("type") == "object" and "required" in node:
                missing = set(node["required"]) - set(node.get("properties", {}))
                check(not missing, f"{where}{path}: requires {missing} without describing them")


def check_routes(doc, rametd):
    printed = subprocess.run([rametd, "--routes"], check=True, capture_output=True, text=True).stdout
    served = set(tuple(line.split()) for line in printed.splitlines())
    described = set((m, p, o.get("operationId")) for m, p, _, o in operations(doc))
    for route in sorted(served - described):
        check(False, f"served but not described: {' '.join(route)}")
    for route in sorted(described - served, key=str):
        check(False, f"described but not served: {' '.join(map(str, route))}")


# ---- against a running daemon ----


class UnixConnection(http.client.HTTPConnection):
    def __init__(self, path):
        super().__init__("localhost")
        self.unix_path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(self.unix_path)


def request(connection, method, path, body=None):
    headers = {"Content-Type": "application/json"} if body is not None else {}
    connection.request(method, path, body, headers)
    answer = connection.getresponse()
    return answer.status, answer.read().decode()


def check_live(doc, path, text):
    connection = UnixConnection(path)
    for method, route, _, operation in operations(doc):
        if method != "GET" or "{" in route or "parameters" in operation or route == "/openapi.yaml":
            continue
        status, answer = request(connection, "GET", route)
        check(status == 200, f"live GET {route}: {status} {answer}")
        schema = operation["responses"]["200"]["content"]["application/json"]["schema"]
        for error in validator(doc, schema).iter_errors(json.loads(answer)):
            check(False, f"live GET {route}: {error.json_path}: {error.message}")
    check(request(connection, "GET", "/openapi.yaml") == (200, text), "live: /openapi.yaml is another file")
    for method, route, body, want in (("GET", "/v1/sandboxes/no-such", None, 404), ("GET", "/nothing", None, 404),
                                      ("PATCH", "/v1/status", None, 405), ("POST", "/v1/sandboxes", "{", 400),
                                      ("POST", "/v1/sandboxes", '{"nmae": 1}', 400)):
        status, answer = request(connection, method, route, body)
        check(status == want, f"live {method} {route}: {status}, not {want}")
        for error in validator(doc, {"$ref": "#/components/schemas/Error"}).iter_errors(json.loads(answer)):
            check(False, f"live {method} {route}: {error.message}")


def main():
    if len(sys.argv) not in (3, 5) or (len(sys.argv) == 5 and sys.argv[3] != "--live"):
        sys.exit(__doc__)
    with open(sys.argv[2], encoding="utf-8") as file:
        text = file.read()
    doc = yaml.safe_load(text)
    check_top(doc)
    check_refs(doc)
    if not problems:
        check_operations(doc)
        check_schemas(doc)
        check_routes(doc, sys.argv[1])
    if len(sys.argv) == 5:
        check_live(doc, sys.argv[4], text)
    for problem in problems:
        print(problem, file=sys.stderr)
    print(f"{sum(1 for _ in operations(doc))} operations, {len(problems)} problems")
    sys.exit(1 if problems else 0)


if __name__ == "__main__":
    main()
