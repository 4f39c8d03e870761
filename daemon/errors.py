"""What stops a program before it serves: told to the operator in one line, exit code 2, no traceback."""


class StartupError(Exception):
    """The operator must act: a port in use, an unusable directory, a missing key. `str()` is one clear line."""


class ConfigError(StartupError):
    """The configuration is wrong: `str()` names the file or variable, the key, and what was expected."""
