"""What a hundred members do: how soon they know of a newcomer and of a death, what it costs, whom they wrongly bury."""

from dataclasses import dataclass

from tests.sim.gossip_net import Network

SETTLED_S = 30.0


@dataclass(frozen=True)
class Run:
    """Seconds, and bytes a second and edge while nothing happens."""

    joined_s: float
    died_s: float
    idle_bps: float
    false_deaths: int
    refutations: int


def hundred(seed: int, loss: float, count: int = 100) -> Network:
    """A swarm in which everybody knows everybody; it began from one seed. AssertionError if they do not get there."""
    net = Network(seed, loss=loss, refuses=False)
    net.start("edge-0")
    for number in range(1, count):
        net.start(f"edge-{number}", ["edge-0"])
    assert net.run(SETTLED_S, net.agree) < SETTLED_S, f"seed {seed}: no agreement"
    net.run(SETTLED_S)
    return net


def quiet(net: Network, seconds: float) -> tuple[float, int, int]:
    """Bytes a second and edge, members buried though they live, and suspicions refuted."""
    before, words = net.sent_bytes, _words(net)
    buried = 0
    for _ in range(round(seconds)):
        net.run(1.0)
        buried += sum(name in node.gossip.members.graves for node in net.up() for name in net.nodes)
    return (net.sent_bytes - before) / seconds / len(net.up()), buried, _words(net) - words


def _words(net: Network) -> int:
    return sum(node.gossip.members.me.refutation for node in net.up())


def run(seed: int, loss: float, quiet_s: float, count: int = 100) -> Run:
    net = hundred(seed, loss, count)
    idle_bps, false_deaths, refutations = quiet(net, quiet_s)
    net.start("newcomer", ["edge-1"])
    joined_s = net.run(SETTLED_S, net.agree)
    net.run(5.0)
    net.kill("newcomer")
    died_s = net.run(SETTLED_S, lambda: net.sees("newcomer", state=None))
    return Run(joined_s, died_s, idle_bps, false_deaths, refutations)
