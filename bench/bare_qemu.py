# SPDX-License-Identifier: Apache-2.0
"""A QEMU without Ramet, for comparison: the machine of one of the daemon's VMMs, with memory and disk files of one's
own, driven over QMP as the daemon does it."""
import array
import json
import os
import re
import socket
import subprocess
import time


def machine_of(pid):
    """The command line of a VMM of the daemon, without what starts its guest."""
    with open(f"/proc/{pid}/cmdline", encoding="utf-8") as file:
        argv = file.read().split("\0")[:-1]
    for option in ("-kernel", "-initrd", "-append", "-incoming"):
        if option in argv:
            at = argv.index(option)
            del argv[at:at + 2]
    return argv


class Qemu:
    """Spawned with -preconfig: it waits until `run` gives it memory, a disk and a state."""

    def __init__(self, machine, *start):
        self.sockets, theirs = {}, {}
        argv = []
        for word in [*machine, *start]:
            chardev = re.fullmatch(r"socket,id=(\w+),fd=\d+", word)
            if chardev:
                ours, other = socket.socketpair()
                self.sockets[chardev[1]], theirs[chardev[1]] = ours, other
                word = f"socket,id={chardev[1]},fd={other.fileno()}"
            argv.append(word)
        self.process = subprocess.Popen(argv, pass_fds=[s.fileno() for s in theirs.values()], stdin=subprocess.DEVNULL,
                                        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for one in theirs.values():
            one.close()
        self.qmp, self.agent = self.sockets["qmp"].makefile("rb"), self.sockets["agent"]
        json.loads(self.qmp.readline())  # the greeting
        self.call("qmp_capabilities")

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.kill()

    def kill(self):
        self.process.kill()
        self.process.wait()

    def hear(self):
        line = self.qmp.readline()
        if not line:
            raise RuntimeError(f"QEMU has ended: {self.process.wait()}")
        said = json.loads(line)
        if "error" in said:
            raise RuntimeError(said["error"]["desc"])
        return said

    def batch(self, commands, fd=None):
        """All in one message, as the daemon does. Returns the last answer, and the events heard meanwhile."""
        text = b"".join(json.dumps({"execute": name, "arguments": arguments}).encode() for name, arguments in commands)
        fds = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [fd]))] if fd is not None else []
        self.sockets["qmp"].sendmsg([text], fds)
        answers, events = [], []
        while len(answers) < len(commands):
            said = self.hear()
            (answers if "return" in said else events).append(said)
        return answers[-1]["return"], events

    def call(self, command, **arguments):
        return self.batch([(command, arguments)])[0]

    def human(self, line):
        said = self.call("human-monitor-command", **{"command-line": line})
        if said.strip():
            raise RuntimeError(said.strip())

    def run(self, memory, size, disk, disk_format="raw", state=None, share=False, paused=False):
        """Maps `memory` and opens `disk`; boots, or loads the file `state` and runs on from there, when `paused` not
        before `cont`."""
        machine = {"path": "/machine"}
        commands = [("object-add", {"qom-type": "memory-backend-file", "id": "ram", "mem-path": memory, "size": size,
                                    "share": share, "merge": False, "dump": False}),
                    ("qom-set", machine | {"property": "memory", "value": {"size": size}}),
                    ("qom-set", machine | {"property": "memory-backend", "value": "ram"}),
                    ("blockdev-add", {"driver": disk_format, "node-name": "disk0",
                                      "file": {"driver": "file", "filename": disk, "locking": "off"}}),
                    ("x-exit-preconfig", {})]
        fd = None
        if state is not None:
            fd = os.open(state, os.O_RDONLY)
            events = {"capability": "events", "state": True}
            commands += [("migrate-set-parameters", {"announce-rounds": 0}),
                         ("migrate-set-capabilities", {"capabilities": [events]}),
                         ("getfd", {"fdname": "state"}), ("migrate-incoming", {"uri": "fd:state"})]
        def there(said):
            if paused:
                return said.get("event") == "MIGRATION" and said["data"]["status"] == "completed"
            return said.get("event") == "RESUME"
        events = self.batch(commands + ([] if paused else [("cont", {})]), fd)[1]
        if fd is not None:
            os.close(fd)
        while not any(there(said) for said in events):
            events = [self.hear()]

    def await_agent(self, timeout_s=300):
        """Until the guest's agent answers: it has booted. Nobody reads what is sent before."""
        self.agent.settimeout(2)
        text, end = b"", time.monotonic() + timeout_s
        while time.monotonic() < end:
            try:
                self.agent.send(b'\xff{"execute":"guest-ping"}\n')
                text += self.agent.recv(4096)
            except TimeoutError:
                pass
            if b'"return"' in text:
                return
        raise RuntimeError("the guest does not answer")

    def ask_agent(self):
        """One question to an agent that is there: as the daemon asks first, and as it was asked before the snapshot."""
        self.agent.send(b'\xff{"execute":"guest-sync-delimited","arguments":{"id":4711}}\n')

    def hear_agent(self, timeout_s=60):
        self.agent.settimeout(timeout_s)
        text = b""
        while b"4711" not in text:
            text += self.agent.recv(4096)
