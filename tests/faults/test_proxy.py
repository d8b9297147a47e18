import http.client
import json
import socket
import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import requests

from tests.faults.proxy import MODES, Proxy
from tests.faults.servers import wait_until

CARRIED_OUT = ["pass", "slow", "half-open", "lost", "cut"]
BROKEN = (requests.ConnectionError, requests.exceptions.ChunkedEncodingError, requests.Timeout)


class Counting(BaseHTTPRequestHandler):
    """Counts what it carried out, by method and path, and answers what it was sent."""

    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.carried_out[self.command, self.path] += 1
        self.send_response(204 if self.path == "/nothing" else 200)
        if self.path == "/chunked":
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            for part in (body[:1], body[1:]):
                self.wfile.write(b"%x\r\n%s\r\n" % (len(part), part))
            self.wfile.write(b"0\r\n\r\n")
        elif self.path == "/until-the-end":
            self.end_headers()
            self.wfile.write(body)
            self.close_connection = True
        else:
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

    do_GET = do_HEAD = do_POST

    def log_message(self, *_):
        pass


@pytest.fixture
def upstream():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Counting)
    server.daemon_threads = True
    server.carried_out = Counter()
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def between(upstream):
    with Proxy(upstream.server_port) as proxy:
        yield proxy


@pytest.fixture
def client():
    """Keeps its connection open, and tries nothing twice."""
    with requests.Session() as session:
        session.trust_env = False
        yield session


def post(client, proxy, path="/", timeout=30.0):
    return client.post(proxy.url + path, data=b"some words", timeout=timeout)


def wait_until_carried_out(upstream, times):
    wait_until(lambda: upstream.carried_out["POST", "/"] == times, f"the server carried out {times}")


@pytest.mark.parametrize("path", ["/", "/chunked", "/until-the-end"])
def test_what_passes_is_what_the_server_said(between, upstream, client, path):
    for _ in range(2):
        assert post(client, between, path).content == b"some words"
    assert upstream.carried_out["POST", path] == between.counts["pass"] == 2


@pytest.mark.parametrize(("method", "path"), [("HEAD", "/"), ("GET", "/nothing"), ("GET", "/")])
def test_responses_without_a_body_do_not_hold_the_connection_up(between, upstream, client, method, path):
    for _ in range(2):
        assert client.request(method, between.url + path, timeout=30).content == b""
    assert upstream.carried_out[method, path] == 2


def test_a_request_in_chunks_passes(between, client):
    reply = client.post(f"{between.url}/", data=iter([b"some ", b"words"]), timeout=30)
    assert reply.status_code == 200
    assert between.counts == {"pass": 1}


@pytest.mark.parametrize(
    ("mode", "failure"),
    [
        ("down", "Connection refused"),
        ("hang", "Read timed out"),
        ("reset", "Connection reset by peer"),
        ("half-open", "Read timed out"),
        ("lost", "Connection reset by peer"),
        ("cut", "IncompleteRead"),
    ],
)
def test_a_mode_breaks_a_request_in_its_own_way(between, upstream, client, mode, failure):
    between.mode = mode
    # only the silent modes need a short time, and a response that is broken at once must be waited for
    with pytest.raises(BROKEN, match=failure):
        post(client, between, timeout=0.5 if failure == "Read timed out" else 30)
    if mode in CARRIED_OUT:
        wait_until_carried_out(upstream, 1)
    assert between.counts[mode] == (mode != "down")  # who is refused is not counted
    between.mode = "pass"
    assert post(client, between).content == b"some words"
    assert upstream.carried_out["POST", "/"] == 1 + (mode in CARRIED_OUT)


def test_an_error_of_the_proxy_is_http_and_json(between, upstream, client):
    between.mode = "500"
    for _ in range(2):
        reply = post(client, between)
        assert reply.status_code == 500
        assert json.loads(reply.text)["error_code"] == "INTERNAL_ERROR"
    assert between.counts == {"500": 2}
    assert not upstream.carried_out


def test_a_slow_response_comes_late_and_whole(between, upstream, client):
    between.mode, between.delay = "slow", 600
    with pytest.raises(requests.Timeout):
        post(client, between, timeout=0.5)
    wait_until_carried_out(upstream, 1)
    between.delay = 0.01
    assert post(client, between).content == b"some words"


@pytest.mark.parametrize("mode", [mode for mode in MODES if mode != "slow"])
def test_a_mode_holds_for_connections_that_are_open_already(between, upstream, mode):
    connection = http.client.HTTPConnection("127.0.0.1", between.port, timeout=30)
    assert exchange(connection) == 200
    held = connection.sock
    between.mode = mode
    if mode in ("hang", "half-open"):
        held.settimeout(0.5)
    expected = {
        "hang": TimeoutError,
        "half-open": TimeoutError,
        "down": ConnectionResetError,
        "reset": ConnectionResetError,
        "lost": ConnectionResetError,
        "cut": http.client.IncompleteRead,
    }
    if mode in expected:
        with pytest.raises(expected[mode]):
            exchange(connection)
    else:
        assert exchange(connection) == (500 if mode == "500" else 200)
        assert connection.sock is held
    connection.close()
    if mode in CARRIED_OUT:
        wait_until_carried_out(upstream, 2)
    else:
        assert upstream.carried_out["POST", "/"] == 1
    assert between.counts == Counter(["pass", mode])


def exchange(connection):
    connection.request("POST", "/", body=b"some words")
    reply = connection.getresponse()
    reply.read()
    return reply.status


def test_down_and_up_again_and_again_on_the_same_port(between, client):
    port = between.port
    for _ in range(20):
        between.mode = "down"
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port), timeout=30)
        with socket.socket() as other, pytest.raises(OSError, match="in use"):
            other.bind(("127.0.0.1", port))  # nobody takes the port meanwhile
        between.mode = "pass"
        assert post(client, between).content == b"some words"


def test_many_connections_at_once(between, upstream):
    def ask():
        with requests.Session() as session:
            answers.extend(post(session, between).content for _ in range(10))

    answers = []
    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [b"some words"] * 80
    assert between.counts["pass"] == upstream.carried_out["POST", "/"] == 80


def test_without_a_server_behind_it_the_connection_ends_unanswered(client):
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        with Proxy(nobody.getsockname()[1]) as proxy, pytest.raises(requests.ConnectionError, match="without response"):
            post(client, proxy)


@pytest.mark.parametrize("mode", MODES)
def test_no_thread_is_left_whatever_is_under_way(upstream, mode):
    with Proxy(upstream.server_port) as proxy:
        proxy.delay = 600
        idle, amid_a_request, asking = (socket.create_connection(("127.0.0.1", proxy.port)) for _ in range(3))
        amid_a_request.sendall(b"POST / HTTP/1.1\r\nContent-Length: 99\r\n\r\nsome")
        for one in ("pass", mode):
            proxy.mode = one
            asking.sendall(b"POST / HTTP/1.1\r\nContent-Length: 4\r\n\r\nword")
            if one == "pass":
                assert asking.recv(1)  # so the proxy has accepted them all: they came in this order
        wait_until(lambda: proxy.counts.total() == 2, "both requests have come")
        assert [thread for thread in threading.enumerate() if thread.name == "proxy"]
    assert not [thread for thread in threading.enumerate() if thread.name == "proxy"]
    for one in (idle, asking, amid_a_request):
        one.close()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", proxy.port), timeout=30)
    proxy.close()  # twice does no harm


def test_a_mode_that_is_not_there_is_named(between):
    with pytest.raises(ValueError, match="mode = 'dwon': one of pass, slow, down"):
        between.mode = "dwon"
    assert between.mode == "pass"
