"""ffmpeg as a viewer."""

import subprocess

import imageio_ffmpeg

ENDS_WITHIN_S = 120.0


def watch(url: str, seconds: float | None = None) -> tuple[int, str]:
    """Exit code, and all that ffmpeg complains of while it plays the stream to its end, or for `seconds` of it."""
    bound = ["-t", str(seconds)] if seconds else []
    done = subprocess.run(
        [imageio_ffmpeg.get_ffmpeg_exe(), "-nostdin", "-v", "error", "-i", url, *bound, "-f", "null", "-"],
        capture_output=True,
        text=True,
        timeout=ENDS_WITHIN_S,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr
