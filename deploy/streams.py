"""Test streams made by ffmpeg (from imageio-ffmpeg): a film on disk, and a live stream sent by PUT in real time."""

from pathlib import Path

import imageio_ffmpeg

from deploy.programs import run_to_end

RENDITIONS = ((320, 180, "200k"), (640, 360, "600k"))  # width, height, video bitrate
SEGMENT_S = 2
FPS = 25


def _sources(seconds: float | None, label: str) -> list[str]:
    length = f":duration={seconds}" if seconds else ""
    width, height, _ = RENDITIONS[-1]
    return [
        *("-f", "lavfi", "-i", f"testsrc2=size={width}x{height}:rate={FPS}{length}"),
        *("-f", "lavfi", "-i", f"sine=frequency={440 if label == 'film' else 330}:sample_rate=48000{length}"),
    ]


def _encoding() -> list[str]:
    """Every rendition with its own audio, keyframes on segment boundaries."""
    split = f"[0:v]split={len(RENDITIONS)}" + "".join(f"[in{i}]" for i in range(len(RENDITIONS)))
    scaled = [f"[in{i}]scale={w}:{h}[v{i}]" for i, (w, h, _) in enumerate(RENDITIONS)]
    options = ["-filter_complex", ";".join([split, *scaled])]
    for i, (_, _, rate) in enumerate(RENDITIONS):
        options += ["-map", f"[v{i}]", "-map", "1:a"]
        options += [f"-b:v:{i}", rate, f"-maxrate:v:{i}", rate, f"-bufsize:v:{i}", rate]
    gop = str(FPS * SEGMENT_S)
    return [
        *options,
        *("-c:v", "libx264", "-preset", "ultrafast", "-tune", "zerolatency", "-pix_fmt", "yuv420p"),
        *("-g", gop, "-keyint_min", gop, "-sc_threshold", "0", "-threads", "1"),
        *("-c:a", "aac", "-b:a", "64k"),
    ]


def _hls(target: str, more: list[str]) -> list[str]:
    streams = " ".join(f"v:{i},a:{i}" for i in range(len(RENDITIONS)))
    return [
        *("-f", "hls", "-hls_time", str(SEGMENT_S), "-hls_segment_type", "fmp4"),
        *("-var_stream_map", streams, "-master_pl_name", "master.m3u8"),
        *more,
        f"{target}/%v.m3u8",
    ]


def make_film(directory: Path, seconds: float) -> Path:
    """An on-demand stream of two renditions; its multivariant playlist. RuntimeError says what ffmpeg said."""
    directory.mkdir(parents=True, exist_ok=True)
    command = [
        *(imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-y"),
        *_sources(seconds, "film"),
        *_encoding(),
        *_hls(
            str(directory),
            [
                *("-hls_playlist_type", "vod", "-hls_flags", "independent_segments"),
                *("-hls_segment_filename", str(directory / "%v-%04d.m4s"), "-hls_fmp4_init_filename", "init-%v.mp4"),
            ],
        ),
    ]
    done = run_to_end(command)
    if done.returncode:
        raise RuntimeError(f"ffmpeg could not make the film: {done.stderr.strip()}")
    return directory / "master.m3u8"


def live_command(url: str, seconds: float | None = None) -> list[str]:
    """An ffmpeg that sends a live stream under `url` in real time, until stopped or for `seconds`."""
    return [
        *(imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-nostdin", "-re"),
        *_sources(seconds, "live"),
        *_encoding(),
        *_hls(
            url,
            [
                *("-method", "PUT", "-http_persistent", "1", "-hls_list_size", "6", "-hls_delete_threshold", "3"),
                *("-hls_flags", "independent_segments+program_date_time+delete_segments"),
                *("-hls_segment_filename", f"{url}/%v-%05d.m4s", "-hls_fmp4_init_filename", "init-%v.mp4"),
            ],
        ),
    ]
