"""A server of the S3 protocol on this machine: moto's, in a process of its own, which counts requests."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass

SCRIPT = r"""
import collections, json, logging, sys, threading
from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server

logging.getLogger("werkzeug").setLevel(logging.ERROR)
moto = DomainDispatcherApplication(create_backend_app)
counts, lock, ignores = collections.Counter(), threading.Lock(), "--ignore_conditions" in sys.argv

def app(environ, start_response):
    path = environ["PATH_INFO"]
    if path == "/_counts":
        with lock:
            body = json.dumps(counts).encode()
            counts.clear()
        start_response("200 OK", [("Content-Type", "application/json")])
        return [body]
    kind = environ["REQUEST_METHOD"]
    if kind == "GET" and "list-type" in environ["QUERY_STRING"]:
        kind = "LIST"
    with lock:
        counts[kind] += 1
    if ignores:
        environ.pop("HTTP_IF_NONE_MATCH", None)
    return moto(environ, start_response)

server = make_server("127.0.0.1", 0, app, threaded=True)
print(server.port, flush=True)
server.serve_forever()
"""


@dataclass(frozen=True)
class S3:
    """A running server."""

    endpoint: str

    @property
    def environment(self) -> dict[str, str]:
        """The variables with which clients find it."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": "AKIATESTKEY",
            "AWS_SECRET_ACCESS_KEY": "very-secret-words",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def requests(self) -> dict[str, int]:
        """Return the numbers of requests since the last call, by kind."""
        with urllib.request.urlopen(f"{self.endpoint}/_counts") as answer:
            return dict(json.loads(answer.read()))

    def make_bucket(self, name: str) -> None:
        """Make an empty bucket."""
        urllib.request.urlopen(urllib.request.Request(f"{self.endpoint}/{name}", method="PUT")).close()
        self.requests()


@contextlib.contextmanager
def s3_server(*arguments: str) -> Iterator[S3]:
    """Run a server for the duration of the block."""
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "AWS_ACCESS_KEY_ID": "server", "AWS_SECRET_ACCESS_KEY": "server"},
        text=True,
    )
    try:
        assert process.stdout is not None
        yield S3(f"http://127.0.0.1:{int(process.stdout.readline())}")
    finally:
        process.kill()
        process.wait()
