#!/usr/bin/env python3
"""Serves a Majordomo broker (MDP 0.1, RFC 7): replies what it is asked, in capitals.

    pip install pyzmq
    python majordomo_worker.py tcp://127.0.0.1:5555 echo
"""

import argparse
import time

import zmq

READY, REQUEST, REPLY, HEARTBEAT, DISCONNECT = (bytes([code]) for code in range(1, 6))
HEARTBEAT_S = 2.5
LIVENESS = 3  # A broker that says nothing for so many heartbeats is gone.


def send(socket, command, *frames):
    socket.send_multipart([b"", b"MDPW01", command, *frames])


def serve(socket, service):
    """Works until the broker says DISCONNECT or nothing; then a fresh socket is due."""
    send(socket, READY, service)
    heard = beat = time.monotonic()
    while time.monotonic() < heard + LIVENESS * HEARTBEAT_S:
        if time.monotonic() >= beat + HEARTBEAT_S:
            send(socket, HEARTBEAT)
            beat = time.monotonic()
        due = min(beat + HEARTBEAT_S, heard + LIVENESS * HEARTBEAT_S)
        if not socket.poll(max(0, due - time.monotonic()) * 1000):
            continue
        _empty, _protocol, command, *frames = socket.recv_multipart()
        heard = time.monotonic()
        if command == REQUEST:
            client, _empty, *body = frames
            send(socket, REPLY, client, b"", *(frame.decode().upper().encode() for frame in body))
        elif command == DISCONNECT:
            return "the broker says DISCONNECT"
    return "the broker is silent"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("endpoint", help="where the broker listens, as tcp://127.0.0.1:5555")
    parser.add_argument("service", help="which service to serve, as echo")
    args = parser.parse_args()
    context = zmq.Context()
    while True:
        with context.socket(zmq.DEALER) as socket:
            socket.linger = 1000
            socket.connect(args.endpoint)
            try:
                print(f"{serve(socket, args.service.encode())}; trying again", flush=True)
            except KeyboardInterrupt:
                send(socket, DISCONNECT)  # The broker need not wait to notice.
                return
        time.sleep(HEARTBEAT_S)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        pass
