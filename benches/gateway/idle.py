"""Opens connections that send nothing, then asks for the health of the gateway: idle.py PORT CONNECTIONS PROBE_PORT"""

import http.client
import socket
import sys
import time

port, connections, probe_port = (int(word) for word in sys.argv[1:4])
opened, refused = [], 0
began = time.perf_counter()
for number in range(connections):
    connection = socket.socket()
    connection.settimeout(2)
    try:
        # One address may have 256 connections without a token.
        connection.bind((f"127.0.{number // 250 % 250}.{number % 250 + 1}", 0))
        connection.connect(("127.0.0.1", port))
        opened.append(connection)
    except OSError:
        refused += 1
print(f"{len(opened)} open, {refused} refused, in {time.perf_counter() - began:.1f} s")
for name, asked in (("probes", probe_port), ("clients", port)):
    statuses, longest = set(), 0.0
    for _ in range(50):
        began = time.perf_counter()
        client = http.client.HTTPConnection("127.0.0.1", asked, timeout=5, source_address=("127.9.9.9", 0))
        client.request("GET", "/healthz")
        answer = client.getresponse()
        answer.read()
        statuses.add(answer.status)
        longest = max(longest, time.perf_counter() - began)
    print(f"/healthz for {name}: {statuses}, longest {longest * 1e3:.1f} ms")
