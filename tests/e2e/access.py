"""What the gateway counted, asked of /metrics, and a client that sends many requests at once."""

import socket
import threading
import time
from collections import Counter

from prometheus_client.parser import text_string_to_metric_families

from exchanges import call
from service import wait_for

BATCH = 50  # requests in one write
TICK = 1.2  # lighttpd's total is a second old at most


def gateway_metrics(service):
    """{(sample name, ((label, value), …)): value}. All that was answered before is counted. On a
    connection of its own: a change of nodes ends those that wait, also one that was just made."""
    for _ in range(3):
        answer = call(service.port, "GET", "/metrics")
        if answer.status:
            break
    assert answer.status == 200, answer
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(answer.body.decode())
        for sample in family.samples
    }


def answers(metrics):
    """{(method, route, status): count} of all but scrapes."""
    found = Counter()
    for (name, pairs), value in metrics.items():
        labels = dict(pairs)
        if name == "http_requests_total" and labels["route"] != "/metrics":
            found[labels["method"], labels["route"], int(labels["status"])] += int(value)
    return found


def lost(metrics):
    return int(metrics["gateway_log_lines_lost_total", ()])


def settled(service, seconds=15):
    """(answers counted, lost lines), when lighttpd's total is up to date and its question came
    through, so that the count of lost lines is exact."""
    deadline = time.monotonic() + seconds
    seen = []
    while time.monotonic() < deadline:
        time.sleep(TICK)
        metrics = gateway_metrics(service)
        seen.append((sum(answers(metrics).values()), lost(metrics)))
        if seen[-2:] == [seen[-1]] * 2:
            return seen[-1]
    raise AssertionError(f"never at rest: {seen}")


class Scrapes:
    """Scrapes that are answers, too: each is counted, or lost, by the next one."""

    def __init__(self, service):
        self.service = service
        self.before = self.read()
        self.count = 0

    def read(self):
        """The answers counted and lost."""
        self.count = getattr(self, "count", 0) + 1
        self.last = gateway_metrics(self.service)
        return lost(self.last) + int(sum(
            value for (name, _), value in self.last.items() if name == "http_requests_total"))

    def grown(self):
        """The answers since the first scrape that were not scrapes."""
        count = self.count + 1  # the first one, too
        return self.read() - self.before - count


def check_never_down(before, after):
    """Counters of two scrapes, but for processes' own."""
    down = [(key, value, after.get(key)) for key, value in before.items()
            if key[0].endswith(("_total", "_bucket", "_count")) and not key[0].startswith("process_")
            and after.get(key, -1) < value]
    assert not down, f"counters went down: {down[:3]}"


class Sender(threading.Thread):
    """Sends `count` requests over one connection, many in one write, and reads every answer.
    `slowest` is the longest time one such batch took."""

    def __init__(self, port, count, path=lambda number: "/live"):
        super().__init__()
        self.port = port
        self.count = count
        self.path = path
        self.answered = 0
        self.slowest = 0.0
        self.error = None

    def run(self):
        try:
            self.send_all()
        except (OSError, AssertionError) as error:
            self.error = error

    def send_all(self):
        with socket.create_connection(("127.0.0.1", self.port), timeout=60) as wire:
            for first in range(0, self.count, BATCH):
                numbers = range(first, min(first + BATCH, self.count))
                begun = time.monotonic()
                wire.sendall(b"".join(
                    f"GET {self.path(number)} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
                    for number in numbers))
                self.read_answers(wire, len(numbers))
                self.slowest = max(self.slowest, time.monotonic() - begun)

    def read_answers(self, wire, count):
        """Each answer has a Content-Length and a small body."""
        pending = b""
        while count:
            chunk = wire.recv(1 << 20)
            assert chunk, "the connection ended"
            pending += chunk
            while count and (end := pending.find(b"\r\n\r\n")) >= 0:
                head = pending[:end].lower()
                at = head.index(b"content-length:") + len(b"content-length:")
                length = int(head[at:].split(b"\r\n")[0])
                if len(pending) < end + 4 + length:
                    break
                pending = pending[end + 4 + length:]
                count -= 1
                self.answered += 1


def start_senders(port, count, connections=4, path=lambda number: "/live"):
    """`count` requests, below 10,000 for a connection (lighttpd closes it then)."""
    each = count // connections
    senders = [Sender(port, each, path) for _ in range(connections)]
    for sender in senders:
        sender.start()
    return senders


def finish(senders):
    """The number of answers; all that were sent for."""
    for sender in senders:
        sender.join()
    assert not [sender.error for sender in senders if sender.error]
    assert all(sender.answered == sender.count for sender in senders)
    return sum(sender.answered for sender in senders)


def wait_for_reader(service, but=()):
    """Until a reader runs that is none of `but`."""
    wait_for(lambda: set(service.pids("access_log")) - set(but), "the log's reader runs", 10)
