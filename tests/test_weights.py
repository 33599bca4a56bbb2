import functools
import hashlib
import http.server
import json
import threading
from contextlib import contextmanager

import pytest
import yaml
from mettrail.errors import InputError
from mettrail.weights import fetch_weights

CONTENT = bytes(range(256)) * 1000


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


@contextmanager
def _serving(handler):
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@pytest.fixture
def publisher(tmp_path):
    """A folder that plays the publisher: the file, and the record that states its MD5."""
    folder = tmp_path / "publisher"
    folder.mkdir()
    (folder / "net.zip").write_bytes(CONTENT)
    _state(folder, hashlib.md5(CONTENT).hexdigest())
    with _serving(functools.partial(_Quiet, directory=folder)) as address:
        (folder / "address").write_text(address)
        yield folder


def _state(folder, md5):
    files = [{"key": "other.zip", "checksum": "md5:0"}, {"key": "net.zip", "checksum": f"md5:{md5}"}]
    (folder / "record").write_text(json.dumps({"id": 1, "files": files}))


def _registry(folder, tmp_path, **changes):
    address = (folder / "address").read_text()
    entry = {
        "url": f"{address}/net.zip",
        "record": f"{address}/record",
        "file": "net.zip",
        "sha256": None,
        "licence": "free",
        **changes,
    }
    path = tmp_path / "weights.yaml"
    path.write_text(yaml.safe_dump({"net": entry}))
    return path


def _left(folder):
    return sorted(p.name for p in folder.iterdir()) if folder.exists() else []


@pytest.fixture
def no_network(monkeypatch):
    """What makes every use of the network an error, once it is called."""

    def never(*args, **kwargs):
        raise AssertionError("the network was used")

    return lambda: monkeypatch.setattr("requests.Session.send", never)


def test_weights_that_match_the_publishers_md5_arrive_and_are_recorded(publisher, tmp_path):
    to = tmp_path / "weights" / "net.zip"
    assert fetch_weights("net", _registry(publisher, tmp_path), to) == to
    assert to.read_bytes() == CONTENT
    lock = json.loads((tmp_path / "weights" / "net.zip.lock.json").read_text())
    assert lock["sha256"] == hashlib.sha256(CONTENT).hexdigest()
    assert "MD5 published by" in lock["checked_against"]
    assert _left(to.parent) == ["net.zip", "net.zip.lock.json"]


@pytest.mark.parametrize("source", ["record", "registry"])
def test_weights_that_are_not_the_published_ones_do_not_stay(publisher, tmp_path, source):
    wrong = "ab" * 32
    if source == "record":
        _state(publisher, wrong[:32])
    registry = _registry(publisher, tmp_path, sha256=wrong if source == "registry" else None)
    with pytest.raises(InputError, match=r"expected: (md5|sha256):abab") as caught:
        fetch_weights("net", registry, tmp_path / "weights" / "net.zip")
    assert caught.value.reason == "wrong_checksum"
    assert _left(tmp_path / "weights") == []


def test_a_file_that_changed_since_the_first_download_is_refused(publisher, tmp_path):
    registry, to = _registry(publisher, tmp_path), tmp_path / "weights" / "net.zip"
    fetch_weights("net", registry, to)
    to.unlink()
    (publisher / "net.zip").write_bytes(CONTENT[::-1])
    _state(publisher, hashlib.md5(CONTENT[::-1]).hexdigest())
    with pytest.raises(InputError, match="first download"):
        fetch_weights("net", registry, to)
    assert _left(to.parent) == ["net.zip.lock.json"]


def test_weights_without_a_checksum_are_pinned_by_the_first_download(publisher, tmp_path, caplog):
    registry, to = _registry(publisher, tmp_path, record=None), tmp_path / "weights" / "net.zip"
    fetch_weights("net", registry, to)
    assert "no checksum" in caplog.text
    to.unlink()
    (publisher / "net.zip").write_bytes(CONTENT[::-1])
    with pytest.raises(InputError, match="sha256"):
        fetch_weights("net", registry, to)


def test_weights_in_place_are_checked_without_network(publisher, tmp_path, no_network):
    registry, to = _registry(publisher, tmp_path), tmp_path / "weights" / "net.zip"
    fetch_weights("net", registry, to)
    no_network()
    fetch_weights("net", registry, to)
    to.write_bytes(CONTENT[:-1])
    with pytest.raises(InputError, match="Delete"):
        fetch_weights("net", registry, to)


def test_weights_carried_over_by_hand_are_checked_before_they_are_recorded(publisher, tmp_path):
    to = tmp_path / "net.zip"
    to.write_bytes(CONTENT[::-1])
    with pytest.raises(InputError) as caught:
        fetch_weights("net", _registry(publisher, tmp_path), to)
    assert caught.value.reason == "wrong_checksum"
    assert not (tmp_path / "net.zip.lock.json").exists()


@pytest.mark.parametrize("missing", ["net.zip", "record"])
def test_without_network_it_says_where_to_get_the_file(publisher, tmp_path, missing):
    (publisher / missing).unlink()
    with pytest.raises(InputError, match="download it elsewhere") as caught:
        fetch_weights("net", _registry(publisher, tmp_path), tmp_path / "weights" / "net.zip")
    assert caught.value.reason == "no_network"
    assert _left(tmp_path / "weights") == []


def test_a_record_without_the_file_is_not_taken_for_consent(publisher, tmp_path):
    (publisher / "record").write_text(json.dumps({"files": [{"key": "other.zip", "checksum": "md5:0"}]}))
    with pytest.raises(InputError, match=r"no checksum of net\.zip"):
        fetch_weights("net", _registry(publisher, tmp_path), tmp_path / "net.zip")


def test_an_unknown_name_is_refused_with_the_names_there_are(publisher, tmp_path):
    with pytest.raises(InputError, match="one of net"):
        fetch_weights("nett", _registry(publisher, tmp_path), tmp_path / "net.zip")


class _CutShort(_Quiet):
    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", str(len(CONTENT)))
        self.end_headers()
        self.wfile.write(CONTENT[: len(CONTENT) // 2])


def test_a_download_cut_short_leaves_nothing(publisher, tmp_path):
    with _serving(_CutShort) as address:
        registry = _registry(publisher, tmp_path, record=None, url=f"{address}/net.zip")
        with pytest.raises(InputError, match="not the whole"):
            fetch_weights("net", registry, tmp_path / "weights" / "net.zip")
    assert _left(tmp_path / "weights") == []


def test_everybody_may_read_the_weights(publisher, tmp_path):
    to = fetch_weights("net", _registry(publisher, tmp_path), tmp_path / "net.zip")
    assert to.stat().st_mode & 0o777 == 0o644


def test_the_registry_that_is_shipped_names_what_is_needed():
    from pathlib import Path

    registry = yaml.safe_load((Path(__file__).parents[1] / "resources" / "weights.yaml").read_text())
    paths = pytest.importorskip("HD_BET.paths")
    assert registry["hd-bet"]["url"] == paths.ZENODO_DOWNLOAD_URL
    assert registry["hd-bet"]["file"] in registry["hd-bet"]["url"]
    assert registry["hd-bet"]["licence"]
