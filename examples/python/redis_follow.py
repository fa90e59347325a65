"""Follows all completions as a member of a group. Usage: python3 redis_follow.py GROUP MEMBER [HOW_MANY]"""
import os, sys
import redis

group, member, how_many = sys.argv[1:] + ["shop", "member-1", "inf"][len(sys.argv) - 1:]
left = float(how_many)
url = os.environ.get("REDIS_URL", "redis://127.0.0.1:6379")
r = redis.Redis.from_url(url, decode_responses=True, socket_timeout=10)  # Longer than the 5 s that a read blocks.
streams = {}
for partition in range(int(os.environ.get("XCO_PARTITIONS", 1))):
    stream = f"{{{os.environ.get('XCO_NAMESPACE', 'xco')}:{partition}}}:completions"
    try:
        r.xgroup_create(stream, group, id="0", mkstream=True)
    except redis.ResponseError as error:
        if not str(error).startswith("BUSYGROUP"):  # The group exists.
            raise
    streams[stream] = "0"  # First what this member has read and not acknowledged.

while left > 0:
    read = {name: entries for name, entries in r.xreadgroup(group, member, streams, count=int(min(100, left)), block=5000) if entries}
    streams = {name: id if name in read else ">" for name, id in streams.items()}  # Then what no member has read.
    for stream, entries in read.items():
        for id, fields in entries:
            if fields:  # Otherwise it was trimmed before it was acknowledged.
                print(fields["id"], fields["status"], flush=True)  # May come twice: make your own work safe to repeat.
                left -= 1
            r.xack(stream, group, id)  # Last: what is not acknowledged comes again.
