"""Configuration: what people may write, and the one line each mistake gets."""

import tomllib
from pathlib import Path

import pytest

from daemon.addresses import Address, Url
from daemon.config import Arguments, ConfigError, load, parse_arguments
from daemon.version import VERSION
from edge.config import EdgeConfig
from edge.config import Origin as EdgeOrigin
from origin.config import Ingest, OriginConfig
from swarm.units import parse_bytes, parse_rate, parse_seconds, parse_share

LEAST = "node: edge-1\norigin: {url: http://origin:8000}\n"
SIGNED = "origin: {url: http://origin:8000, trust: signed, public_key_file: /etc/starling/signing.pub}\n"


@pytest.fixture
def edge(tmp_path: Path):
    """Loads an edge configuration from text and variables."""

    def read(text: str, **environ: str) -> EdgeConfig:
        file = tmp_path / "edge.yaml"
        file.write_text(text)
        return load(file, environ, EdgeConfig)

    return read


@pytest.fixture
def edge_error(edge):
    """The one line that a wrong edge configuration is answered with."""

    def read(text: str, **environ: str) -> str:
        with pytest.raises(ConfigError) as raised:
            edge(text, **environ)
        assert "\n" not in str(raised.value)
        return str(raised.value)

    return read


def test_node_and_origin_are_enough(edge):
    config = edge(LEAST)
    assert config.node == "edge-1"
    assert config.zone == ""
    assert str(config.viewer.listen) == "0.0.0.0:8080"
    assert str(config.peer.listen) == "0.0.0.0:7400"
    assert config.peer.advertise is None
    assert str(config.admin.listen) == "127.0.0.1:9400"
    assert config.cache.directory == Path("/var/cache/starling")
    assert config.cache.disk == 50 * 1024**3
    assert config.cache.memory == 512 * 1024**2
    assert config.drain.grace == 5.0
    assert config.swarm is None
    assert config.origins() == {"default": EdgeOrigin(url=(Url("http://origin:8000"),))}


def test_every_key_of_the_design_is_read(edge):
    config = edge("""
node: edge-fra-1
zone: fra
viewer: {listen: "0.0.0.0:8080", tls: {certificate: /c.pem, key: /k.pem}}
peer:   {listen: "[::]:7400", advertise: "http://10.0.0.5:7400/"}
admin:  {listen: "127.0.0.1:9400", token_file: /etc/starling/token}
origin: {url: ["http://a:8000", "https://b/base/"], trust: signed, public_key_file: /pub, capacity: 2.3gbit}
sites:
  Video.Example: {url: "http://video:8000"}
swarm:
  topology: hybrid
  role: edge
  tracker: "http://origin:8000"
  seeds: ["10.0.0.6:7400"]
  secret_file: /etc/starling/swarm.secret
  capacity: 1gbit
limits: {uplink: null, peers_up: 800mbit, down: null, origin: 64kbit}
transport: {congestion: bbr}
cache:  {directory: /srv/cache, disk: 0, memory: 1048576, ignore_query: [session, uid]}
drain:  {grace: 500ms}
""")
    assert config.peer.listen == Address("::", 7400)
    assert config.peer.advertise == "http://10.0.0.5:7400"
    assert config.origin.url == ("http://a:8000", "https://b/base")
    assert config.origin.capacity == 2_300_000_000
    assert set(config.origins()) == {"default", "video.example"}
    assert config.swarm.tracker == ("http://origin:8000",)
    assert config.swarm.seeds == (Address("10.0.0.6", 7400),)
    assert config.swarm.capacity == 10**9
    assert config.limits.uplink is None
    assert config.limits.peers_up == 800_000_000
    assert config.limits.origin == 64_000
    assert config.transport.congestion == "bbr"
    assert config.cache.disk == 0
    assert config.cache.memory == 1 << 20
    assert config.cache.ignore_query == ("session", "uid")
    assert config.drain.grace == 0.5


def test_the_environment_wins_over_the_file(edge):
    config = edge(
        LEAST + "swarm: {secret_file: /a, tracker: http://t:1}\ncache: {memory: 64MiB, ignore_query: [x]}\n",
        STARLING__CACHE__MEMORY="1GiB",
        STARLING__CACHE__IGNORE_QUERY="session, uid",
        STARLING__SWARM__SEEDS="10.0.0.6:7400,10.0.0.7:7400",
        STARLING__SWARM__TRACKER="http://a:1,http://b:2",
        STARLING__LIMITS__UPLINK="null",
        STARLING__NODE="17",
        PATH="/bin",
        STARLING_HOME="/not/ours",
    )
    assert config.cache.memory == 1 << 30
    assert config.cache.ignore_query == ("session", "uid")
    assert config.swarm.seeds == (Address("10.0.0.6", 7400), Address("10.0.0.7", 7400))
    assert config.swarm.tracker == ("http://a:1", "http://b:2")
    assert config.swarm.secret_file == Path("/a")
    assert config.limits.uplink is None
    assert config.node == "17"
    assert type(config.node) is str


def test_the_environment_alone_is_enough():
    environ = {"STARLING__NODE": "edge-1", "STARLING__SITES__VIDEO.EXAMPLE__URL": "http://o:1"}
    assert list(load(None, environ, EdgeConfig).origins()) == ["video.example"]


def test_the_environment_takes_a_section_away(edge):
    assert edge(LEAST + "swarm: {secret_file: /a, tracker: http://t:1}", STARLING__SWARM="null").swarm is None


def test_a_section_with_every_key_commented_out_has_its_defaults(edge):
    config = edge(LEAST + "viewer:\n#  listen: 1.2.3.4:80\nsites:\nswarm:\n")
    assert config.viewer.listen.port == 8080
    assert config.sites == {}
    assert config.swarm is None


@pytest.mark.parametrize(
    "more, line",
    [
        ("cache: {memroy: 1GiB}", "edge.yaml: unknown key 'cache.memroy' (did you mean 'cache.memory'?)"),
        ("cahce: {memory: 1GiB}", "edge.yaml: unknown key 'cahce' (did you mean 'cache'?)"),
        ("memory: 1GiB", "edge.yaml: unknown key 'memory' (did you mean 'cache.memory'?)"),
        ("public_key_file: /x", "edge.yaml: unknown key 'public_key_file' (did you mean 'origin.public_key_file'?)"),
        (
            "sites: {v.example: {url: http://o, trsut: signed}}",
            "edge.yaml: unknown key 'sites.v.example.trsut' (did you mean 'sites.v.example.trust'?)",
        ),
        ("drain: {zzz: 1}", "edge.yaml: unknown key 'drain.zzz' (known here: grace)"),
        ("8080: viewer", "edge.yaml: unknown key '8080' (known here: node, zone, viewer, peer, admin, origin, sites, "),
    ],
)
def test_an_unknown_key_is_named_with_the_nearest_right_one(edge_error, more: str, line: str):
    assert edge_error(LEAST + more).startswith(line)


@pytest.mark.parametrize(
    "variable, line",
    [
        ("STARLING__CACHE__MEMROY", "unknown variable STARLING__CACHE__MEMROY (did you mean STARLING__CACHE__MEMORY?)"),
        ("STARLING__CAHCE__MEMORY", "unknown variable STARLING__CAHCE__MEMORY (did you mean STARLING__CACHE__MEMORY?)"),
        ("STARLING__MEMORY", "unknown variable STARLING__MEMORY (did you mean STARLING__CACHE__MEMORY?)"),
        ("STARLING__CACHE__DISK__X", "unknown variable STARLING__CACHE__DISK__X (did you mean STARLING__CACHE__DISK?)"),
        (
            "STARLING__SITES__V.EXAMPLE__TRSUT",
            "unknown variable STARLING__SITES__V.EXAMPLE__TRSUT (did you mean STARLING__SITES__V.EXAMPLE__TRUST?)",
        ),
        ("STARLING__QQ", "unknown variable STARLING__QQ"),
        ("STARLING__", "unknown variable STARLING__"),
    ],
)
def test_an_unknown_variable_is_named_with_the_nearest_right_one(edge_error, variable: str, line: str):
    assert edge_error(LEAST, **{variable: "1"}) == line


@pytest.mark.parametrize(
    "swarm",
    [
        "{tracker: http://o, seeds: ['a:1']}",
        "{topology: pure, seeds: ['a:1', 'b:1']}",
        "{topology: pure}",  # the first of all: others have it as their seed
        "{topology: superpeer, tracker: http://o}",
        "{topology: superpeer, seeds: ['a:1']}",
        "{topology: superpeer, role: superpeer, seeds: ['a:1']}",
        "{topology: superpeer, role: superpeer}",
    ],
)
def test_a_swarm_that_can_be_found(edge, swarm):
    assert edge(LEAST + "swarm: " + swarm.replace("{", "{secret_file: /s, ")).swarm is not None


@pytest.mark.parametrize(
    "more, line",
    [
        ("cache: {memory: lots}", "cache.memory: expected a size such as 512MiB (KiB, MiB, GiB, TiB, or a number of"),
        ("cache: {memory: true}", "cache.memory: expected a size such as 512MiB"),
        ("cache: {memory: -1}", "cache.memory: expected a size such as 512MiB"),
        ("cache: 5GiB", "cache: expected keys and values (a section), got '5GiB'"),
        ("cache: [1]", "cache: expected keys and values (a section), got a list"),
        ("cache: {directory: [a]}", "cache.directory: expected a path, got a list"),
        ("cache: {memory: 1KiB}", "cache: memory must be at least 1MiB, one piece of the largest kind"),
        ("drain: {grace: 5}", "drain.grace: expected a duration such as 5s (ms, s, m or h), got 5"),
        ("limits: {uplink: 1000}", "limits.uplink: expected a rate above 0 such as 800mbit (kbit, mbit or gbit per"),
        ("limits: {uplink: 0mbit}", "limits.uplink: expected a rate above 0"),
        ("limits: 5", "limits: expected keys and values (a section), got 5"),
        ("zone: 7", "zone: expected text (put it in quotes), got 7"),
        ("zone: no", "zone: expected text (put it in quotes), got false"),
        ("zone: {a: b}", "zone: expected text (put it in quotes), got keys and values (a section)"),
        ("viewer: {listen: 8080}", 'viewer.listen: expected host:port, such as 0.0.0.0:8080 or "[::]:8080", got 8080'),
        ("viewer: {listen: ':8080'}", "viewer.listen: expected host:port"),
        ("viewer: {listen: '0.0.0.0:80800'}", "viewer.listen: expected host:port"),
        ("peer: {advertise: 10.0.0.5:7400}", "peer.advertise: expected a URL such as http://origin:8000"),
        ("peer: {advertise: http://me:pw@host}", "peer.advertise: expected a URL"),
        ("peer: {advertise: 'http://host:0'}", "peer.advertise: expected a URL"),
        ("peer: {advertise: 'http://host:x'}", "peer.advertise: expected a URL"),
        ("transport: {congestion: vegas}", "transport.congestion: expected one of cubic, bbr, got 'vegas'"),
        ("sites: {'a b': {url: http://o}}", "sites.a b: expected a host name without a port, such as video.example"),
        ("sites: {v.example: {}}", "sites.v.example.url is required"),
        ("sites: {default: {url: http://o}}", "sites: 'default' is the site of the bare origin; set origin instead"),
        ("sites: {v: {url: http://o, trust: signed}}", "sites.v: trust: signed needs public_key_file"),
        ("sites: {V: {url: http://o}, v: {url: http://p}}", "sites.v: the same name stands here twice"),
        ("sites: {v: {url: []}}", "sites.v: url is empty; give at least one"),
        ("swarm: {tracker: http://o}", "swarm.secret_file is required (STARLING__SWARM__SECRET_FILE)"),
        ("swarm: {secret_file: /s}", "swarm: tracker is missing; without one use topology: pure, with seeds"),
        ("swarm: {secret_file: /s, tracker: http://o, seeds: ['a:0']}", "swarm: seeds: port 0 cannot be asked"),
        (
            "swarm: {secret_file: /s, tracker: http://o, role: superpeer}",
            "swarm: role: superpeer has no meaning in topology hybrid; only in topology superpeer",
        ),
        (
            "swarm: {secret_file: /s, tracker: http://o, topology: pure}",
            "swarm: tracker has no meaning in topology pure; give seeds, or use topology: hybrid",
        ),
        (
            "swarm: {secret_file: /s, topology: superpeer}",
            "swarm: tracker and seeds are missing: an edge must find the superpeers by one or the other",
        ),
        (
            "swarm: {secret_file: /s, tracker: http://o, topology: mesh}",
            "swarm.topology: expected one of hybrid, pure, superpeer, got 'mesh'",
        ),
    ],
)
def test_a_wrong_value_is_named_with_what_is_expected(edge_error, more: str, line: str):
    assert edge_error(LEAST + more).startswith("edge.yaml: " + line)


@pytest.mark.parametrize(
    "variable, value, line",
    [
        (
            "STARLING__CACHE__MEMORY",
            "lots",
            "STARLING__CACHE__MEMORY: expected a size such as 512MiB (KiB, MiB, GiB, TiB, or "
            "a number of bytes), got 'lots'",
        ),
        ("STARLING__CACHE", "lots", "STARLING__CACHE: expected keys and values (a section), got 'lots'"),
        (
            "STARLING__NODE",
            "",
            "STARLING__NODE: expected a name of at most 63 letters, digits, dots, dashes or underscores, got ''",
        ),
    ],
)
def test_a_wrong_value_from_the_environment_names_the_variable(edge_error, variable: str, value: str, line: str):
    assert edge_error(LEAST, **{variable: value}) == line


@pytest.mark.parametrize(
    "text, line",
    [
        ("", "edge.yaml: node is required (STARLING__NODE)"),
        ("node: e", "edge.yaml: origin is missing: set origin.url, or at least one host under sites"),
        ("node: 'a b'\norigin: {url: http://o}", "edge.yaml: node: expected a name of at most 63 letters"),
        ("node: e\norigin: {url: http://o, trust: signed}", "edge.yaml: origin: trust: signed needs public_key_file"),
        ("- a\n- b", "edge.yaml: expected keys and values at the top, got list"),
        ("node: e\nnode: f", "edge.yaml: line 2, column 1: duplicate key 'node'"),
        ("cache:\n  disk: 1\n  disk: 2", "edge.yaml: line 3, column 3: duplicate key 'disk'"),
        ("node: [e\nzone: f: g", "edge.yaml: line 2, column 5: "),
        ("node: !!python/object:os.system x", "edge.yaml: line 1, column 7: could not determine a constructor"),
        ("node: \x01", "edge.yaml: not YAML: "),
        ("[" * 5000, "edge.yaml: "),
    ],
)
def test_a_file_that_cannot_be_right_is_refused_with_its_place(edge_error, text: str, line: str):
    assert edge_error(text).startswith(line)


def test_merge_keys_may_override_what_they_bring(edge):
    config = edge("node: e\norigin: &o {url: http://o, capacity: 1mbit}\nsites: {v: {<<: *o, capacity: 2mbit}}")
    assert config.origin.capacity == 1_000_000
    assert config.sites["v"].capacity == 2_000_000


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path):
    with pytest.raises(ConfigError, match=r"cannot read .*/none.yaml: No such file or directory"):
        load(tmp_path / "none.yaml", {}, EdgeConfig)
    with pytest.raises(ConfigError, match="Is a directory"):
        load(tmp_path, {}, EdgeConfig)
    (tmp_path / "latin.yaml").write_bytes(b"node: caf\xe9")
    with pytest.raises(ConfigError, match=r"latin\.yaml: "):
        load(tmp_path / "latin.yaml", {}, EdgeConfig)


@pytest.mark.parametrize(
    "host, site",
    [
        ("video.example", "video.example"),
        ("VIDEO.example:8080", "video.example"),
        ("video.example.", "video.example"),
        ("[::1]:8080", "[::1]"),
        ("[::1]", "[::1]"),
        ("127.0.0.1:8080", "default"),
        ("", "default"),
    ],
)
def test_the_host_header_picks_the_site(edge, host: str, site: str):
    assert edge(LEAST + "sites: {video.example: {url: http://v}, '[::1]': {url: http://w}}").site_of(host) == site


def test_without_a_bare_origin_an_unknown_host_has_no_site(edge):
    assert edge("node: e\nsites: {video.example: {url: http://v}}").site_of("other.example") is None


@pytest.mark.parametrize(
    "text, value",
    [
        ("0", 0),
        (0, 0),
        (7, 7),
        ("512MiB", 536870912),
        ("1.5 KiB", 1536),
        ("2gib", 2147483648),
        ("1TiB", 2**40),
        ("9B", 9),
    ],
)
def test_sizes(text: object, value: int):
    assert parse_bytes(text) == value


@pytest.mark.parametrize("text, value", [("64kbit", 64000), ("2.3gbit", 2_300_000_000), ("800 Mbit", 800_000_000)])
def test_rates_are_bits_per_second(text: str, value: int):
    assert parse_rate(text) == value


@pytest.mark.parametrize(
    "text, value", [("250ms", 0.25), ("5s", 5.0), ("2m", 120.0), ("1.5h", 5400.0), (0, 0.0), ("0", 0.0)]
)
def test_durations_are_seconds(text: object, value: float):
    assert parse_seconds(text) == value


@pytest.mark.parametrize("text, value", [(0, 0.0), (1, 1.0), (0.25, 0.25), ("0.01", 0.01), ("1", 1.0), ("0", 0.0)])
def test_shares_are_parts_of_a_whole(text: object, value: float):
    assert parse_share(text) == value


@pytest.mark.parametrize("text", ["", "-0.1", -0.1, 1.1, "1%", "half", True, None, "nan", float("nan"), "1e-2", ".5"])
def test_what_is_no_share(text: object):
    with pytest.raises(ValueError, match="from 0 to 1"):
        parse_share(text)


@pytest.mark.parametrize("parse", [parse_bytes, parse_rate, parse_seconds])
@pytest.mark.parametrize(
    "text", ["", "-1", "1e9", "5 apples", "MiB", "nan", "٣KiB", "1.5", None, 1.5, True, [], "1" * 99]
)
def test_what_is_no_quantity(parse, text: object):
    with pytest.raises(ValueError, match="expected"):
        parse(text)


@pytest.fixture
def origin(tmp_path: Path):
    """Loads an origin configuration from text and variables."""

    def read(text: str, **environ: str) -> OriginConfig:
        file = tmp_path / "origin.yaml"
        file.write_text(text)
        return load(file, environ, OriginConfig)

    return read


def test_an_origin_with_media_ingest_and_tracker(origin):
    config = origin("""
listen: 0.0.0.0:8000
admin: {listen: "127.0.0.1:0"}
media: /srv/media
ingest: {prefix: /in/, token_file: /etc/starling/ingest.token}
state: /srv/state
signing_key_file: /etc/starling/signing.key
swarm: {secret_file: /etc/starling/swarm.secret, capacity: 10gbit}
tracker: {store: memory}
""")
    assert config.admin.listen.port == 0
    assert config.ingest_rules == Ingest(prefix="/in/", token_file=Path("/etc/starling/ingest.token"))
    assert config.runs_tracker
    assert config.has_content


def test_ingest_true_is_the_default_prefix_for_loopback_senders(origin):
    text = "media: /m\nsigning_key_file: /k\n"
    assert origin(text + "ingest: true").ingest_rules == Ingest(prefix="/live/", token_file=None)
    assert origin(text, STARLING__INGEST="true").ingest_rules == Ingest()
    assert origin(text, STARLING__INGEST__PREFIX="/in/").ingest_rules == Ingest(prefix="/in/")
    assert origin(text + "ingest: {prefix: /in/}", STARLING__INGEST="false").ingest_rules is None
    assert origin(text).ingest_rules is None


def test_an_origin_without_content_is_a_tracker_alone(origin):
    config = origin("swarm: {secret_file: /s}")
    assert config.runs_tracker
    assert not config.has_content


@pytest.mark.parametrize(
    "text, line",
    [
        ("", "nothing to do: set media or ingest, or swarm.secret_file for a tracker alone"),
        ("swarm: {secret_file: /s}\ntracker: null", "nothing to do: set media"),
        ("media: /m", "signing_key_file is required to serve content"),
        ("media: /m\nupstream: http://u", "media and upstream exclude each other; give one"),
        ("upstream: http://u\nsigning_key_file: /k", "upstream is not in this version yet"),
        ("ingest: {prefix: live}\nsigning_key_file: /k", "ingest: prefix: expected a path such as /live/, got 'live'"),
        ("ingest: {prefix: /-/x/}\nsigning_key_file: /k", "ingest: prefix: '/-/x/' cannot be used"),
        ("ingest: {prefix: /../x/}\nsigning_key_file: /k", "ingest: prefix: '/../x/' cannot be used"),
        ("ingest: maybe\nsigning_key_file: /k", "ingest: expected true or false, or a section, got 'maybe'"),
        ("meida: /m", "unknown key 'meida' (did you mean 'media'?)"),
    ],
)
def test_what_an_origin_cannot_be_told(origin, text: str, line: str):
    with pytest.raises(ConfigError) as raised:
        origin(text)
    assert str(raised.value).startswith("origin.yaml: " + line)


def test_arguments():
    assert parse_arguments("starling-edge", [], "An edge.") == Arguments(config=None, check=False)
    assert parse_arguments("starling-edge", ["--config", "e.yaml", "--check"], "An edge.") == Arguments(
        config=Path("e.yaml"), check=True
    )


def test_version_is_the_distributions(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as raised:
        parse_arguments("starling-edge", ["--version"], "An edge.")
    assert raised.value.code == 0
    assert capsys.readouterr().out == f"starling-edge {VERSION}\n"
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    assert project["version"] == VERSION
