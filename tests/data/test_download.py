"""Downloads, from a server on this machine."""

import hashlib
import http.server
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bnbench.base.errors import DataError
from bnbench.data.download import RemoteFile, _NoWayDown, fetch

CONTENT = bytes(range(256)) * 4000


class Server(http.server.BaseHTTPRequestHandler):
    """Serves CONTENT. "/short" ends too early, "/other" is another file, "/plain" knows no "Range: bytes=N-"."""

    length = ""
    ranges: list[str | None] = []  # noqa: RUF012 (the fixture empties it)

    def do_GET(self) -> None:
        self.ranges.append(self.headers["Range"])
        if self.path == "/none":
            self.send_error(404)
            return
        start = int(self.headers["Range"][6:-1]) if self.headers["Range"] and self.path != "/plain" else 0
        if start >= len(CONTENT):
            self.send_error(416)
            return
        self.send_response(206 if start else 200)
        length = str(len(CONTENT) - start)
        self.send_header("Content-Length", (self.length or length) if self.path == "/file" else length)
        self.end_headers()
        body = CONTENT[start:] if self.path != "/other" else CONTENT[start:][::-1]
        self.wfile.write(body[: len(body) // 2] if self.path == "/short" else body)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def address(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv("no_proxy", "*")
    Server.ranges.clear()
    Server.length = ""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def remote(folder: Path, *urls: str) -> RemoteFile:
    return RemoteFile(urls, folder / "raw", "file.gz", hashlib.md5(CONTENT).hexdigest())


def test_a_download_arrives_whole_and_is_not_repeated(
    address: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    file = remote(tmp_path, f"{address}/file")
    fetch("X", [file])
    fetch("X", [file])
    assert file.path.read_bytes() == CONTENT
    assert Server.ranges == [None]
    assert [path.name for path in file.folder.iterdir()] == ["file.gz"]
    # where stderr is no terminal: one line, and no bar that fills a log
    assert capfd.readouterr() == ("", f"Downloading {address}/file\n")


def test_the_next_mirror_goes_on_where_the_first_ended(address: str, tmp_path: Path) -> None:
    file = remote(tmp_path, f"{address}/short", f"{address}/file")
    fetch("X", [file])
    assert file.path.read_bytes() == CONTENT
    assert Server.ranges == [None, "bytes=512000-"]


def test_a_server_that_can_not_go_on_starts_again(address: str, tmp_path: Path) -> None:
    file = remote(tmp_path, f"{address}/short", f"{address}/plain")
    fetch("X", [file])
    assert file.path.read_bytes() == CONTENT


def test_a_download_that_ends_early_says_how_far_it_came(address: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"/short: the connection ended after 0\.5 of 1\.0 MB\."):
        fetch("X", [remote(tmp_path, f"{address}/short")])
    assert not (tmp_path / "raw" / "file.gz").exists()


def test_a_wrong_file_is_thrown_away(address: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"/other: the download \(1024000 bytes\) is not the file"):
        fetch("X", [remote(tmp_path, f"{address}/other")])
    assert list((tmp_path / "raw").iterdir()) == []


def test_a_leftover_that_is_too_long_is_thrown_away(address: str, tmp_path: Path) -> None:
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "file.gz.part").write_bytes(CONTENT + b"!")
    file = remote(tmp_path, f"{address}/file", f"{address}/file")
    fetch("X", [file])
    assert file.path.read_bytes() == CONTENT


@pytest.mark.parametrize("length", ["abc", "-5", "", "1e6", "999999999999", "10"])
def test_a_wrong_content_length_passes_on_to_the_next_mirror(
    length: str, address: str, tmp_path: Path
) -> None:
    Server.length = length
    file = remote(tmp_path, f"{address}/file", f"{address}/plain-length")
    fetch("X", [file])
    assert file.path.read_bytes() == CONTENT


def test_a_redirect_away_from_https_is_refused() -> None:
    request = urllib.request.Request("https://a.example/file")
    redirect = _NoWayDown().redirect_request
    with pytest.raises(urllib.error.URLError, match=r"redirected from https to http://b\.example/file"):
        redirect(request, None, 302, "Found", {}, "http://b.example/file")
    assert redirect(request, None, 302, "Found", {}, "https://b.example/file") is not None
    plain = urllib.request.Request("http://a.example/file")
    assert redirect(plain, None, 302, "Found", {}, "http://b.example/file") is not None


def test_every_mirror_is_named_with_its_own_failure(address: str, tmp_path: Path) -> None:
    urls = (f"{address}/short", f"{address}/other", "https://[", "http://127.0.0.1:1/x", f"{address}/none")
    with pytest.raises(DataError) as caught:
        fetch("X", [remote(tmp_path, *urls)])
    assert all(f"{url}: " in caught.value.what for url in urls)
    assert "HTTP 404" in caught.value.what


def test_a_server_that_never_ends_is_cut_off(
    address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bnbench.data.download.MOST_BYTES", 500_000)
    with pytest.raises(DataError, match="more than 0 MB came"):
        fetch("X", [remote(tmp_path, f"{address}/file")])


def test_a_file_that_is_there_with_another_checksum_is_what_is_blamed(address: str, tmp_path: Path) -> None:
    file = remote(tmp_path, f"{address}/none")
    file.folder.mkdir()
    file.path.write_bytes(b"mine")
    with pytest.raises(DataError) as caught:
        fetch("X", [file])
    mine = hashlib.md5(b"mine").hexdigest()
    assert (
        caught.value.what
        == f"{file.path} is there, but it is not the original: its MD5 is {mine}, not {file.md5}."
    )
    assert "HTTP 404" in caught.value.why
    assert "gunzip -k" in caught.value.fix
    assert file.path.read_bytes() == b"mine"
