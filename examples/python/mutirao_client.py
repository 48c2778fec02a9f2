#!/usr/bin/env python3
"""Submits words to an operation of a mutirao broker and prints the results in order.

    python3 mutirao_client.py tcp://127.0.0.1:5555 upper muitas maos

Opening and fetching over one connection, it works with a broker in either mode.
"""
import argparse
import random
import time

import msgpack
import zmq

TASKS, OUTCOMES, CONTROL = 5, 8, 9
HEARTBEAT_S = 0.5


def frame(kind, *values):
    return b"MUT1" + bytes([kind]) + b"".join(map(msgpack.packb, values))


def read(message):
    """The kind of a frame and the values after it."""
    unpacker = msgpack.Unpacker(strict_map_key=False)
    unpacker.feed(message[4:])
    kind, *values = unpacker
    return kind, values


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("broker")
    parser.add_argument("operation")
    parser.add_argument("words", nargs="+")
    args = parser.parse_args()
    job, words = random.getrandbits(63), [word.encode() for word in args.words]
    settings = [args.operation, "from Python", 3, 0, 0, 3600]

    socket = zmq.Context.instance().socket(zmq.DEALER)
    socket.linger = 0
    socket.connect(args.broker)
    opening = frame(CONTROL, {"Open": [job, settings]})
    socket.send(opening)
    results, beat_at = {}, 0
    while True:
        if time.monotonic() >= beat_at:
            beat_at = time.monotonic() + HEARTBEAT_S
            socket.send(frame(CONTROL, {"Beat": [[job], [job]]}))
        if not socket.poll(int(HEARTBEAT_S * 1000)):
            continue
        kind, values = read(socket.recv())
        if kind == OUTCOMES:
            _, first, count, *outcomes = values
            for n in range(count):
                done, value = outcomes[2 * n : 2 * n + 2]
                results[first + n] = value.decode() if done else f"failed: {value[0]}"
            socket.send(frame(CONTROL, {"Safe": [job, [[first, first + count]]]}))
            continue
        (name, fields), = values[0].items()
        if name in ("Opened", "Room"):
            socket.send(frame(TASKS, job, 0, len(words), *words))
        elif name == "Accepted":
            socket.send(frame(CONTROL, {"Close": [job, len(words)]}))
        elif name == "Closed":
            # The broker has all of it for good: who does not want the results may leave now.
            socket.send(frame(CONTROL, {"Fetch": [job, 1 << 20, []]}))
        elif name in ("Resume", "Unknown"):
            socket.send(opening)
        elif name in ("Refused", "Cancelled"):
            raise SystemExit(f"the broker ended the job: {fields[1:]}")
        elif name == "Complete":
            break
    for n in range(len(words)):
        print(results[n])


if __name__ == "__main__":
    main()
