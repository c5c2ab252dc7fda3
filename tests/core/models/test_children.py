"""What a child process says reaches its parent whole and in order."""

from __future__ import annotations

import json
import subprocess
import sys

_TALK = """
import threading
from pass_core.models import children

def talk(thread):
    for n in range(200):
        children.say(thread=thread, n=n, words="x" * 200)

threads = [threading.Thread(target=talk, args=(t,)) for t in range(8)]
for t in threads: t.start()
for t in threads: t.join()
"""


def test_messages_from_several_threads_stay_whole() -> None:
    run = subprocess.run([sys.executable, "-u", "-c", _TALK], capture_output=True, text=True, check=True, timeout=60)
    said = [json.loads(line) for line in run.stdout.splitlines()]
    for thread in range(8):
        assert [m["n"] for m in said if m["thread"] == thread] == list(range(200))
