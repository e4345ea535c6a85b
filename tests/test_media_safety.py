"""A video file never makes FFmpeg open another file or an address, and what is no video is called by its name."""

import os
import socket
import subprocess
import sys
import wave
from concurrent.futures import ThreadPoolExecutor

import av
import pytest
from clips import make_clip

from depthaware.media import container
from depthaware.media.still import read_image
from depthaware.media.video import read_video

PLAYLISTS = {
    "hls": "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:2\n#EXTINF:0.48,\n{}\n#EXT-X-ENDLIST\n",
    "hls_master": "#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=100000\n{}\n",
    "ffconcat": "ffconcat version 1.0\nfile '{}'\n",
    "dash": (
        '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" '
        'mediaPresentationDuration="PT1S"><Period><AdaptationSet mimeType="video/mp4"><Representation id="0" '
        'bandwidth="1000"><BaseURL>{}</BaseURL></Representation></AdaptationSet></Period></MPD>'
    ),
    "imf": '<CompositionPlaylist xmlns="http://www.smpte-ra.org/schemas/2067-3/2016">{}</CompositionPlaylist>',
    "sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video {port} RTP/AVP 96\n",
    "rtsp": "rtsp://127.0.0.1:{port}/\n",
    "asx": '<asx version="3.0"><entry><ref href="{}"/></entry></asx>',
    "reference": "[Reference]\nRef1={}\n",
}


@pytest.fixture
def listener():
    """A server that only counts those who call."""
    with socket.create_server(("127.0.0.1", 0)) as server, ThreadPoolExecutor(1) as pool:
        calls = []

        def accept():
            try:
                while True:
                    calls.append(server.accept()[1])
            except OSError:
                return

        pool.submit(accept)
        yield server.getsockname()[1], calls
        server.shutdown(socket.SHUT_RDWR)


@pytest.mark.parametrize("walls", ["both", "formats alone", "protocols alone"])
@pytest.mark.parametrize("suffix", ["own", "mp4"])
@pytest.mark.parametrize("kind", PLAYLISTS)
def test_no_playlist_is_followed(tmp_path, monkeypatch, listener, kind, suffix, walls):
    port, calls = listener
    make_clip(tmp_path / "secret.ts")
    if walls == "formats alone":
        everything = ",".join(["file", "http", "tcp", "rtp", "udp", "rtsp", "crypto", "data"])
        real_open = av.open

        def open_without(*args, options, io_open, **kwargs):
            return real_open(*args, options=options | {"protocol_whitelist": everything}, **kwargs)

        monkeypatch.setattr(container.av, "open", open_without)
    elif walls == "protocols alone":
        monkeypatch.setattr(container, "DENIED", set())
        container._readable.cache_clear()
    for address in (
        f"{tmp_path}/secret.ts",
        f"file:{tmp_path}/secret.ts",
        "secret.ts",
        f"http://127.0.0.1:{port}/a.ts",
    ):
        path = tmp_path / f"list.{kind if suffix == 'own' else suffix}"
        path.write_text(PLAYLISTS[kind].format(address, port=port))
        with pytest.raises(ValueError, match=r"list\..*: (is|damaged|has no video)"):
            list(read_video(path))
    assert calls == []
    container._readable.cache_clear()


@pytest.mark.parametrize(
    "content, found",
    [
        (b"", "the file is empty"),
        (b"Dear reader,\nthis is a letter.\n", "is text"),
        (b"<!DOCTYPE html><html><body>404</body></html>", "is a web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "is a Git LFS pointer"),
        (b"%PDF-1.7\n", "is a PDF document"),
        (b"#EXTM3U\n", "is a playlist"),
        (bytes(range(256)) * 9, "damaged, cut short, or of an unknown format"),
    ],
)
def test_what_is_no_video_is_called_by_its_name(tmp_path, content, found):
    (tmp_path / "a.mp4").write_bytes(content)
    with pytest.raises(ValueError, match=f"a.mp4: {found}"):
        read_video(tmp_path / "a.mp4")


def test_pipes_and_devices_are_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "pipe.mp4")
    for path in (tmp_path / "pipe.mp4", "/dev/zero"):
        for read in (read_video, read_image):
            with pytest.raises(ValueError, match="is a pipe or device, expected a"):
                read(path)


@pytest.mark.parametrize("name", ["pipe.png", "pipe.pth"])
def test_pipes_are_refused_as_images_and_checkpoints(tmp_path, name):
    """In a process of its own, which would wait forever."""
    os.mkfifo(tmp_path / name)
    options = {"pipe.png": ["animate", "--driving", "a.mp4", "--source"], "pipe.pth": ["convert", "--output", "a"]}
    command = [sys.executable, "-m", "depthaware", *options[name], str(tmp_path / name)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2 and f"{name}: is a pipe or device, expected a" in done.stderr, done


def test_sound_alone_is_no_video(tmp_path):
    with wave.open(str(tmp_path / "a.mp4"), "wb") as sound:
        sound.setparams((1, 2, 8000, 800, "NONE", ""))
        sound.writeframes(bytes(1600))
    with pytest.raises(ValueError, match=r"a.mp4: has no video that can be decoded, only audio"):
        read_video(tmp_path / "a.mp4")
