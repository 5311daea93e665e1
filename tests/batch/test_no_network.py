"""Nothing is sent anywhere, by the program or by its pages (SECURITY.md)."""

import re
import socket

import pytest

from napari_convlstm_tumor.cli import main

SHUT = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
LOADED = re.compile(r"""(?:src|href|action|data)\s*=\s*["']?([^"'\s>]+)|url\(\s*["']?([^"')]+)|@import""")


@pytest.fixture
def no_network(monkeypatch):
    """Every address of a network is refused, and kept; sockets between processes of one machine are none."""
    asked = []

    def refuse(call):
        def wrapped(sock, address, *rest):
            if sock.family in (socket.AF_INET, socket.AF_INET6):
                asked.append(address)
                raise OSError("no network here")
            return call(sock, address, *rest)

        return wrapped

    for name in ("connect", "connect_ex", "bind", "sendto"):
        monkeypatch.setattr(socket.socket, name, refuse(getattr(socket.socket, name)), raising=True)
    monkeypatch.setattr(socket, "getaddrinfo", lambda host, *_, **__: asked.append(host))
    return asked


@pytest.mark.parametrize("masks", ["use", "ignore"])
def test_a_batch_asks_for_no_address_and_opens_no_port(own_folder, tmp_path, no_network, masks):
    command = ["batch", str(own_folder), "-o", str(tmp_path / "out"), "--no-register", "--masks", masks, "--quiet"]
    assert main(command) == 0
    assert no_network == []


def test_the_watch_sees_a_connection(no_network):
    with socket.socket() as sock, pytest.raises(OSError, match="no network"):
        sock.connect(("127.0.0.1", 9))
    assert no_network == [("127.0.0.1", 9)]


def test_pages_run_no_script_and_load_nothing_from_elsewhere(own_folder, tmp_path):
    out = tmp_path / "out"
    assert main(["batch", str(own_folder), "-o", str(out), "--no-register", "--quiet"]) == 0
    pages = sorted(out.rglob("*.html"))
    assert [page.name for page in pages] == ["report.html", "report.html", "index.html"]
    for page in pages:
        text = page.read_text(encoding="utf-8")
        assert f'http-equiv="Content-Security-Policy" content="{SHUT}"' in text
        assert not re.search(r"<script|javascript:|\son\w+\s*=", text, re.IGNORECASE)
        loaded = [first or second for first, second in LOADED.findall(text)]
        assert loaded
        assert not [place for place in loaded if re.match(r"(?:\w+:)?//|\w+:(?<!data:)", place)]
