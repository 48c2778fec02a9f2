#!/usr/bin/env python3
"""Works for a mutirao broker over a plain TCP socket, in JSON; needs nothing but Python.

    mutirao broker --transport tcp --codec json
    python3 worker_tcp_json.py 127.0.0.1:5555
    mutirao submit texts/ --op wordcount --wait --out results --transport tcp --codec json

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
import threading
import time

PREFACE = b"MUTR1\x04\0\0"  # version 1 of the stream, from a DEALER
MORE, CONTROL, PING, PONG = 1 << 31, 1 << 30, b"\0", b"\1"
MAX_FRAME_BYTES = 64 << 20
HEARTBEAT_S, SILENCE_S = 0.5, 10


# Letters and digits, with accents of their own, and with single hyphens and apostrophes inside.
WORD = re.compile("[^\\W_](?:[^\\W_\u0300-\u036f]|[\u0300-\u036f]|['’-](?=[^\\W_]))*")


def wordcount(text):
    """Lines of word, tab, count; sorted by word."""
    words = collections.Counter(word.lower() for word in WORD.findall(text.decode()))
    return "".join(f"{word}\t{count}\n" for word, count in sorted(words.items()))


def linecount(data):
    ended = data.count(b"\n")
    return f"{ended + (data != b'' and data[-1:] != bytes([10]))}\n"


# What it can do: from bytes to bytes or text. "merge" says how the pieces of a large file become one.
OPERATIONS = {
    "uppercase": (lambda text: text.decode().upper(), "text"),
    "lowercase": (lambda text: text.decode().lower(), "text"),
    "wordcount": (wordcount, "counts"),
    "linecount": (linecount, "number"),
    "sha256": (lambda data: hashlib.sha256(data).hexdigest() + "\n", "text"),
    "sleep": (lambda ms: time.sleep(float(ms or 0) / 1000) or "", "bytes"),
}


class Connection:
    """Frames over a socket: four bytes of length, then an object as JSON."""

    def __init__(self, address):
        host, _, port = address.rpartition(":")
        self.socket = socket.create_connection((host.strip("[]"), int(port)), timeout=SILENCE_S)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.lock, self.buffer, self.heard = threading.Lock(), bytearray(), time.monotonic()
        self.socket.sendall(PREFACE)
        if self.take(len(PREFACE), wait=True)[:5] != PREFACE[:5]:
            raise ConnectionError("no mutirao broker on raw TCP listens there")

    def send(self, message):
        body = json.dumps(message).encode()
        with self.lock:  # heartbeats come from another thread than results
            self.socket.sendall(struct.pack(">I", len(body)) + body)

    def messages(self):
        """The messages that have come, after waiting for the time of a heartbeat at most."""
        if select.select([self.socket], [], [], HEARTBEAT_S)[0]:
            self.fill()
        elif time.monotonic() - self.heard > SILENCE_S:
            raise ConnectionError("the broker is silent")
        while len(self.buffer) >= 4:
            (header,) = struct.unpack(">I", self.buffer[:4])
            length = header & (CONTROL - 1)
            if length > MAX_FRAME_BYTES or header & MORE:
                raise ConnectionError("a frame that no broker sends")
            if len(self.buffer) < 4 + length:
                return
            body = self.take(4 + length)[4:]
            if not header & CONTROL:
                yield json.loads(body)
            elif body == PING:
                with self.lock:
                    self.socket.sendall(struct.pack(">I", CONTROL | 1) + PONG)

    def take(self, count, wait=False):
        while wait and len(self.buffer) < count:
            self.fill()
        taken = bytes(self.buffer[:count])
        del self.buffer[:count]
        return taken

    def fill(self):
        received = self.socket.recv(1 << 16)
        if not received:
            raise ConnectionError("the broker closed the connection")
        self.buffer += received
        self.heard = time.monotonic()


def result(task):
    """What came of a task: the message that says so."""
    # `id` and `place` go back as they came: whose result it is, and where it belongs.
    answer = {"type": "RESULT", "id": task["id"], **({"place": task["place"]} if "place" in task else {})}
    try:
        if "problem" in task:
            raise ValueError(task["problem"])
        work, merge = OPERATIONS[task["operation"]]
        body = task["body"]
        body = work(base64.b64decode(body["base64"]) if isinstance(body, dict) else body.encode())
        return {**answer, "ok": True, "merge": merge, "body": body}
    except Exception as error:  # a task that fails must not end the worker
        name = task.get("place", {}).get("name") or "the task"
        return {**answer, "ok": False, "error": f"{name}: {error}"}


class Worker:
    def __init__(self, address, name, operations):
        self.address, self.stopping = address, threading.Event()
        self.ready = {"type": "READY", "name": name, "operations": operations, "slots": 1}

    def run(self):
        while not self.stopping.is_set():
            try:
                self.serve(Connection(self.address))
            except (OSError, ConnectionError) as error:
                print(f"{self.address}: {error}; trying again", flush=True)
                self.stopping.wait(HEARTBEAT_S)

    def serve(self, connection):
        connection.send(self.ready)
        print(f"ready at {self.address}", flush=True)
        beating = threading.Thread(target=self.beat, args=[connection], daemon=True)
        beating.start()
        with connection.socket:
            while not self.stopping.is_set():
                for message in connection.messages():
                    if message["type"] == "PROCESS":
                        connection.send(result(message))
                    elif message["type"] == "READY":  # the broker does not know us
                        connection.send(self.ready)
            connection.send({"type": "BEAT", "what": "Gone"})

    def beat(self, connection):
        """Says that we live, also while a task takes its time."""
        try:
            while not self.stopping.wait(HEARTBEAT_S):
                connection.send({"type": "BEAT"})
        except OSError:
            pass  # whoever reads from the connection notices as well


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("broker", help="HOST:PORT")
    parser.add_argument("--ops", default=",".join(OPERATIONS), help="what to offer, with commas")
    parser.add_argument("--name", default=f"{socket.gethostname()}-{os.getpid()}-{time.time_ns()}")
    args = parser.parse_args()
    worker = Worker(args.broker, args.name, args.ops.split(","))
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: worker.stopping.set())
    worker.run()


if __name__ == "__main__":
    main()
