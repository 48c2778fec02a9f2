#!/usr/bin/env python3
"""Works for a mutirao broker over a plain TCP socket, in JSON; needs nothing but Python.

    mutirao broker --transport tcp --codec json
    python3 worker_tcp_json.py 127.0.0.1:5555
    mutirao submit texts/ --op wordcount --wait --transport tcp --codec json

What travels is described in docs/protocol.md, "JSON". Ctrl-C or SIGTERM: it finishes what it has begun.
"""
import argparse
import base64
import collections
import hashlib
import json
import os
import re
import select
import signal
import socket
import struct
import subprocess
import sys
import threading
import time

PREFACE = b"MUTR1\x04\0\0"  # version 1 of the stream, from a DEALER
MORE, CONTROL, PING, PONG = 1 << 31, 1 << 30, b"\0", b"\1"
MAX_FRAME_BYTES = 64 << 20
MAX_RESULT_BYTES = 48 << 20  # over more a broker closes the connection: --max-payload-bytes, a third and 4 MiB
SILENCE_S = 10

# Letters and digits, with accents of their own, and with single hyphens and apostrophes inside.
WORD = re.compile("[^\\W_](?:[^\\W_\u0300-\u036f]|[\u0300-\u036f]|['’-](?=[^\\W_]))*")


def wordcount(text):
    """Lines of word, tab, count; sorted by word."""
    words = collections.Counter(word.lower() for word in WORD.findall(text.decode()))
    return "".join(f"{word}\t{count}\n" for word, count in sorted(words.items()))


def linecount(data):
    return f"{data.count(10) + (data[-1:] not in (b'', bytes([10])))}\n"


# What it can do: from bytes to text. The second says how the results of a file's pieces become one.
OPERATIONS = {
    "uppercase": (lambda text: text.decode().upper(), "text"),
    "lowercase": (lambda text: text.decode().lower(), "text"),
    "wordcount": (wordcount, "counts"),
    "linecount": (linecount, "number"),
    "sha256": (lambda data: hashlib.sha256(data).hexdigest() + "\n", "text"),
}


def result(task):
    """What came of a task: the message that says so, as it travels."""
    # `id` and `place` go back as they came: whose result it is, and where it belongs.
    answer = {"type": "RESULT"} | {key: task[key] for key in ("id", "place") if key in task}
    try:
        if "problem" in task:
            raise ValueError(task["problem"])
        body, (work, merge) = task["body"], OPERATIONS[task["operation"]]
        data = base64.b64decode(body["base64"]) if isinstance(body, dict) else body.encode()
        frame = encode(answer | {"ok": True, "merge": merge, "body": work(data)})
        if len(frame) > MAX_RESULT_BYTES:
            raise ValueError(f"its result takes {len(frame)} bytes and may take {MAX_RESULT_BYTES}: use smaller pieces")
        return frame
    except Exception as error:  # a task that fails must not end the worker
        name = task.get("place", {}).get("name") or "the task"
        return encode(answer | {"ok": False, "error": f"{name}: {error}"})


def encode(message):
    """Four bytes of length, then the object; in UTF-8, as escapes would make three times as much of some texts."""
    body = json.dumps(message, ensure_ascii=False).encode()
    return struct.pack(">I", len(body)) + body


def read(pipe):
    """A frame from the other process, or nothing when that has ended."""
    header = pipe.read(4)
    return header and header + pipe.read(*struct.unpack(">I", header))


def work_off():
    """The life of the process that works; it ends with the one that talks to the broker."""
    while frame := read(sys.stdin.buffer):
        sys.stdout.buffer.write(result(json.loads(frame[4:])))
        sys.stdout.buffer.flush()


def hand_over(process, frame):
    """Has the other process do a task: a long call into C would hold up our heartbeats."""
    process.stdin.write(frame)
    process.stdin.flush()
    done = read(process.stdout)
    if not done:
        raise ChildProcessError("the process that works has died")
    return done


class Connection:
    """Frames over a socket."""

    def __init__(self, address):
        host, _, port = address.rpartition(":")
        self.socket = socket.create_connection((host.strip("[]"), int(port)), timeout=SILENCE_S)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.lock, self.buffer, self.heard = threading.Lock(), bytearray(), time.monotonic()
        self.socket.sendall(PREFACE)
        while len(self.buffer) < len(PREFACE):
            self.receive()
        if self.take(len(PREFACE))[:5] != PREFACE[:5]:
            raise ConnectionError("no mutirao broker on raw TCP listens there")

    def send(self, frame):
        with self.lock:  # heartbeats come from another thread than results
            self.socket.sendall(frame)

    def frames(self, patience_s):
        """The frames that have come, after waiting for so long at most."""
        if select.select([self.socket], [], [], patience_s)[0]:
            self.receive()
        elif time.monotonic() - self.heard > SILENCE_S:
            raise ConnectionError("the broker is silent")
        while len(self.buffer) >= 4:
            (header,) = struct.unpack(">I", self.buffer[:4])
            length = header & (CONTROL - 1)
            if length > MAX_FRAME_BYTES or header & MORE:
                raise ConnectionError("a frame that no broker sends")
            if len(self.buffer) < 4 + length:
                return
            frame = self.take(4 + length)
            if not header & CONTROL:
                yield frame
            elif frame[4:] == PING:
                self.send(struct.pack(">I", CONTROL | 1) + PONG)

    def take(self, count):
        taken = bytes(self.buffer[:count])
        del self.buffer[:count]
        return taken

    def receive(self):
        received = self.socket.recv(1 << 16)
        if not received:
            raise ConnectionError("the broker closed the connection")
        self.buffer += received
        self.heard = time.monotonic()


def beat(connection, heartbeat_s, stopping):
    """Says that we live, also while a task takes its time."""
    try:
        while not stopping.wait(heartbeat_s):
            connection.send(encode({"type": "BEAT"}))
    except OSError:
        pass  # whoever reads from the connection notices as well


def serve(connection, ready, heartbeat_s, stopping):
    connection.send(encode(ready))
    print("ready", flush=True)
    threading.Thread(target=beat, args=[connection, heartbeat_s, stopping], daemon=True).start()
    # In a session of its own, out of reach of Ctrl-C.
    options = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "start_new_session": True}
    with connection.socket, subprocess.Popen([sys.executable, __file__, "--work-off"], **options) as process:
        while not stopping.is_set():
            for frame in connection.frames(heartbeat_s):
                kind = json.loads(frame[4:])["type"]
                if kind == "PROCESS":
                    connection.send(hand_over(process, frame))
                elif kind == "READY":  # the broker does not know us
                    connection.send(encode(ready))
        connection.send(encode({"type": "BEAT", "what": "Gone"}))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("broker", help="HOST:PORT")
    parser.add_argument("--ops", default=",".join(OPERATIONS), help="what to offer, with commas")
    parser.add_argument("--name", default=f"{socket.gethostname()}-{os.getpid()}-{time.time_ns()}")
    parser.add_argument("--heartbeat", type=float, default=0.5, metavar="SECONDS")
    args = parser.parse_args()
    ready = {"type": "READY", "name": args.name, "operations": args.ops.split(","), "slots": 1}
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    while not stopping.is_set():
        try:
            serve(Connection(args.broker), ready, args.heartbeat, stopping)
        except OSError as error:  # a ConnectionError is one
            print(f"{args.broker}: {error}; trying again", flush=True)
            stopping.wait(args.heartbeat)


if __name__ == "__main__":
    work_off() if sys.argv[1:] == ["--work-off"] else main()
