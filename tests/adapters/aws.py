"""AWS on loopback: moto's server as SageMaker, and a proxy by which a registry has ECR's name."""

from __future__ import annotations

import contextlib
import http.client
import importlib
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

ACCOUNT, REGION = "123456789012", "eu-west-1"
ECR = f"{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com"
ROLE = f"arn:aws:iam::{ACCOUNT}:role/service-role/Serves"
#: Nobody's: what is asked is on loopback.
KEYS = {
    "AWS_ACCESS_KEY_ID": "who",
    "AWS_SECRET_ACCESS_KEY": "hush",
    "AWS_EC2_METADATA_DISABLED": "true",
    "AWS_CONFIG_FILE": "/dev/null",
    "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
}


@contextlib.contextmanager
def sagemaker() -> Iterator[tuple[str, Any]]:
    """SageMaker without anything in it: its address, and a client of it."""
    moto = pytest.importorskip("moto.server", reason="moto[server] is not installed")
    boto3 = importlib.import_module("boto3")

    server = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        url = f"http://{host}:{port}"
        door = http.client.HTTPConnection(host, port, timeout=20)
        door.request("POST", "/moto-api/reset")
        assert door.getresponse().status == 200
        door.close()
        client = boto3.client(
            "sagemaker",
            region_name=REGION,
            endpoint_url=url,
            aws_access_key_id="who",
            aws_secret_access_key="hush",
        )
        yield url, client
    finally:
        server.stop()


@contextlib.contextmanager
def named_as_ecr(registry: str) -> Iterator[dict[str, str]]:
    """A proxy that answers for ECR with what *registry* answers; yields the variables that lead to it."""

    class Proxy(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _pass_on(self) -> None:
            asked = urlsplit(self.path)
            assert asked.netloc == ECR, self.path
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            door = http.client.HTTPConnection(registry, timeout=60)
            path = f"{asked.path}?{asked.query}" if asked.query else asked.path
            headers = {name: value for name, value in self.headers.items() if "Proxy" not in name}
            door.request(self.command, path, body, headers)
            answer = door.getresponse()
            data = answer.read()
            self.send_response(answer.status)
            for name, value in answer.getheaders():
                if name != "Transfer-Encoding" and (name != "Content-Length" or self.command == "HEAD"):
                    self.send_header(name, value)
            if self.command != "HEAD":
                self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)
            door.close()

        do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = _pass_on  # noqa: N815 - the library's names

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the library's name
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Proxy) as server:
        server.daemon_threads = True
        thread = Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield {
                "HTTP_PROXY": f"http://127.0.0.1:{server.server_port}",
                "http_proxy": f"http://127.0.0.1:{server.server_port}",
                "NO_PROXY": "127.0.0.1,localhost",
                "no_proxy": "127.0.0.1,localhost",
                "REGISTRY_PLAIN_HTTP": ECR,
                "COG_DOCKER_REGISTRY": ECR,
            }
        finally:
            server.shutdown()
