"""Enqueues a job over HTTP and waits for its end. Usage: python3 gateway_wait.py EMAIL [ID] [SECONDS]"""
import json, os, sys, time, uuid
from urllib.error import HTTPError
from urllib.request import Request, urlopen

email, id, seconds = sys.argv[1:] + ["ada@example.com", f"signup-{uuid.uuid4()}", "10"][len(sys.argv) - 1:]
job = {"type": "CheckUser", "caller_id": "203.0.113.9", "args": {"email": email}}
request = Request(os.environ.get("GATEWAY_URL", "http://127.0.0.1:8080") + "/v1/jobs", json.dumps(job).encode(), {
    "Content-Type": "application/json",
    "Prefer": f"wait={seconds}",
    "Idempotency-Key": id,  # The request may be repeated: the job is done once.
})
if "GATEWAY_TOKEN" in os.environ:
    request.add_header("Authorization", f"Bearer {os.environ['GATEWAY_TOKEN']}")

for attempt in range(5):
    try:
        answer = urlopen(request, timeout=float(seconds) + 5)
        break
    except HTTPError as error:
        if error.code not in (429, 503):
            sys.exit(error.read().decode())  # With 422 the body says what is wrong.
        # The lane is full, or Redis is away. The answer says how long it takes.
        time.sleep(int(error.headers.get("Retry-After", 1)))
else:
    sys.exit("the gateway takes no jobs")
if answer.status == 202:  # Not in time. The job goes on; wait_url, without the token, is also for the customer's browser.
    answer = urlopen(json.load(answer)["wait_url"], timeout=30)  # It answers after 25 s at most: {"status":"pending"}.
print(answer.read().decode())  # The completion; of wait_url only status, outcome and error.kind.
