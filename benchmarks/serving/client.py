"""A closed loop of N clients that takes as little of the processor as Python can: asyncio on raw sockets, kept alive.

Usage: client.py PORT PATH FOLDER CLIENTS SECONDS. Prints one JSON object: the latencies of the right answers in ms, the
errors by kind, and the seconds. The first second is not counted. Each client sends the next image when the last one is
answered.
"""

from __future__ import annotations

import asyncio
import collections
import json
import sys
import time
from pathlib import Path

WARMUP_S = 1.0
TIMEOUT_S = 60.0
BOUNDARY = b"8f1c0f2d9a7b4e55"


def request(path: str, name: str, content: bytes) -> bytes:
    """The whole request as bytes."""
    head = f'Content-Disposition: form-data; name="{name}"; filename="a.jpg"\r\nContent-Type: image/jpeg\r\n\r\n'
    body = b"--" + BOUNDARY + b"\r\n" + head.encode() + content + b"\r\n--" + BOUNDARY + b"--\r\n"
    return (
        f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: application/json\r\n"
        f"Content-Type: multipart/form-data; boundary={BOUNDARY.decode()}\r\nContent-Length: {len(body)}\r\n\r\n"
    ).encode() + body


async def answered(reader: asyncio.StreamReader) -> tuple[int, bool, bytes]:
    """Status, whether the connection stays, and the body."""
    head = await reader.readuntil(b"\r\n\r\n")
    status = int(head[9:12])
    low = head.lower()
    stays = b"connection: close" not in low
    if b"transfer-encoding: chunked" in low:
        body = b""
        while size := int((await reader.readline()).split(b";")[0], 16):
            body += await reader.readexactly(size)
            await reader.readexactly(2)
        await reader.readexactly(2)
        return status, stays, body
    place = low.find(b"content-length:")
    length = int(low[place + 15 : low.index(b"\r\n", place)]) if place >= 0 else 0
    return status, stays, await reader.readexactly(length)


async def client(port: int, requests: list[bytes], number: int, until: float, rows: list, errors: collections.Counter):
    clock, turn, writer = time.perf_counter, number * 7, None
    while (begin := clock()) < until:
        try:
            if writer is None:
                reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 20)
            turn += 1
            writer.write(requests[turn % len(requests)])
            status, stays, _ = await asyncio.wait_for(answered(reader), TIMEOUT_S)
        except (TimeoutError, OSError, asyncio.IncompleteReadError) as error:
            errors[type(error).__name__] += 1
            writer = None
            await asyncio.sleep(0.05)
            continue
        if status == 200:
            rows.append((begin, clock()))
        else:
            errors[str(status)] += 1
            await asyncio.sleep(0.05)
        if not stays:
            writer.close()
            writer = None
    if writer is not None:
        writer.close()


async def main() -> None:
    port, path, folder, clients, seconds = sys.argv[1:6]
    name = sys.argv[6] if len(sys.argv) > 6 else "file"
    requests = [request(path, name, file.read_bytes()) for file in sorted(Path(folder).glob("*.jpg"))]
    rows: list[tuple[float, float]] = []
    errors: collections.Counter = collections.Counter()
    begin = time.perf_counter() + WARMUP_S
    end = begin + float(seconds)
    used = time.process_time()
    every = [client(int(port), requests, number, end, rows, errors) for number in range(int(clients))]
    await asyncio.gather(*every)
    counted = [1e3 * (done - sent) for sent, done in rows if sent >= begin]
    # Answers, not requests: what is finished within the time, whenever it was sent.
    finished = sum(begin <= done < end for _, done in rows)
    took_s = time.perf_counter() - begin + WARMUP_S
    client_share = (time.process_time() - used) / took_s
    print(json.dumps({"rps": finished / float(seconds), "ms": counted, "errors": errors, "client": client_share}))


if __name__ == "__main__":
    asyncio.run(main())
