#!/usr/bin/env python3
"""Does an operation for a mutirao broker: turns words into capitals, until it is interrupted.

    python3 mutirao_worker.py tcp://127.0.0.1:5555 upper
"""
import argparse
import random
import time

import msgpack
import zmq

LEASED, WORKED, CONTROL = 6, 7, 10
HEARTBEAT_S = 0.5


def frame(kind, *values):
    return b"MUT1" + bytes([kind]) + b"".join(map(msgpack.packb, values))


def read(message):
    """The kind of a frame and the values after it."""
    unpacker = msgpack.Unpacker(strict_map_key=False)
    unpacker.feed(message[4:])
    kind, *values = unpacker
    return kind, values


def outcome(task):
    try:
        return True, task.upper()
    except AttributeError:
        return False, [f"{task!r} is no word", b""]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("broker")
    parser.add_argument("operation")
    args = parser.parse_args()

    socket = zmq.Context.instance().socket(zmq.DEALER)
    socket.linger = 1000
    socket.connect(args.broker)
    ready = frame(CONTROL, {"Ready": [random.getrandbits(63), 1, [args.operation], []]})
    known, seen, beat_at = False, 0, 0
    while True:
        if time.monotonic() >= beat_at:
            beat_at = time.monotonic() + HEARTBEAT_S
            # It works off what comes at once, and so holds nothing between two messages.
            socket.send(frame(CONTROL, {"Beat": [seen, []]}) if known else ready)
        if not socket.poll(int(HEARTBEAT_S * 1000)):
            continue
        kind, values = read(socket.recv())
        if kind == LEASED:
            lease, _, first, count, _, _, _, _, *tasks = values
            begun, seen = time.monotonic(), lease
            outcomes = [part for task in tasks for part in outcome(task)]
            busy_us = int((time.monotonic() - begun) * 1e6)
            socket.send(frame(WORKED, lease, first, count, busy_us, *outcomes))
        elif "Beat" in values[0]:
            known = True
        elif "WhoAreYou" in values[0]:
            socket.send(ready)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        pass
