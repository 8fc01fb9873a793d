"""Servers that speak as AWS's do to whoever wants credentials: STS, SSO, container and instance metadata; and a bucket.

The bucket notes who asked: the credentials that a program found are those that it signs with.
"""

from __future__ import annotations

import dataclasses
import datetime
import email.utils
import hashlib
import hmac
import http.server
import json
import re
import threading
import time
import urllib.parse
from collections.abc import Callable
from typing import Any

SECRET_WORD = "SECRETSECRET"  # in everything that no message may hold


@dataclasses.dataclass(frozen=True)
class Keys:
    access: str
    secret: str
    token: str | None

    @staticmethod
    def of(name: str, token: bool = True) -> Keys:
        return Keys(f"AKIA{name}", f"{SECRET_WORD}{name}", f"{SECRET_WORD}token{name}" if token else None)


def signature(method: str, path: str, query: str, headers: dict[str, str], signed: str, payload: str, scope: str, secret: str) -> str:  # fmt: skip
    """Signature Version 4, from AWS's page."""
    pairs = sorted(urllib.parse.parse_qsl(query, keep_blank_values=True))
    canonical_query = "&".join(f"{urllib.parse.quote(k, '')}={urllib.parse.quote(v, '')}" for k, v in pairs)
    names = signed.split(";")
    lines = "".join(f"{name}:{headers[name]}\n" for name in names)
    request = "\n".join([method, path, canonical_query, lines, signed, payload])
    text = "\n".join(["AWS4-HMAC-SHA256", headers["x-amz-date"], scope, hashlib.sha256(request.encode()).hexdigest()])
    key = b"AWS4" + secret.encode()
    for part in scope.split("/"):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    return hmac.new(key, text.encode(), hashlib.sha256).hexdigest()


@dataclasses.dataclass
class Answer:
    status: int
    body: bytes = b""
    headers: dict[str, str] = dataclasses.field(default_factory=dict)


def error(code: str) -> bytes:
    return f"<Error><Code>{code}</Code><Message>no</Message></Error>".encode()


class FakeAws:
    """Everything at one address; `url` is its."""

    def __init__(self) -> None:
        self.known: dict[str, Keys] = {}  # by access key: whose signatures are good
        self.askers: list[tuple[str, str | None]] = []  # of the bucket: access key and token
        self.roles: dict[str, str] = {}  # of STS: the credentials' name by ARN
        self.web_token = f"{SECRET_WORD}web"
        self.sso_token = f"{SECRET_WORD}sso"
        self.sso_refresh = f"{SECRET_WORD}refresh"
        self.container_token = f"{SECRET_WORD}container"
        self.lifetime = 3600.0  # seconds, of all that is handed out
        self.instance_name = "INSTANCE"
        self.instance_v2 = True
        self.instance_fetches = 0
        self.refused: set[str] = set()  # access keys that have expired, as the bucket sees it
        self.region = ""  # of the bucket; empty: any will do
        self.clock = 0.0  # the bucket's less ours, in seconds
        self.mistakes: list[str] = []  # of the bucket's answers: what was wrong with the request
        self.objects: dict[str, bytes] = {}
        self.times: list[float] = []  # of the requests to the bucket, monotonic
        # Answers for the bucket, given method, path and headers; None: as is right.
        self.hook: Callable[[str, str, dict[str, str]], Answer | None] = lambda *_: None
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: object) -> None:
                pass

            def handle_any(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                headers = {name.lower(): value for name, value in self.headers.items()}
                answer = outer.answer(self.command, self.path, headers, body)
                self.send_response_only(answer.status)
                now = datetime.datetime.now(datetime.UTC).timestamp() + outer.clock
                own = {"Date": email.utils.formatdate(now, usegmt=True), "Content-Length": str(len(answer.body))}
                for name, value in {**own, **answer.headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(answer.body)

            do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = handle_any

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()

    def hand_out(self, name: str, token: bool = True) -> Keys:
        keys = Keys.of(name, token)
        self.known[keys.access] = keys
        return keys

    def expires(self) -> str:
        end = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=self.lifetime)
        return end.strftime("%Y-%m-%dT%H:%M:%SZ")

    def signer(self, service: str, method: str, path: str, headers: dict[str, str], body: bytes) -> Keys | None:
        found = re.match(
            r"AWS4-HMAC-SHA256 Credential=([^/]+)/(\S+), ?SignedHeaders=(\S+), ?Signature=(\w+)",
            headers.get("authorization", ""),
        )
        if not found or found[1] not in self.known or not found[2].endswith(f"/{service}/aws4_request"):
            return None
        keys = self.known[found[1]]
        path, _, query = path.partition("?")
        payload = headers.get("x-amz-content-sha256") or hashlib.sha256(body).hexdigest()
        right = signature(method, path, query, headers, found[3], payload, found[2], keys.secret)
        return keys if right == found[4] and headers.get("x-amz-security-token") == keys.token else None

    def answer(self, method: str, path: str, headers: dict[str, str], body: bytes) -> Answer:
        if method == "POST" and path == "/":
            return self.sts(path, headers, body)
        if path.startswith("/federation/credentials"):
            return self.sso(path, headers)
        if path == "/token":
            return self.oidc(json.loads(body))
        if path.startswith("/container"):
            if headers.get("authorization") != self.container_token:
                return Answer(401, SECRET_WORD.encode())
            return Answer(200, self.as_json(self.hand_out("CONTAINER")))
        if path.startswith("/latest"):
            return self.instance(method, path, headers)
        return self.bucket(method, path, headers, body)

    def as_json(self, keys: Keys) -> bytes:
        found = {"AccessKeyId": keys.access, "SecretAccessKey": keys.secret, "Token": keys.token}
        return json.dumps({**found, "Expiration": self.expires(), "Code": "Success"}).encode()

    def sts(self, path: str, headers: dict[str, str], body: bytes) -> Answer:
        form = dict(urllib.parse.parse_qsl(body.decode()))
        action = form["Action"]
        good = form.get("WebIdentityToken") == self.web_token
        if action == "AssumeRole":
            good = self.signer("sts", "POST", path, headers, body) is not None
        if not good or form["RoleArn"] not in self.roles:
            reason = f"<Code>AccessDenied</Code><Message>no {form.get('WebIdentityToken')}</Message>"
            return Answer(403, f"<ErrorResponse><Error>{reason}</Error></ErrorResponse>".encode())
        keys = self.hand_out(self.roles[form["RoleArn"]])
        found = f"<AccessKeyId>{keys.access}</AccessKeyId><SecretAccessKey>{keys.secret}</SecretAccessKey>"
        found += f"<SessionToken>{keys.token}</SessionToken><Expiration>{self.expires()}</Expiration>"
        answer = (
            f'<{action}Response xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><{action}Result>'
            f"<Credentials>{found}</Credentials></{action}Result></{action}Response>"
        )
        return Answer(200, answer.encode())

    def sso(self, path: str, headers: dict[str, str]) -> Answer:
        query = dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(path).query))
        if headers.get("x-amz-sso_bearer_token") != self.sso_token:
            return Answer(401, b'{"message": "Session token not found or invalid"}')
        keys = self.hand_out("SSO" + query["role_name"] + query["account_id"])
        end = (datetime.datetime.now(datetime.UTC).timestamp() + self.lifetime) * 1000
        found = {"accessKeyId": keys.access, "secretAccessKey": keys.secret, "sessionToken": keys.token}
        return Answer(200, json.dumps({"roleCredentials": {**found, "expiration": int(end)}}).encode())

    def oidc(self, wanted: dict[str, Any]) -> Answer:
        if wanted.get("refreshToken") != self.sso_refresh:
            return Answer(400, json.dumps({"error": "invalid_grant", "error_description": SECRET_WORD}).encode())
        return Answer(
            200, json.dumps({"accessToken": self.sso_token, "expiresIn": 3600, "tokenType": "Bearer"}).encode()
        )

    def instance(self, method: str, path: str, headers: dict[str, str]) -> Answer:
        if path == "/latest/api/token":
            good = method == "PUT" and self.instance_v2 and "x-aws-ec2-metadata-token-ttl-seconds" in headers
            return Answer(200, b"metadata-token") if good else Answer(404)
        if self.instance_v2 and headers.get("x-aws-ec2-metadata-token") != "metadata-token":
            return Answer(401)
        if path.endswith("/security-credentials/"):
            return Answer(200, b"the-role")
        assert path.endswith("/security-credentials/the-role")
        self.instance_fetches += 1
        return Answer(200, self.as_json(self.hand_out(self.instance_name)))

    def bucket(self, method: str, path: str, headers: dict[str, str], body: bytes) -> Answer:
        keys = self.signer("s3", method, path, headers, body)
        if keys is None:
            return Answer(403, error("SignatureDoesNotMatch"))
        self.askers.append((keys.access, keys.token))
        now = datetime.datetime.now(datetime.UTC).timestamp() + self.clock
        signed = datetime.datetime.strptime(headers["x-amz-date"] + "+0000", "%Y%m%dT%H%M%SZ%z").timestamp()
        if abs(signed - now) > 900:
            return self.mistake("clock", Answer(403, error("RequestTimeTooSkewed")))
        region = headers["authorization"].split("/")[2]
        if self.region and region != self.region:
            told = {"x-amz-bucket-region": self.region}
            return self.mistake("region", Answer(301, error("PermanentRedirect"), told))
        if keys.access in self.refused:
            return self.mistake("expired", Answer(400, error("ExpiredToken")))
        self.times.append(time.monotonic())
        return self.hook(method, path, headers) or self.objects_answer(method, path, headers, body)

    def mistake(self, what: str, answer: Answer) -> Answer:
        self.mistakes.append(what)
        return answer

    def objects_answer(self, method: str, path: str, headers: dict[str, str], body: bytes) -> Answer:
        path, _, query = path.partition("?")
        if method == "PUT":
            if headers.get("if-none-match") == "*" and path in self.objects:
                return Answer(412, error("PreconditionFailed"))
            self.objects[path] = body
            return Answer(200)
        if method == "DELETE":
            self.objects.pop(path, None)
            return Answer(204)
        if "list-type=2" in query:
            asked = dict(urllib.parse.parse_qsl(query))
            names = sorted(urllib.parse.unquote(name).removeprefix("/bucket/") for name in self.objects)
            names = [n for n in names if n.startswith(asked["prefix"]) and n > asked.get("start-after", "")]
            entries = "".join(f"<Contents><Key>{n}</Key><Size>1</Size></Contents>" for n in names[: int(asked["max-keys"])])  # fmt: skip
            return Answer(
                200, f"<ListBucketResult>{entries}<IsTruncated>false</IsTruncated></ListBucketResult>".encode()
            )
        if path not in self.objects:
            return Answer(404, error("NoSuchKey"))
        whole = self.objects[path]
        if found := re.fullmatch(r"bytes=(\d+)-(\d+)", headers.get("range", "")):
            return Answer(206, whole[int(found[1]) : int(found[2]) + 1])
        return Answer(200, whole)
