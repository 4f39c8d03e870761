"""What of a new configuration a running edge takes up, on SIGHUP, and what needs a restart."""

from collections.abc import Iterator

import msgspec
from msgspec.structs import fields, replace

from edge.config import EdgeConfig, Origin


def reloaded(running: EdgeConfig, new: EdgeConfig) -> EdgeConfig:
    """`running` with all of `new` that can change while an edge runs.

    What is left as it was: addresses, the node's name and zone, the swarm, the cache's directory and whether there is
    one, which sites there are and whose signature they need, and whether the viewer port speaks TLS.
    """
    has_tls = running.viewer.tls is not None and new.viewer.tls is not None
    has_disk = bool(running.cache.disk) and bool(new.cache.disk)
    return replace(
        running,
        viewer=replace(new.viewer, listen=running.viewer.listen, tls=new.viewer.tls if has_tls else running.viewer.tls),
        admin=replace(running.admin, token_file=new.admin.token_file),
        origin=_origin(running.origin, new.origin),
        sites={site: _origin(origin, new.sites.get(site)) for site, origin in running.sites.items()},
        cache=replace(
            new.cache,
            directory=running.cache.directory,
            disk=new.cache.disk if has_disk else running.cache.disk,
        ),
        limits=new.limits,
        drain=new.drain,
        log=new.log,
    )


def _origin(running: Origin | None, new: Origin | None) -> Origin | None:
    if running is None or new is None:
        return running
    return replace(running, url=new.url, tokens=new.tokens, capacity=new.capacity)


def differences(one: object, other: object, key: str = "") -> Iterator[str]:
    """The keys, as an operator writes them, under which two configurations differ."""
    if isinstance(one, msgspec.Struct) and type(one) is type(other):
        for field in fields(one):
            yield from differences(getattr(one, field.name), getattr(other, field.name), _below(key, field.name))
    elif isinstance(one, dict) and isinstance(other, dict):
        for name in sorted(one.keys() | other.keys()):
            yield from differences(one.get(name), other.get(name), _below(key, str(name)))
    elif one != other:
        yield key


def _below(key: str, name: str) -> str:
    return f"{key}.{name}" if key else name
