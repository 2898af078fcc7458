# SPDX-License-Identifier: Apache-2.0
"""The daemon's API over one connection that stays open, for benches that time calls."""
import http.client
import json
import socket


class Api(http.client.HTTPConnection):
    def __init__(self, path):
        super().__init__("localhost")
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(self.path)

    def call(self, method, path, body=None):
        self.request(method, path, None if body is None else json.dumps(body),
                     {} if body is None else {"Content-Type": "application/json"})
        answer = self.getresponse()
        data = json.loads(answer.read())
        if answer.status >= 400:
            raise RuntimeError(f"{method} {path}: {answer.status}: {data}")
        return data

    def get(self, path):
        return self.call("GET", path)

    def post(self, path, body=None):
        return self.call("POST", path, body)

    def delete(self, path):
        return self.call("DELETE", path)
