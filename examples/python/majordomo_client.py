#!/usr/bin/env python3
"""Sends one request to a Majordomo broker (MDP 0.1, RFC 7) and prints the reply.

    pip install pyzmq
    python majordomo_client.py tcp://127.0.0.1:5555 echo "muitas mãos"
"""

import argparse
import sys

import zmq

TIMEOUT_MS = 2500
TRIES = 3


def ask(context, endpoint, service, text):
    """The frames of the reply's body, or None if there was none in time."""
    # A REQ socket that got no reply takes no further request: each try has its own.
    with context.socket(zmq.REQ) as socket:
        socket.linger = 0
        socket.connect(endpoint)
        socket.send_multipart([b"MDPC01", service, text])
        if not socket.poll(TIMEOUT_MS):
            return None
        protocol, replied, *body = socket.recv_multipart()
    if (protocol, replied) != (b"MDPC01", service):
        sys.exit(f"unexpected reply: {[protocol, replied, *body]}")
    return body


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("endpoint", help="where the broker listens, as tcp://127.0.0.1:5555")
    parser.add_argument("service", help="which service to ask, as echo or mmi.service")
    parser.add_argument("text", help="what to ask it")
    args = parser.parse_args()
    with zmq.Context() as context:
        for attempt in range(1, TRIES + 1):
            body = ask(context, args.endpoint, args.service.encode(), args.text.encode())
            if body is not None:
                for frame in body:
                    print(frame.decode(errors="replace"))
                return
            print(f"no reply to try {attempt} of {TRIES}", file=sys.stderr)
    sys.exit(f"{args.endpoint} did not answer: is a worker for {args.service} there?")


if __name__ == "__main__":
    main()
