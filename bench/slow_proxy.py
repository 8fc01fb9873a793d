"""An HTTP proxy that answers late, and counts: python slow_proxy.py PORT UPSTREAM_PORT SECONDS.

`GET /-/count` tells {"requests", "bytes"} (of answers' bodies) since the last such question, and begins anew.
"""

from __future__ import annotations

import asyncio
import json
import sys

Pair = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Proxy:
    def __init__(self, upstream: int, seconds: float) -> None:
        self.upstream, self.seconds = upstream, seconds
        self.free: list[Pair] = []
        self.requests = self.bytes = 0

    async def message(self, reader: asyncio.StreamReader, has_body: bool = True) -> tuple[bytes, bytes]:
        """Head and body as they came."""
        head = await reader.readuntil(b"\r\n\r\n")
        lower = head.lower()
        if not has_body:
            return head, b""
        if b"\r\ntransfer-encoding: chunked" in lower:
            body = b""
            while True:
                size = await reader.readuntil(b"\r\n")
                chunk = await reader.readexactly(int(size, 16) + 2)
                body += size + chunk
                if int(size, 16) == 0:
                    return head, body
        at = lower.find(b"\r\ncontent-length:")
        length = int(lower[at + 17 : lower.index(b"\r\n", at + 2)]) if at >= 0 else 0
        return head, await reader.readexactly(length)

    async def ask(self, head: bytes, body: bytes) -> tuple[bytes, bytes]:
        while True:
            kept = bool(self.free)
            reader, writer = (
                self.free.pop() if kept else await asyncio.open_connection("127.0.0.1", self.upstream, limit=1 << 24)
            )
            try:
                writer.write(head + body)
                answer = await self.message(reader, not head.startswith(b"HEAD"))
            except (asyncio.IncompleteReadError, ConnectionError):
                writer.close()
                if kept:  # the server has closed it meanwhile
                    continue
                raise
            self.free.append((reader, writer))
            return answer

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head, body = await self.message(reader)
                if head.startswith(b"GET /-/count"):
                    text = json.dumps({"requests": self.requests, "bytes": self.bytes}).encode()
                    self.requests = self.bytes = 0
                    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(text) + text)
                    continue
                self.requests += 1
                await asyncio.sleep(self.seconds)
                answer = await self.ask(head, body)
                self.bytes += len(answer[1])
                writer.write(b"".join(answer))
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


async def main() -> None:
    port, upstream, seconds = int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
    server = await asyncio.start_server(Proxy(upstream, seconds).serve, "127.0.0.1", port, limit=1 << 24)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
