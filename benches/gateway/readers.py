"""Follows completions with many readers, of which one does not read, while jobs run.

readers.py PORT TOKENS READERS SECONDS REDIS_PORT JOBS_PER_SECOND; the environment has the gateway's process id in GATEWAY.
"""

import asyncio
import json
import os
import sys
import time

port, tokens, readers = int(sys.argv[1]), sys.argv[2].split(","), int(sys.argv[3])
seconds, redis_port, rate = float(sys.argv[4]), int(sys.argv[5]), int(sys.argv[6])

MARK = b'"id":"followed-'
LOOKED_AT = 50  # the lag is that of every fiftieth reader
received = [0] * readers
ready = refused = ended = 0
sent_at, lags = {}, []


def memory():
    with open(f"/proc/{os.environ['GATEWAY']}/status", encoding="ascii") as status:
        return next(line.split(":")[1].strip() for line in status if line.startswith("VmRSS"))


async def follow(number):
    global ready, refused, ended
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 20)
    token = tokens[number % len(tokens)]
    head = f"GET /v1/completions?from=now HTTP/1.1\r\nHost: gateway\r\nAuthorization: Bearer {token}\r\n\r\n"
    writer.write(head.encode())
    status = (await reader.readuntil(b"\r\n\r\n")).split(b"\r\n")[0]
    if b" 200 " not in status:
        refused += 1
        return
    ready += 1
    if number == 0:
        await asyncio.sleep(seconds + 60)
    while line := await reader.readline():
        at = line.find(MARK)
        if at < 0:
            continue
        received[number] += 1
        if number % LOOKED_AT == 1:
            job = line[at + len(MARK) : line.index(b'"', at + len(MARK))]
            lags.append(time.perf_counter() - sent_at[int(job)])
    ended += 1


async def enqueue():
    reader, writer = await asyncio.open_connection("127.0.0.1", redis_port)
    began, number = time.perf_counter(), 0
    while time.perf_counter() - began < seconds:
        await asyncio.sleep(max(0, began + number / rate - time.perf_counter()))
        args = {"email": f"customer-{number}@example.com"}
        job = {"id": f"followed-{number}", "type": "CheckUser", "caller_id": "203.0.113.9", "args": args}
        words = ["XADD", "{xco:0}:jobs:interactive", "*", "job", json.dumps(job)]
        command = f"*{len(words)}\r\n" + "".join(f"${len(word)}\r\n{word}\r\n" for word in words)
        sent_at[number] = time.perf_counter()
        writer.write(command.encode())
        await reader.readline()
        await reader.readline()
        number += 1
    return number


async def main():
    following = []
    for number in range(readers):
        following.append(asyncio.create_task(follow(number)))
        if number % 100 == 99:
            await asyncio.sleep(0.05)
    while ready + refused < readers:
        await asyncio.sleep(0.1)
    print(f"{ready} ready, {refused} refused, memory of the gateway {memory()}")
    jobs = await enqueue()
    await asyncio.sleep(5)
    least, most = min(received[1:]), max(received[1:])
    print(f"{jobs} jobs; each reader received {least} to {most}; {ended} ended; memory {memory()}")
    lags.sort()
    # This program reads all of them with one thread, so the lag of the gateway is at most this.
    print(f"lag p50 {lags[len(lags) // 2] * 1e3:.0f} ms, p99 {lags[len(lags) * 99 // 100] * 1e3:.0f} ms")
    os._exit(0)


asyncio.run(main())
