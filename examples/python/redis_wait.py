"""Enqueues a job and waits for its end. Usage: python3 redis_wait.py EMAIL [ID] [SECONDS]"""
import json, os, sys, uuid, zlib
import redis

email, id, seconds = sys.argv[1:] + ["ada@example.com", f"signup-{uuid.uuid4()}", "10"][len(sys.argv) - 1:]
caller = "203.0.113.9"  # In a shop: the browser's address.
# All jobs of one caller are in one partition.
partition = zlib.crc32(caller.encode()) % int(os.environ.get("XCO_PARTITIONS", 1))
prefix = f"{{{os.environ.get('XCO_NAMESPACE', 'xco')}:{partition}}}"

# BLPOP blocks its connection. redis-py takes one from its pool for each command, so threads may share `r`. The socket's
# timeout must be longer than the wait.
url = os.environ.get("REDIS_URL", "redis://127.0.0.1:6379")
r = redis.Redis.from_url(url, decode_responses=True, socket_timeout=float(seconds) + 5)
job = {"id": id, "type": "CheckUser", "caller_id": caller, "reply": True, "args": {"email": email}}
r.xadd(f"{prefix}:jobs:interactive", {"job": json.dumps(job)})
answer = r.blpop([f"{prefix}:reply:{id}"], timeout=int(seconds))

if answer:
    print(answer[1])  # The completion. Look at its status, then at its outcome.
else:
    # The job goes on. Run this again with the same id: a job with a known id is not done twice, and its reply comes again.
    # Or a program that follows the completions sees its end: redis_follow.py.
    print(f"{id} has not ended after {seconds} s")
