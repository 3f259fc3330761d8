"""Downloads, from a server on this machine."""

import hashlib
import http.server
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bnbench.data.download import RemoteFile, fetch
from bnbench.errors import DataError

CONTENT = bytes(range(256)) * 4000


class Server(http.server.BaseHTTPRequestHandler):
    """Serves CONTENT. "/short" ends too early, "/other" is another file, "/plain" knows no "Range: bytes=N-"."""

    ranges: list[str | None] = []  # noqa: RUF012 (the fixture empties it)

    def do_GET(self) -> None:
        self.ranges.append(self.headers["Range"])
        start = int(self.headers["Range"][6:-1]) if self.headers["Range"] and self.path != "/plain" else 0
        if start >= len(CONTENT):
            self.send_error(416)
            return
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(CONTENT) - start))
        self.end_headers()
        body = CONTENT[start:] if self.path != "/other" else CONTENT[start:][::-1]
        self.wfile.write(body[: len(body) // 2] if self.path == "/short" else body)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def address(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv("no_proxy", "*")
    Server.ranges.clear()
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
    with pytest.raises(DataError, match=r"/other: what came \(1024000 bytes\) is not the file"):
        fetch("X", [remote(tmp_path, f"{address}/other")])
    assert list((tmp_path / "raw").iterdir()) == []


def test_a_leftover_that_is_too_long_is_thrown_away(address: str, tmp_path: Path) -> None:
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "file.gz.part").write_bytes(CONTENT + b"!")
    file = remote(tmp_path, f"{address}/file", f"{address}/file")
    fetch("X", [file])
    assert file.path.read_bytes() == CONTENT
