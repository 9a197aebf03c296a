"""A real object store over HTTP on loopback: moto's server, with a word of what it was asked and a way to break it."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

KEYS = {"AWS_ACCESS_KEY_ID": "who", "AWS_SECRET_ACCESS_KEY": "hush", "AWS_REGION": "us-east-1"}
ELSEWHERE = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT", "AWS_ALLOW_HTTP", "AWS_SESSION_TOKEN", "AWS_PROFILE")

_SIGNED = (
    "AWS4-HMAC-SHA256 Credential=who/20260101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=0"
)


class Cloud:
    """S3 on loopback."""

    def __init__(self) -> None:
        # Here, because it takes seconds to import, and every worker of pytest-xdist looks at every test.
        moto = pytest.importorskip("moto.server", reason="moto[server] is not installed")
        from werkzeug.serving import make_server

        self._app = moto.DomainDispatcherApplication(moto.create_backend_app)
        self._server = make_server("127.0.0.1", 0, self._serve, threaded=True)
        self.port = self._server.server_port
        self.asked: list[str] = []  # "<method> <path>[?<query>]"
        #: Says for a request whether it is refused, and with which status.
        self.refuse: Callable[[str], str | None] = lambda _request: None
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def _serve(self, environ: dict[str, Any], start: Callable[..., Any]) -> Any:
        query = environ["QUERY_STRING"]
        request = f"{environ['REQUEST_METHOD']} {environ['PATH_INFO']}{'?' + query if query else ''}"
        self.asked.append(request)
        if (status := self.refuse(request)) is not None:
            body = environ["wsgi.input"]
            body.read(int(environ.get("CONTENT_LENGTH") or 0))
            start(status, [("Content-Length", "0"), ("ETag", '"x"')])
            return [b""]
        if not environ.get("HTTP_AUTHORIZATION", "").startswith("AWS4"):
            environ["HTTP_AUTHORIZATION"] = _SIGNED  # apart from this, Google is asked as S3 is
        return self._app(environ, start)

    def sent(self) -> list[str]:
        """Return the names of what was put there since this was asked last."""
        asked, self.asked = self.asked, []
        return [item.partition(" /")[2] for item in asked if item.startswith("PUT ")]

    def objects(self, bucket: str = "bucket") -> dict[str, bytes]:
        """Return all that is there, by name."""
        from moto.s3.models import s3_backends

        found = s3_backends["123456789012"]["aws"].buckets[bucket].keys
        return {name: key.value for name, key in found.items()}

    def damage(self, key: str, value: bytes | None, bucket: str = "bucket") -> None:
        """Put other bytes in an object's place, or take it away."""
        import obstore
        from obstore.store import S3Store

        store = S3Store(bucket, client_options={"allow_http": True})
        if value is None:
            obstore.delete(store, key)
        else:
            obstore.put(store, key, value)

    def make(self, bucket: str) -> None:
        """Make a bucket."""
        import http.client

        door = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        door.request("PUT", f"/{bucket}")
        door.getresponse().read()
        door.close()

    def stop(self) -> None:
        """Go away."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@contextlib.contextmanager
def running(monkeypatch: pytest.MonkeyPatch) -> Iterator[Cloud]:
    """Yield an empty S3 with one bucket, which the environment speaks of."""
    from cogbuild.remote import forget_stores

    it = Cloud()
    from moto.s3.models import s3_backends

    forget_stores()
    s3_backends.reset()
    for name in ELSEWHERE:
        monkeypatch.delenv(name, raising=False)
    for name, value in (KEYS | {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{it.port}"}).items():
        monkeypatch.setenv(name, value)
    it.make("bucket")
    it.asked.clear()
    yield it
    it.stop()
    forget_stores()
