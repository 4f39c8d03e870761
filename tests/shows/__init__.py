"""The "must show" lines of the issues at full length, one module each: `run() -> list[Measured]`."""
