# SPDX-License-Identifier: Apache-2.0
"""Runs in the guest: holds 64 MB of state, counts, and works on the state when asked.

    guest.py serve          counts ten times a second, each count also synced to disk
    guest.py ask status     {"count", "disk", "crc", "work"} of the process that serves
    guest.py ask work N     multiplies part of the live state by N and notes it on disk
"""
import json
import os
import socket
import sys
import threading
import time
import zlib

SOCKET, COUNT, NOTE = "/run/demo.sock", "/root/count", "/root/work"
STATE_BYTES = 64 << 20


class State:
    def __init__(self):
        self.bytes = bytearray(os.urandom(1 << 20) * (STATE_BYTES >> 20))
        for i in range(0, STATE_BYTES, 4096):  # no two pages alike
            self.bytes[i:i + 8] = i.to_bytes(8, "little")
        self.count, self.work = 0, 0

    def tick(self):
        with open(COUNT + ".new", "w") as file:
            file.write(str(self.count + 1))
            file.flush()
            os.fsync(file.fileno())
        os.rename(COUNT + ".new", COUNT)
        self.count += 1

    def do_work(self, factor):
        part = self.bytes[:1 << 20]
        self.bytes[:1 << 20] = bytes(b * factor & 0xFF for b in part)
        self.work = factor
        with open(NOTE, "a") as file:
            file.write(f"{factor} at {self.count}\n")

    def status(self):
        with open(COUNT) as file:
            disk = int(file.read())
        note = open(NOTE).read() if os.path.exists(NOTE) else ""
        return {"count": self.count, "disk": disk, "crc": zlib.crc32(self.bytes), "work": self.work, "note": note}


def serve():
    state = State()
    state.tick()
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(SOCKET)
    listener.listen(4)

    def count():
        while True:
            time.sleep(0.1)
            state.tick()

    threading.Thread(target=count, daemon=True).start()
    while True:
        peer, _ = listener.accept()
        with peer:
            words = peer.makefile().readline().split()
            if words[0] == "work":
                state.do_work(int(words[1]))
            peer.sendall(json.dumps(state.status()).encode())


def ask(words):
    peer = socket.socket(socket.AF_UNIX)
    peer.connect(SOCKET)
    peer.sendall((" ".join(words) + "\n").encode())
    print(peer.makefile().read())


if sys.argv[1] == "serve":
    serve()
else:
    ask(sys.argv[2:])
