"""What users of comparable servers expect to find."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from serving import Server, make_catalog, needs_models, serving

pytestmark = needs_models
PAGE = "https://page.example"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    catalog = make_catalog(tmp_path_factory.mktemp("serve"))
    with serving(catalog, "--chat-template", "chatml", "-c", "4096", "--cors-origins", PAGE) as running:
        yield running


def test_pages_of_browsers(server: Server) -> None:
    ask = {"origin": PAGE, "access-control-request-method": "POST", "access-control-request-headers": "authorization"}
    told = server.ask("/v1/completions", method="OPTIONS", **ask)
    assert told.status == 204 and told.body == b"" and "content-length" not in told.headers
    assert told.headers["access-control-allow-origin"] == PAGE
    assert told.headers["access-control-allow-headers"] == "authorization"
    assert told.headers["access-control-allow-methods"] == "POST"
    assert server.ask("/nothing", method="OPTIONS", **ask).status == 404
    body = {"prompt": "Hi", "max_tokens": 1}
    for fields in (body, {**body, "stream": True}, {**body, "prompt": 3}):  # an answer, a stream, a refusal
        answer = server.ask("/v1/completions", fields, origin=PAGE)
        assert answer.headers["access-control-allow-origin"] == PAGE
        assert "x-request-id" in answer.headers["access-control-expose-headers"]
        assert answer.headers["vary"] == "Origin"
    other = server.ask("/v1/models", origin="https://other.example")
    assert "access-control-allow-origin" not in other.headers
    assert "access-control-allow-origin" not in server.ask("/v1/models").headers


def test_streams_are_not_gathered_by_proxies(server: Server) -> None:
    stream = server.ask("/v1/completions", {"prompt": "Hi", "max_tokens": 1, "stream": True})
    assert stream.headers["x-accel-buffering"] == "no"
