"""A stand-in for QEMU: ``python fake_qemu.py OPTIONS`` opens the sockets the options name and plays a scene.

The scene is JSON in ``FAKE_QEMU_SCENE``: a list of steps, played in order.

    ["serial", "text\\n"]            write to the console log
    ["flood", count]                that many bytes without a newline to the console log
    ["status", {...}]               one line on the status port
    ["raw-status", "text"]          bytes as they are
    ["event", "NAME", {...}]        a monitor event
    ["sleep", seconds]
    ["say", "text"]                 write to stderr
    ["argv"]                        write its options to stderr, as a line of JSON
    ["babble", count]               that many bytes to stderr
    ["fill"]                        until the disk of the state folder is full
    ["raw-monitor", "text"]         bytes on the monitor as they are
    ["greet", "text"]               as the first step: instead of the monitor's greeting
    ["hang"]                        until told to quit
    ["await", "command"]            until the monitor was given that command
    ["spin"]                        as hang, but burn processor time at one address (a firmware's dead loop)
    ["exit", status]
"""

from __future__ import annotations

import json
import os
import re
import socket
import sys
import threading
import time
from typing import Any

_LOOP = 0x3EC6C148
_PATH = re.compile(r"socket,id=([a-z]+)0,path=([^,]+),server=(on|off)")


class FakeQemu:
    """One process's worth of pretence."""

    def __init__(self, options: list[str]) -> None:
        self.quit = threading.Event()
        self.spinning = False
        self.monitor: socket.socket | None = None
        self.status: socket.socket | None = None
        self.greeting: str | None = None
        self.heard: list[str] = []
        self.obey_power = os.environ.get("FAKE_QEMU_POWER") == "obey"
        self.sockets: dict[str, socket.socket] = {}
        for option in options:
            match = _PATH.match(option)
            if match is not None:
                self.sockets[match[1]] = self._socket(match[2], listen=match[3] == "on")

    def _socket(self, path: str, *, listen: bool) -> socket.socket:
        made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        if listen:
            made.bind(path)
            made.listen(1)
        else:
            made.connect(path)
        return made

    def serve_monitor(self) -> None:
        """Greet, then answer every command."""
        self.monitor, _ = self.sockets["qmp"].accept()
        if self.greeting is not None:
            self.monitor.sendall(self.greeting.encode())
            return
        self.send(
            {"QMP": {"version": {"qemu": {"major": 11, "minor": 1, "micro": 0}, "package": ""}, "capabilities": []}}
        )
        for line in self.monitor.makefile("r"):
            request = json.loads(line)
            self.heard.append(request["execute"])
            self.send({"return": self.answer(request["execute"], request.get("arguments", {}))})
            if request["execute"] == "system_reset":
                self.event("RESET", {"guest": False, "reason": "host-qmp-system-reset"})
            if request["execute"] == "quit" or (request["execute"] == "system_powerdown" and self.obey_power):
                self.event("SHUTDOWN", {"guest": False, "reason": "host-qmp-quit"})
                self.quit.set()

    def answer(self, command: str, arguments: dict[str, Any]) -> Any:
        if command != "human-monitor-command":
            return {}
        if arguments["command-line"] == "info registers":
            rip = _LOOP if self.spinning else 0x1000 + int(time.monotonic() * 1000) * 64 % 0x10000000
            return f"RIP={rip:016x} RFL=00000246"
        return "000000003ec6c140: 0x48 0x39 0x45 0xf8 0x75 0x04 0xf3 0x90\n"

    def send(self, message: dict[str, Any]) -> None:
        if self.monitor is not None:
            self.monitor.sendall(json.dumps(message).encode() + b"\r\n")

    def event(self, name: str, data: dict[str, Any]) -> None:
        self.send({"timestamp": {"seconds": 1, "microseconds": 2}, "event": name, "data": data})

    def play(self, scene: list[list[Any]]) -> int:
        """Act; the exit status."""
        if scene and scene[0][0] == "greet":
            self.greeting = scene[0][1]
        threading.Thread(target=self.serve_monitor, daemon=True).start()
        self.status, _ = self.sockets["status"].accept()
        for name, *rest in scene:
            if self.quit.is_set():
                return 0
            if name == "exit":
                return int(rest[0])
            self.step(name, rest)
        return 0

    def step(self, name: str, rest: list[Any]) -> None:
        status = self.status
        if status is None:
            raise SystemExit("no status port")
        if name in ("serial", "flood"):
            with open("serial.log", "ab") as log:
                log.write(rest[0].encode() if name == "serial" else b"x" * rest[0])
        elif name == "status":
            status.sendall(json.dumps(rest[0]).encode() + b"\n")
        elif name == "raw-status":
            status.sendall(rest[0].encode())
        elif name == "event":
            self.event(rest[0], rest[1])
        elif name == "say":
            print(rest[0], file=sys.stderr, flush=True)
        elif name == "babble":
            sys.stderr.write(("x" * 79 + "\n") * (rest[0] // 80))
            sys.stderr.flush()
        elif name == "fill":
            fill("filler")
        elif name == "raw-monitor" and self.monitor is not None:
            self.monitor.sendall(rest[0].encode())
        elif name == "argv":
            print(json.dumps(sys.argv[1:]), file=sys.stderr, flush=True)
        elif name == "sleep":
            self.quit.wait(rest[0])
        elif name == "hang":
            self.quit.wait()
        elif name == "await":
            while rest[0] not in self.heard and not self.quit.wait(0.01):
                pass
            if rest[0] in self.heard:
                self.heard.remove(rest[0])
        elif name == "spin":
            self.spinning = True
            while not self.quit.is_set():
                pass


def fill(path: str) -> None:
    """As many bytes as the disk takes."""
    with open(path, "wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            return


if __name__ == "__main__":
    scene = json.loads(os.environ.get("FAKE_QEMU_SCENE", "[]"))
    if scene and scene[0][0] == "refuse-to-start":
        print(scene[0][1], file=sys.stderr)
        raise SystemExit(1)
    raise SystemExit(FakeQemu(sys.argv[1:]).play(scene))
