import datetime
import hashlib
import ipaddress
import re
import ssl
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from custom_gaze.common import download
from custom_gaze.common.download import DOWNLOADS_FOLDER, is_address, obtain
from custom_gaze.common.errors import CustomGazeError, InputError

CONTENT = bytes(range(256)) * 4000  # 1 MB
SHA256 = hashlib.sha256(CONTENT).hexdigest()
OTHER = hashlib.sha256(b"other").hexdigest()


@dataclass
class Site:
    """A real server on the loopback interface, and how it is to behave."""

    address: str = ""
    content: bytes = CONTENT
    honours_range: bool = True
    break_after: int | None = None  # bytes of the next answer
    announce: int | None = None  # Content-Length, where it is to be another
    status: int | None = None
    location: str | None = None
    reason: str | None = None
    drip_s: float = 0.0  # between one byte and the next
    head_s: float = 0.0  # before the answer begins
    ranges: list[str | None] = field(default_factory=list)  # one entry a request

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        wanted = handler.headers.get("Range")
        self.ranges.append(wanted)
        time.sleep(self.head_s)
        if self.status is not None:
            handler.send_response(self.status, self.reason)
            if self.location:
                handler.send_header("Location", self.location)
            handler.send_header("Content-Length", "0")
            handler.end_headers()
            return
        start = int(wanted[6:-1]) if wanted and self.honours_range else 0
        if start and start >= len(self.content):
            handler.send_error(416)
            return
        body = self.content[start:]
        handler.send_response(206 if start else 200)
        handler.send_header("Content-Length", str(self.announce or len(body)))
        handler.end_headers()
        for place in range(20 if self.drip_s else 0):
            time.sleep(self.drip_s)
            try:
                handler.wfile.write(body[place : place + 1])
            except OSError:  # the other side has had enough
                return
        broken, self.break_after = self.break_after, None
        handler.wfile.write(body[:broken])
        if broken is not None:
            handler.close_connection = True


def serve(site: Site, context: ssl.SSLContext | None = None) -> Iterator[Site]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            site.answer(self)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    if context:
        server.socket = context.wrap_socket(server.socket, server_side=True)
    scheme = "https" if context else "http"
    site.address = f"{scheme}://127.0.0.1:{server.server_address[1]}/model.onnx"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield site
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
    monkeypatch.setenv("no_proxy", "127.0.0.1,localhost")


@pytest.fixture
def site():
    yield from serve(Site())


@pytest.fixture
def target(tmp_path):
    return tmp_path / "models" / "faces" / "face_detection.onnx"


def kept(root: Path) -> list[str]:
    """What lies in the downloads folder, locks aside."""
    return sorted(
        path.name
        for path in (root / DOWNLOADS_FOLDER).iterdir()
        if path.suffix != ".lock" and path.name != ".gitignore"
    )


# ----------------------------------------------------------------------------------- paths


def test_a_path_is_copied_and_its_hash_returned(tmp_path, target):
    (tmp_path / "mine.onnx").write_bytes(CONTENT)
    assert obtain(str(tmp_path / "mine.onnx"), None, target, Path("/nowhere")) == SHA256
    assert target.read_bytes() == CONTENT


def test_a_relative_path_starts_at_the_root_and_the_home_is_known(tmp_path, target, monkeypatch):
    (tmp_path / "mine.onnx").write_bytes(CONTENT)
    monkeypatch.chdir("/")
    assert obtain("mine.onnx", SHA256.upper(), target, tmp_path) == SHA256
    monkeypatch.setenv("HOME", str(tmp_path))
    assert obtain("~/mine.onnx", SHA256, target, Path("/nowhere")) == SHA256


def test_a_path_to_something_else_leaves_the_target_as_it_was(tmp_path, target):
    target.parent.mkdir(parents=True)
    target.write_bytes(b"before")
    (tmp_path / "mine.onnx").write_bytes(CONTENT)
    with pytest.raises(InputError, match=rf"mine\.onnx: its SHA-256 is {SHA256}, but {OTHER}"):
        obtain("mine.onnx", OTHER, target, tmp_path)
    assert target.read_bytes() == b"before"
    assert [path.name for path in target.parent.iterdir()] == ["face_detection.onnx"]


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("missing.onnx", r"missing\.onnx: not found; expected a path or an https address"),
        (".", "is a folder, not a file; expected a path"),
        ("~nosuchuser/x.onnx", r"~nosuchuser/x\.onnx: there is no such home folder"),
        ("file:///etc/passwd", "not an https address"),
        ("ftp://127.0.0.1/model.onnx", "not an https address"),
        ("http://example.org/model.onnx", r"http://example\.org/model\.onnx: not an https address"),
        ("http://127.0.0.1.example.org/x", "not an https address"),
        ("https:///model.onnx", "not an https address"),
        ("https://[::1/model.onnx", "not an https address"),
        ("https://example.org:99999/x", "not an https address"),
        ("https://example.org:port/x", "not an https address"),
        ("https://example.org/a\nb", "not an https address"),
        ("https:example.org/x", "not an https address"),
        ("https://user:pa55@example.org/x", r"^https://example\.org/x: holds an @.*netrc"),
        ("https://user:pa55/w@example.org/x", "^the address: holds an @.*netrc"),
        ("https:user:pa55@example.org/x", "^the address: holds an @.*netrc"),
        (f"https://{'a' * 70}.org/x", "no host that can be looked up"),
        ("https://-\u2665\u0301.org/x", "no host|connection failed"),
        ("https://a..b/x", "no host that can be looked up"),
    ],
)
def test_other_sources_are_refused(tmp_path, target, source, said):
    with pytest.raises(InputError, match=said) as caught:
        obtain(source, SHA256, target, tmp_path)
    assert not target.exists()
    assert "pa55" not in str(caught.value)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("https://example.org/x", True),
        ("ftp://example.org/x", True),
        ("C:/models/x.onnx", False),
        ("models/x.onnx", False),
        ("/models//x.onnx", False),
        ("~/x.onnx", False),
    ],
)
def test_addresses_and_paths_are_told_apart(source, expected):
    assert is_address(source) is expected


def test_an_address_needs_a_hash_and_the_hash_its_form(tmp_path, target, site):
    with pytest.raises(InputError, match=r"an address needs the SHA-256"):
        obtain(site.address, None, target, tmp_path)
    with pytest.raises(InputError, match=r"'abc' is no SHA-256; expected 64 hexadecimal digits"):
        obtain(site.address, "abc", target, tmp_path)
    assert site.ranges == []


# ------------------------------------------------------------------------------- downloads


def test_a_download_is_verified_and_kept(tmp_path, target, site):
    assert obtain(site.address, SHA256, target, tmp_path) == SHA256
    assert target.read_bytes() == CONTENT
    assert kept(tmp_path) == [SHA256]
    assert (tmp_path / DOWNLOADS_FOLDER / ".gitignore").read_text() == "*\n"
    target.unlink()
    obtain(site.address, SHA256, target, tmp_path)
    assert target.read_bytes() == CONTENT
    assert len(site.ranges) == 1


def test_what_was_kept_is_verified_every_time(tmp_path, target, site):
    obtain(site.address, SHA256, target, tmp_path)
    target.write_bytes(b"tampered")
    (tmp_path / DOWNLOADS_FOLDER / SHA256).write_bytes(CONTENT[:-1] + b"x")
    obtain(site.address, SHA256, target, tmp_path)
    assert target.read_bytes() == CONTENT
    assert (tmp_path / DOWNLOADS_FOLDER / SHA256).read_bytes() == CONTENT
    assert len(site.ranges) == 2


def test_another_file_than_named_is_refused_and_not_kept(tmp_path, target, site):
    target.parent.mkdir(parents=True)
    target.write_bytes(b"before")
    with pytest.raises(InputError, match=rf"SHA-256 is {SHA256}, but {OTHER} was named"):
        obtain(site.address, OTHER, target, tmp_path)
    assert target.read_bytes() == b"before"
    assert kept(tmp_path) == []


def test_a_broken_download_resumes_where_it_broke(tmp_path, target, site):
    site.break_after = 300_000
    with pytest.raises(CustomGazeError, match=r"300000 bytes are kept, run this again") as caught:
        obtain(site.address, SHA256, target, tmp_path)
    assert caught.value.exit_code == 1
    assert not target.exists()
    obtain(site.address, SHA256, target, tmp_path)
    assert site.ranges == [None, "bytes=300000-"]
    assert target.read_bytes() == CONTENT
    assert kept(tmp_path) == [SHA256]


def test_a_server_that_ignores_range_is_read_from_the_start(tmp_path, target, site):
    site.break_after = 300_000
    with pytest.raises(CustomGazeError, match="bytes are kept"):
        obtain(site.address, SHA256, target, tmp_path)
    site.honours_range = False
    assert obtain(site.address, SHA256, target, tmp_path) == SHA256
    assert site.ranges == [None, "bytes=300000-"]  # not a third time
    assert target.read_bytes() == CONTENT


@pytest.mark.parametrize("length", [300_000, len(CONTENT), len(CONTENT) + 7])
def test_a_part_of_something_else_is_thrown_away(tmp_path, target, site, length):
    (tmp_path / DOWNLOADS_FOLDER).mkdir()
    (tmp_path / DOWNLOADS_FOLDER / f"{SHA256}.part").write_bytes(b"x" * length)
    assert obtain(site.address, SHA256, target, tmp_path) == SHA256
    assert target.read_bytes() == CONTENT
    assert site.ranges == [f"bytes={length}-", None]


def test_a_part_that_is_whole_is_taken(tmp_path, target, site):
    (tmp_path / DOWNLOADS_FOLDER).mkdir()
    (tmp_path / DOWNLOADS_FOLDER / f"{SHA256}.part").write_bytes(CONTENT)
    assert obtain(site.address, SHA256, target, tmp_path) == SHA256
    assert site.ranges == [f"bytes={len(CONTENT)}-"]


@pytest.mark.parametrize(
    ("status", "code", "said"),
    [(404, 2, "answers 404"), (403, 2, "answers 403"), (416, 2, "416"), (503, 1, "answers 503")],
)
def test_the_servers_refusals_are_passed_on(tmp_path, target, site, status, code, said):
    site.status = status
    site.reason = "Not\x1b[2J here"
    with pytest.raises(CustomGazeError, match=rf"model\.onnx: the server .*{said}") as caught:
        obtain(site.address, SHA256, target, tmp_path)
    assert caught.value.exit_code == code
    assert str(caught.value).isprintable()
    assert not target.exists()


def test_a_refused_connection_is_one_line(tmp_path, target):
    with pytest.raises(CustomGazeError, match=r"connection failed \(.*refused\); run this again"):
        obtain("https://127.0.0.1:9/model.onnx", SHA256, target, tmp_path)


def test_redirects_are_followed_but_never_to_plain_http_elsewhere(tmp_path, target, site):
    for other in serve(Site()):
        site.status, site.location = 302, other.address
        assert obtain(site.address, SHA256, target, tmp_path) == SHA256
    for location in ("http://example.org/model.onnx", "file:///etc/passwd", "ftp://127.0.0.1/x"):
        site.location = location
        with pytest.raises(InputError, match="not an https address"):
            obtain(site.address, OTHER, target, tmp_path)
    site.location = "/again"
    with pytest.raises(InputError, match="redirects more than 5 times"):
        obtain(site.address, OTHER, target, tmp_path)


def test_nobody_is_led_from_https_to_http_or_into_the_own_network(monkeypatch):
    def check(start: str, address: str) -> str:
        try:
            download._check_redirect(start, start, address)
        except InputError as error:
            return str(error)
        return ""

    monkeypatch.setattr(
        download.socket, "getaddrinfo", lambda host, _: [(0, 0, 0, "", (addresses[host], 0))]
    )
    addresses = {host: host for host in ("127.0.0.1", "10.0.0.7", "169.254.169.254", "1.1.1.1")}
    addresses |= {"localhost": "::1", "router.example.org": "192.168.1.1", "cdn.org": "1.1.1.1"}
    start = "https://example.org/x"
    for host in ("127.0.0.1", "localhost", "10.0.0.7", "169.254.169.254", "router.example.org"):
        assert "into this machine's own network" in check(start, f"https://{host}/y")
    assert check(start, "https://cdn.org/y") == check(start, "https://1.1.1.1/y") == ""
    assert check(start, "https://cdn.org/y@2") == ""
    for address in ("http://cdn.org/y", "https://user@cdn.org/y", "https://cdn.org\\@1.1.1.1/"):
        assert "not an https address" in check(start, address)
    assert "from https to http://127.0.0.1/y" in check("https://127.0.0.1/x", "http://127.0.0.1/y")
    assert check("http://127.0.0.1/x", "https://127.0.0.1/y") == ""


def test_secrets_in_an_address_stay_out_of_messages(tmp_path, target, site):
    address = f"{site.address}?token=hidden"
    with pytest.raises(InputError, match="needs the SHA-256") as caught:
        obtain(address, None, target, tmp_path)
    assert "hidden" not in str(caught.value)
    for port in (":9/", ":1/"):
        refused = re.sub(r":\d+/", port, address)
        with pytest.raises(CustomGazeError, match="connection failed") as caught:
            obtain(refused, SHA256, target, tmp_path)
        assert "hidden" not in str(caught.value)


def test_a_drip_without_end_is_given_up(tmp_path, target, site, monkeypatch):
    monkeypatch.setattr(download, "PATIENCE_S", 0.2)
    site.drip_s = 0.05
    with pytest.raises(
        CustomGazeError, match=r"less than 2000 bytes a second\); \d+ bytes are kept"
    ):
        obtain(site.address, SHA256, target, tmp_path)
    monkeypatch.setattr(download, "TIMEOUT_S", 0.1)
    site.drip_s = 1.0
    with pytest.raises(CustomGazeError, match=r"connection failed \(.*timed out"):
        obtain(site.address, SHA256, target, tmp_path)
    monkeypatch.setattr(download, "TIMEOUT_S", 30)
    monkeypatch.setattr(download, "HEAD_S", 0.2)
    site.head_s = 1.0
    with pytest.raises(CustomGazeError, match="no answer within 0.2 s"):
        obtain(site.address, SHA256, target, tmp_path)


def test_an_endless_answer_is_cut_off(tmp_path, target, site, monkeypatch):
    monkeypatch.setattr(download, "MOST_MODEL_BYTES", 500_000)
    with pytest.raises(InputError, match="is larger than"):
        obtain(site.address, SHA256, target, tmp_path)
    assert kept(tmp_path) == []


def test_two_at_once_download_it_once(tmp_path, site):
    targets = [tmp_path / "a.onnx", tmp_path / "b.onnx"]
    threads = [
        threading.Thread(target=obtain, args=(site.address, SHA256, path, tmp_path))
        for path in targets
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=30)
    assert [path.read_bytes() for path in targets] == [CONTENT, CONTENT]
    assert len(site.ranges) == 1


# ----------------------------------------------------------------------------------- https


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """A self-signed certificate for 127.0.0.1 with its key, in one PEM file."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.datetime.now(datetime.timezone.utc)
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]),
            critical=False,
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path_factory.mktemp("tls") / "server.pem"
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        + signed.public_bytes(serialization.Encoding.PEM)
    )
    return path


@pytest.fixture
def secure_site(certificate):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    yield from serve(Site(), context)


def test_https_works_where_the_certificate_is_trusted(
    tmp_path, target, secure_site, certificate, monkeypatch
):
    monkeypatch.delenv("REQUESTS_CA_BUNDLE", raising=False)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    assert secure_site.address.startswith("https://")
    assert obtain(secure_site.address, SHA256, target, tmp_path) == SHA256
    assert target.read_bytes() == CONTENT


def test_https_refuses_a_certificate_that_is_not(tmp_path, target, secure_site):
    with pytest.raises(CustomGazeError, match=r"connection failed .*certificate"):
        obtain(secure_site.address, SHA256, target, tmp_path)
    assert secure_site.ranges == []
    assert not target.exists()


def test_what_is_shown_of_an_address() -> None:
    """MLflow's own store is an address too, without a machine."""
    from custom_gaze.common.download import shown

    assert shown("sqlite:////a/mlflow.db") == "sqlite:////a/mlflow.db"
    assert shown("https://me:pa55@example.org/x?key=1") == "https://example.org/x"
    assert shown("https:me:pa55@example.org/x") == "the address"
