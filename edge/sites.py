"""What requests name here: which site a host is, which path a target, and whether a viewer may have it."""

from collections.abc import Mapping

from edge.config import EdgeConfig
from swarm.names import Path, normalise
from swarm.tokens import PARAMETER, Gate, Token


class Sites:
    """The sites of this edge as its configuration has them now; `take` puts another one in force."""

    def __init__(self, config: EdgeConfig, gates: Mapping[str, Gate]) -> None:
        self.take(config, gates)

    def take(self, config: EdgeConfig, gates: Mapping[str, Gate]) -> None:
        """`gates`: of the sites whose viewers must show a token."""
        self.site_of = config.site_of
        self._gates = dict(gates)
        ignored = config.cache.ignore_query
        self._ignored = {site: (*ignored, PARAMETER) if site in gates else ignored for site in config.origins()}

    def path(self, site: str, target: str) -> Path:
        """The path a request target names, without what does not change the body: tokens among it where they are
        checked, so that neither the cache nor the origin sees them. BadPath."""
        return normalise(site, target, self._ignored.get(site, ()))

    def admit(self, path: Path, target: str, now: float) -> Token | None:
        """The viewer's token, None where the site asks for none. TokenRefused; `now` is the swarm's Unix time."""
        gate = self._gates.get(path.site)
        return gate.admit(target, path.url_path, now) if gate is not None else None
