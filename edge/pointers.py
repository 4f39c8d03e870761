"""What paths mean now: the pointers an edge stands by, least recently used paths forgotten first.

A path may mean different things to different requests (`Vary`): then it has a pointer for each variant, newest first.
"""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

from swarm.freshness import Lifetime, hls_default, lifetime
from swarm.headers import Headers
from swarm.metainfo import Pointer, Signed
from swarm.names import Path
from swarm.reuse import likely_variant, suits

MOST_POINTERS = 200_000
MOST_VARIANTS = 16  # of one path: what varies by more is mostly chance, and one hit in many would pay for it


@dataclass(eq=False)
class Known:
    """What this edge knows a path to mean. `made_at` is on this process's monotonic clock."""

    path: Path
    pointer: Pointer
    signed: Signed
    trust: str
    made_at: float
    standing: bool = True  # False for good once it was replaced, doubted, purged or evicted
    judged: int = -1  # by which generation of the purges it was found good

    def age_s(self, now: float) -> float:
        return max(0.0, now - self.made_at)

    @cached_property
    def life(self) -> Lifetime:
        """The grace its headers grant, or the profile's where they are silent; `ttl` is the pointer's own."""
        pointer = self.pointer
        life = lifetime(pointer.status, pointer.headers, received_at=pointer.made)
        return life if life.explicit else hls_default(self.path.url_path, pointer.status) or life

    def may_stand_in(self, now: float) -> bool:
        """Whether it may be served past its lifetime because nobody can renew it (RFC 5861 section 4)."""
        return self.age_s(now) < self.pointer.ttl_s + self.life.sie_s


class Pointers:
    """The pointers of each path. `retire` is told a version that its path no longer means."""

    def __init__(self, retire: Callable[[bytes], None]) -> None:
        self._known: OrderedDict[str, list[Known]] = OrderedDict()
        self._retire = retire
        self.allows: Callable[[Known], bool] = lambda known: True  # False: it was purged

    def __repr__(self) -> str:
        return f"<Pointers of {len(self._known)} paths>"

    def __len__(self) -> int:
        return len(self._known)

    def known(self, path: Path, fields: Headers = ()) -> Known | None:
        """What a path means to a request with these fields: the newest that suits it (RFC 9111 section 4.1)."""
        for known in self._good(path):
            pointer = known.pointer
            if not pointer.variant or suits(pointer.variant, fields, pointer.header("content-language")):
                self._known.move_to_end(path.key)
                return known
        return None

    def all(self, path: Path) -> tuple[Known, ...]:
        """Every pointer of a path, newest first."""
        return tuple(self._good(path))

    def newest(self, path: Path) -> Known | None:
        """What the path meant last, to whomever."""
        return next(iter(self._good(path)), None)

    def variant(self, path: Path, variant: str) -> Known | None:
        """The pointer of exactly this variant."""
        return next((known for known in self._good(path) if known.pointer.variant == variant), None)

    def naming(self, path: Path, version: bytes) -> Known | None:
        """The pointer by which the path means this version, if it does."""
        return next((known for known in self._good(path) if known.pointer.version == version), None)

    def _good(self, path: Path) -> list[Known]:
        """The pointers of a path, those dropped that were purged."""
        variants = self._known.get(path.key)
        if variants is None:
            return []
        purged = [known for known in variants if not self.allows(known)]
        if purged:
            self._drop(path, purged)
        return variants

    def likely_variant(self, path: Path, fields: Headers) -> str:
        """What the next answer to such a request will be selected by, if the origin goes on as before."""
        variants = self._known.get(path.key)
        return likely_variant(variants[0].pointer.variant, fields) if variants else ""

    def learn(self, known: Known) -> None:
        """A newer (or the same, confirmed) pointer stands. The version it replaces is retired."""
        variants = self._known.setdefault(known.path.key, [])
        self._known.move_to_end(known.path.key)
        variant = known.pointer.variant
        # What does not vary answers everybody from now on.
        gone = [old for old in variants if old is not known and (not variant or old.pointer.variant == variant)]
        kept = [old for old in variants if old is not known and old not in gone]
        variants[:] = [known, *kept[: MOST_VARIANTS - 1]]
        self._on_gone([*gone, *kept[MOST_VARIANTS - 1 :]], variants)
        if len(self._known) > MOST_POINTERS:
            _, forgotten = self._known.popitem(last=False)
            for old in forgotten:
                old.standing = False

    def doubt(self, path: Path, version: bytes | None) -> None:
        """What the path meant is gone at the origin, or never became whole here: ask again. Newer knowledge stands."""
        self._drop(path, self._naming(path, version))

    def doubt_all(self, path: Path) -> None:
        """Whatever the path meant, it may mean something else now."""
        self._drop(path, list(self._known.get(path.key, ())))

    def forget(self, path: Path, version: bytes) -> None:
        """The path no longer means a version that is itself being dropped."""
        self._drop(path, self._naming(path, version), retire=False)

    def forget_signed_by(self, signer: str) -> None:
        """That edge's word is worth nothing any more."""
        for variants in list(self._known.values()):
            gone = [known for known in variants if known.trust != "signed" and known.signed.signer == signer]
            if gone:
                self._drop(gone[0].path, gone, retire=False)

    def _naming(self, path: Path, version: bytes | None) -> list[Known]:
        return [known for known in self._known.get(path.key, ()) if known.pointer.version == version]

    def _drop(self, path: Path, gone: list[Known], *, retire: bool = True) -> None:
        if not gone:
            return
        variants = self._known[path.key]
        variants[:] = [known for known in variants if known not in gone]
        if not variants:
            del self._known[path.key]
        self._on_gone(gone, variants, retire=retire)

    def _on_gone(self, gone: list[Known], left: list[Known], *, retire: bool = True) -> None:
        named = {known.pointer.version for known in left}
        for known in gone:
            known.standing = False
            if retire and known.pointer.version is not None and known.pointer.version not in named:
                self._retire(known.pointer.version)
