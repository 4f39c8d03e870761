"""The files and directories that a configuration names: read at start, or tried for `--check`.

All raise StartupError, one line that begins with the configuration key.
"""

import os
from pathlib import Path

from daemon.directories import check_directory
from daemon.errors import StartupError
from daemon.keys import load_public_keys, load_secrets, load_signing_key
from daemon.listeners import tls_context
from daemon.token_keys import load_token_keys
from edge.config import DEFAULT_SITE, STDERR, EdgeConfig
from swarm.tokens import Gate

NODE_KEY = "node.key"  # in the cache directory, made at the first start


def secrets(config: EdgeConfig) -> tuple[bytes, ...]:
    """The swarm's secrets; none without a swarm."""
    return load_secrets(config.swarm.secret_file, "swarm.secret_file") if config.swarm else ()


def public_keys(config: EdgeConfig) -> dict[Path, dict[str, bytes]]:
    """File -> key id -> raw public key, for each signed origin."""
    keys = {}
    for site, origin in config.origins().items():
        if origin.public_key_file is not None:
            keys[origin.public_key_file] = load_public_keys(origin.public_key_file, f"{_key_of(site)}.public_key_file")
    return keys


def gates(config: EdgeConfig) -> dict[str, Gate]:
    """Site -> who may have what of it, for each site whose viewers must show tokens."""
    return {
        site: Gate(load_token_keys(origin.tokens.keys_file, f"{_key_of(site)}.tokens.keys_file").verifiers)
        for site, origin in config.origins().items()
        if origin.tokens is not None
    }


def _key_of(site: str) -> str:
    """Where a site stands in the configuration."""
    return "origin" if site == DEFAULT_SITE else f"sites.{site}"


def check(config: EdgeConfig) -> None:
    """What an edge would refuse to start with, ports apart; leaves no trace."""
    secrets(config)
    public_keys(config)
    gates(config)
    if config.viewer.tls is not None:
        tls_context(config.viewer.tls.certificate, config.viewer.tls.key)
    if config.cache.disk:
        check_directory("cache.directory", config.cache.directory)
        if (key := config.cache.directory / NODE_KEY).exists():
            load_signing_key(key, "node key")
    if config.admin.token_file is not None:
        _check_token(config.admin.token_file)
    access_log(config)


def access_log(config: EdgeConfig) -> None:
    """Whether it could be written now; later its disk may fail without harm to viewers."""
    path = config.log.access
    if path is None or path == STDERR:
        return
    if path.is_dir():
        raise StartupError(f"log.access {path}: is a directory")
    if not path.parent.is_dir():
        raise StartupError(f"log.access {path}: no such directory")
    if not os.access(path if path.exists() else path.parent, os.W_OK):
        raise StartupError(f"log.access {path}: permission denied")


def _check_token(path: Path) -> None:
    """It is read at each POST, so that it can be changed: a start goes well without it."""
    try:
        token = path.read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise StartupError(f"admin.token_file {path}: {getattr(error, 'strerror', None) or 'not text'}") from error
    if not token:
        raise StartupError(f"admin.token_file {path}: no token in it")
