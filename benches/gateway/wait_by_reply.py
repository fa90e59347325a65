"""Enqueues jobs one by one with plain Redis and waits for each reply: wait_by_reply.py REDIS_PORT JOBS PREFIX"""

import json
import sys
import time

import redis

port, jobs, prefix = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
connection = redis.Redis(port=port)
took = []
for number in range(jobs):
    name = f"r{prefix}-{number}"
    args = {"email": f"customer-{number}@example.com"}
    job = {"id": name, "type": "CheckUser", "caller_id": f"203.0.113.{number % 250}", "reply": True, "args": args}
    began = time.perf_counter()
    connection.xadd("{xco:0}:jobs:interactive", {"job": json.dumps(job)})
    assert connection.blpop(f"{{xco:0}}:reply:{name}", 5), name
    took.append(time.perf_counter() - began)
took.sort()
print(f"{jobs / sum(took):.0f}/s p50 {took[jobs // 2] * 1e3:.2f} ms p99 {took[jobs * 99 // 100] * 1e3:.2f} ms")
