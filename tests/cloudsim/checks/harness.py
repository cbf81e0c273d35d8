"""What the checks share: the simulator's address, its control routes, and a runner that reports every failure."""

import argparse
import json
import os
import sys
import time
import traceback
import urllib.error
import urllib.request


class Simulator:
    """A running cloudsim."""

    def __init__(self, url):
        self.url = url.rstrip("/")

    def control(self, method, path, body=None):
        """Calls a route below /sim and gives the decoded answer, or None if it has no body."""
        request = urllib.request.Request(
            f"{self.url}/sim{path}",
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"content-type": "application/json"},
        )
        try:
            with urllib.request.urlopen(request, timeout=10) as response:
                text = response.read()
        except urllib.error.HTTPError as error:
            reason = error.read().decode()
            raise AssertionError(f"{method} /sim{path}: {error.code} {reason}") from error
        return json.loads(text) if text else None


def wait_until(what, condition, seconds=20):
    """Asks until the condition gives something true, which is returned; fails after the deadline."""
    deadline = time.monotonic() + seconds
    while True:
        found = condition()
        if found:
            return found
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds} s: {what}")
        time.sleep(0.05)


def refused(kind, call):
    """The exception of exactly this class that the call raises."""
    try:
        answer = call()
    except kind as error:
        if type(error) is kind:
            return error
        raise
    raise AssertionError(f"expected {kind.__name__}, got {answer!r}")


def same(actual, expected):
    """Fails with both values unless they are equal."""
    if actual != expected:
        raise AssertionError(f"expected {expected!r}, got {actual!r}")


def run(checks):
    """Runs every check against the simulator named by argument or CLOUDSIM_URL; exits 1 if one fails."""
    parser = argparse.ArgumentParser()
    parser.add_argument("url", nargs="?", default=os.environ.get("CLOUDSIM_URL"), help="such as http://127.0.0.1:8080")
    url = parser.parse_args().url
    if not url:
        parser.error("name the simulator's URL, or set CLOUDSIM_URL")
    failed = 0
    for check in checks:
        try:
            check(Simulator(url))
        except Exception:  # A check may fail in any way; the others shall still run.
            failed += 1
            print(f"FAILED {check.__name__}\n{traceback.format_exc()}", flush=True)
        else:
            print(f"ok {check.__name__}", flush=True)
    print(f"{len(checks) - failed} of {len(checks)} checks passed", flush=True)
    sys.exit(1 if failed else 0)
