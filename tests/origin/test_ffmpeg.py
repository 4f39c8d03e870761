"""A real packager and a real player: ffmpeg sends a live stream to the origin, and ffmpeg plays it from there."""

import subprocess

import pytest

from swarm import playlist
from tests.origin.running import running
from tests.origin.test_ingest import files, get, until

imageio_ffmpeg = pytest.importorskip("imageio_ffmpeg")
pytestmark = [pytest.mark.processes, pytest.mark.slow]

SECONDS = 8


def test_a_live_stream_by_ffmpeg_is_taken_in_and_plays(tmp_path):
    ffmpeg = imageio_ffmpeg.get_ffmpeg_exe()
    with running(tmp_path) as origin:
        base = f"{origin.base}/live/cup"
        packager = subprocess.Popen(
            [
                *(ffmpeg, "-v", "error", "-nostdin", "-re", "-f", "lavfi", "-i", "testsrc2=size=320x180:rate=25"),
                *("-f", "lavfi", "-i", "sine=frequency=440:sample_rate=48000", "-t", str(SECONDS)),
                *("-c:v", "libx264", "-preset", "ultrafast", "-threads", "1", "-g", "25", "-c:a", "aac"),
                *("-f", "hls", "-method", "PUT", "-http_persistent", "1", "-hls_segment_type", "fmp4"),
                *("-hls_time", "1", "-hls_list_size", "4"),
                *("-hls_flags", "independent_segments+program_date_time+delete_segments"),
                *("-hls_segment_filename", f"{base}/seg%05d.m4s", f"{base}/index.m3u8"),
            ],
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            seen = set()
            while packager.poll() is None:
                until(lambda: get(origin, "/live/cup/index.m3u8")[0] == 200 or packager.poll() is not None, 20)
                status, body = get(origin, "/live/cup/index.m3u8")
                if status == 200 and body not in seen:
                    seen.add(body)
                    for uri in playlist.named_uris(body.decode()):
                        assert get(origin, f"/live/cup/{uri}")[0] == 200, f"{uri} is named and not there"
            _, said = packager.communicate(timeout=10)
        finally:
            packager.kill()
            packager.wait()
        assert (packager.returncode, said) == (0, "")
        assert len(seen) >= 4
        # ffmpeg hangs up right behind the last playlist.
        until(lambda: b"#EXT-X-ENDLIST" in get(origin, "/live/cup/index.m3u8")[1])
        final = playlist.parse(get(origin, "/live/cup/index.m3u8")[1].decode())
        assert isinstance(final, playlist.Media)
        assert final.ended
        assert len([name for name in files(origin.ingested) if name.endswith(".m4s")]) < SECONDS  # old ones deleted
        assert files(origin.received) == []
        played = subprocess.run(
            [ffmpeg, "-v", "error", "-nostdin", "-i", f"{base}/index.m3u8", "-f", "null", "-"],
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        assert (played.returncode, played.stderr) == (0, "")
        assert "refused" not in origin.log()
        assert "broke off" not in origin.log()
