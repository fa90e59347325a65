"""Follows all completions over HTTP. Usage: python3 gateway_follow.py CURSOR_FILE [HOW_MANY]"""
import json, os, sys, time
from pathlib import Path
from urllib.request import Request, urlopen

cursor = Path(sys.argv[1] if len(sys.argv) > 1 else "cursor")
left = float(sys.argv[2] if len(sys.argv) > 2 else "inf")
url = os.environ.get("GATEWAY_URL", "http://127.0.0.1:8080") + "/v1/completions?from=beginning"
while left > 0:
    headers = {"Accept": "text/event-stream"}
    if "GATEWAY_TOKEN" in os.environ:
        headers["Authorization"] = f"Bearer {os.environ['GATEWAY_TOKEN']}"
    if cursor.exists():
        headers["Last-Event-ID"] = cursor.read_text()  # Goes on after it; otherwise from the beginning.
    event = {}
    try:
        # A comment comes every 15 s, so 40 s of silence mean that the connection is lost.
        for line in urlopen(Request(url, headers=headers), timeout=40):
            field, _, value = line.decode().rstrip("\n").partition(":")
            event[field] = value.removeprefix(" ")
            if field or value:
                continue  # An event ends with an empty line.
            if event.get("event") == "completion":
                completion = json.loads(event["data"])
                print(completion["id"], completion["status"], flush=True)
                cursor.write_text(event["id"])  # After the work: what is not noted comes again.
                left -= 1
                if left <= 0:
                    sys.exit()
            elif "event" in event:
                print(event["event"], event["data"], file=sys.stderr)  # gap: completions were missed.
            event = {}
    except OSError as error:  # urllib's errors and time-outs are OSErrors.
        print(error, file=sys.stderr)
    time.sleep(2)
