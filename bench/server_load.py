#!/usr/bin/env python3
"""Puts load and bad clients on ds4-server, and says what it measured.

usage: server_load.py [--server build/release/bin/ds4-server] [--streams 200] [--idle 1000] [--requests 10000]

Starts the server on the embedded model, then: idle connections, streams side by side, clients that read slowly, send
slowly, half-close, pipeline, send large, chunked and broken bodies, and a long run of small requests. Exit code 1 when a
request was answered wrongly, a slot stayed taken, memory grew or /health was slow.
"""
import argparse
import asyncio
import json
import os
import re
import resource
import socket
import subprocess
import sys
import time

HEALTH_P99_MS = 50
MAX_GROWTH_KIB = 16 * 1024
problems = []


def check(condition, message):
    if not condition:
        problems.append(message)
        print("WRONG:", message)


def http_post(path, body, headers=""):
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(data)}\r\n{headers}\r\n"
    return head.encode() + data


GET_HEALTH = b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"


class Client:
    def __init__(self, port):
        self.port = port

    async def __aenter__(self):
        self.reader, self.writer = await asyncio.open_connection("127.0.0.1", self.port)
        return self

    async def __aexit__(self, *_):
        self.writer.close()

    async def ask(self, data):
        self.writer.write(data)
        return await self.answer()

    async def answer(self):
        """(status, body) of the next answer; status 0 when the connection ended before."""
        try:
            head = await self.reader.readuntil(b"\r\n\r\n")
            status = int(head.split()[1])
            if status == 100:
                return status, b""
            length = re.search(rb"(?i)content-length: (\d+)", head)
            if length:
                return status, await self.reader.readexactly(int(length[1]))
            body = b""
            while True:
                size = int(await self.reader.readuntil(b"\r\n"), 16)
                chunk = await self.reader.readexactly(size + 2)
                if size == 0:
                    return status, body
                body += chunk[:-2]
        except (asyncio.IncompleteReadError, ConnectionError, IndexError):
            return 0, b""


async def one(port, data):
    async with Client(port) as client:
        return await client.ask(data)


def chat(tokens, **fields):
    return {"messages": [{"role": "user", "content": "Tell me a story."}], "max_tokens": tokens, **fields}


def rss_kib(pid):
    with open(f"/proc/{pid}/status") as status:
        return int(re.search(r"VmRSS:\s+(\d+)", status.read())[1])


async def watch_health(port, times, stop):
    async with Client(port) as client:
        while not stop.is_set():
            start = time.perf_counter()
            status, _ = await client.ask(GET_HEALTH)
            times.append((time.perf_counter() - start) * 1000)
            check(status == 200, f"/health answered {status} under load")
            await asyncio.sleep(0.01)


async def streams(port, n):
    async def stream():
        status, body = await one(port, http_post("/v1/chat/completions", chat(32, stream=True)))
        return status == 200 and body.rstrip().endswith(b"data: [DONE]")
    start = time.perf_counter()
    good = await asyncio.gather(*(stream() for _ in range(n)))
    check(all(good), f"{good.count(False)} of {n} streams did not end")
    print(f"streams: {n} side by side ended in {time.perf_counter() - start:.1f} s")


async def bad_clients(port):
    waiting = []
    stream = http_post("/v1/chat/completions", chat(64, stream=True))
    for _ in range(20):  # never read
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1)
        writer.write(stream)
        waiting.append(writer)
    for _ in range(50):  # never finish their head
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"POST /v1/chat/completions HTTP/1.1\r\nHo")
        waiting.append(writer)

    async def half_close():
        async with Client(port) as client:
            client.writer.write(GET_HEALTH)
            client.writer.write_eof()
            return (await client.answer())[0]
    check(set(await asyncio.gather(*(half_close() for _ in range(50)))) == {200}, "half-closed clients got no answer")

    large = http_post("/tokenize", {"content": "word " * 2_000_000})
    for status, _ in await asyncio.gather(*(one(port, large) for _ in range(5))):
        check(status == 200, f"a body of {len(large)} bytes got {status}")
    async with Client(port) as client:  # pipelined
        client.writer.write(GET_HEALTH * 50 + http_post("/tokenize", {"content": "x"}) + GET_HEALTH * 50)
        check([(await client.answer())[0] for _ in range(101)] == [200] * 101, "pipelined requests")
        # chunked, in pieces of one byte
        body = json.dumps({"content": "chunked"}).encode()
        pieces = b"".join(b"1\r\n%c\r\n" % byte for byte in body)
        status, _ = await client.ask(
            b"POST /tokenize HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n" + pieces + b"0\r\n\r\n")
        check(status == 200, f"a chunked body got {status}")
        status, _ = await client.ask(b"POST /tokenize HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\nContent-Length: 15\r\n\r\n")
        check(status == 100, f"Expect got {status}")
        status, _ = await client.ask(b'{"content":"x"}')
        check(status == 200, f"after 100 came {status}")
    for text in (b'{"prompt":"\xff\xfe\xc3","max_tokens":1}', b'{"prompt":"\\ud800 \\udc00 \\ud83d","max_tokens":1}',
                 b'{"prompt":"\\u0000","max_tokens":1}'):
        status, body = await one(port, http_post("/v1/completions", text))
        check(status == 200, f"{text} got {status}")
        body.decode()  # well-formed
    for junk in (b"", b"{", b"\x00\xff" * 100, b"[" * 100_000):
        status, _ = await one(port, http_post("/v1/completions", junk))
        check(status == 400, f"{junk[:10]} got {status}")
    print("bad clients: answered, or still held:", len(waiting))
    return waiting


async def many_requests(port, pid, n):
    kinds = [GET_HEALTH, http_post("/tokenize", {"content": "some text"}),
             http_post("/v1/completions", {"prompt": "a", "max_tokens": 1}), http_post("/v1/completions", b"{"),
             http_post("/v1/chat/completions", chat(1, stream=True))]
    wanted = [200, 200, 200, 400, 200]
    done = 0
    samples = []

    async def worker():
        nonlocal done
        async with Client(port) as client:
            while done < n:
                i = done % len(kinds)
                done += 1
                if done % (n // 10) == 0:
                    samples.append(rss_kib(pid))
                status, _ = await client.ask(kinds[i])
                check(status == wanted[i], f"request {i} got {status}")
                if done % 50 == 0:  # and one that leaves
                    async with Client(port) as leaving:
                        leaving.writer.write(http_post("/v1/chat/completions", chat(500, stream=True)))
                        await leaving.reader.read(10)
    start = time.perf_counter()
    await asyncio.gather(*(worker() for _ in range(16)))
    print(f"requests: {done} in {time.perf_counter() - start:.1f} s; RSS in MiB:", [s // 1024 for s in samples])
    check(samples[-1] - samples[len(samples) // 3] < MAX_GROWTH_KIB, "memory grew")


async def settled(port):
    """Nothing runs or waits any more."""
    for _ in range(300):
        _, text = await one(port, b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n")
        values = dict(line.rsplit(b" ", 1) for line in text.splitlines() if not line.startswith(b"#"))
        if values[b"ds4_running_slots"] == b"0" and values[b"ds4_queue_depth"] == b"0":
            return True
        await asyncio.sleep(0.1)
    return False


def percentile(times, part):
    return sorted(times)[min(len(times) - 1, int(len(times) * part))]


async def run(options, port, pid):
    for _ in range(600):
        try:
            await one(port, GET_HEALTH)
            break
        except ConnectionError:
            await asyncio.sleep(0.1)
    print("RSS at start:", rss_kib(pid) // 1024, "MiB")
    idle = [await asyncio.open_connection("127.0.0.1", port) for _ in range(options.idle)]
    times, stop = [], asyncio.Event()
    watcher = asyncio.create_task(watch_health(port, times, stop))
    await streams(port, options.streams)
    held = await bad_clients(port)
    await streams(port, options.streams)
    stop.set()
    await watcher
    print(f"/health under load: {len(times)} times, median {percentile(times, 0.5):.1f} ms, "
          f"p99 {percentile(times, 0.99):.1f} ms, most {max(times):.1f} ms")
    check(percentile(times, 0.99) < HEALTH_P99_MS, "/health was slow")
    for writer in held:
        writer.close()
    check(await settled(port), "a slot stayed taken")
    await many_requests(port, pid, options.requests)
    check(await settled(port), "a slot stayed taken after the long run")
    for _, writer in idle:
        writer.close()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--server", default="build/release/bin/ds4-server")
    parser.add_argument("--streams", type=int, default=200)
    parser.add_argument("--idle", type=int, default=1000)
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--threads", default=str(os.cpu_count()))
    options = parser.parse_args()
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(8192, resource.getrlimit(resource.RLIMIT_NOFILE)[1]),) * 2)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = subprocess.Popen(
        [options.server, "--port", str(port), "-t", options.threads, "-c", "1024", "--parallel", "16", "--queue", "1000"],
        env={**os.environ, "DS4_LOG": "error"}, stderr=subprocess.DEVNULL)
    try:
        asyncio.run(run(options, port, server.pid))
    finally:
        server.terminate()
        code = server.wait(30)
    check(code == 0, f"the server ended with {code}")
    print("failed" if problems else "ok")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
