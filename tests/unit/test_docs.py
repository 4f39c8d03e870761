"""What the documents promise exists: make targets, links, and configurations that the programs accept."""

import re
from pathlib import Path

import msgspec
import pytest

from daemon.config import load
from daemon.metrics import defined_in
from edge.config import EdgeConfig
from edge.metrics import EdgeMetrics
from origin.config import OriginConfig
from origin.metrics import OriginMetrics

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
PLANNED_IN = {ROOT / "docs" / "design.md"}  # a plan too: its section 11 names the targets that do not exist yet


def code_blocks(document: Path, language: str) -> list[str]:
    """The fenced blocks of one language, without their fences."""
    return re.findall(rf"^```{language}\n(.*?)^```$", document.read_text(), re.MULTILINE | re.DOTALL)


def make_targets() -> set[str]:
    return set(re.findall(r"^([a-z][a-z0-9.-]*):(?!=)", (ROOT / "Makefile").read_text(), re.MULTILINE))


def anchors(document: Path) -> set[str]:
    """What `#fragment` may name: each heading in lower case, punctuation dropped, spaces as hyphens."""
    headings = re.findall(r"^#+ (.+)$", document.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def relative(document: Path) -> str:
    return str(document.relative_to(ROOT))


def test_readme_begins_with_the_two_commands():
    first, second, *_ = code_blocks(README, "sh")[0].splitlines()
    assert (first.partition("#")[0].strip(), second.partition("#")[0].strip()) == ("make demo", "make test")


@pytest.mark.parametrize("document", [d for d in DOCUMENTS if d not in PLANNED_IN], ids=relative)
def test_every_make_target_it_names_exists(document: Path):
    named = set(re.findall(r"(?:^|[`\n])(?:[A-Z_]+=\S+ )*make ([a-z][a-z0-9.-]*)", document.read_text()))
    assert named - make_targets() == set()


@pytest.mark.parametrize("document", DOCUMENTS, ids=relative)
def test_every_relative_link_in_it_resolves(document: Path):
    broken = []
    for link in re.findall(r"\]\(([^)\s]+)\)", document.read_text()):
        target, _, fragment = link.partition("#")
        if re.match(r"[a-z]+:", target):
            continue
        page = (document.parent / target) if target else document
        if not page.exists() or (fragment and fragment not in anchors(page)):
            broken.append(link)
    assert broken == []


@pytest.mark.parametrize("name, type_", [("edge", EdgeConfig), ("origin", OriginConfig)])
def test_the_configuration_in_the_readme_is_accepted(name: str, type_: type[msgspec.Struct], tmp_path: Path):
    (example,) = [block for block in code_blocks(README, "yaml") if block.startswith(f"# {name}.yaml\n")]
    file = tmp_path / f"{name}.yaml"
    file.write_text(example)
    assert isinstance(load(file, {}, type_), type_)


def test_the_configuration_in_the_design_is_accepted(tmp_path: Path):
    (example,) = code_blocks(ROOT / "docs" / "design.md", "yaml")
    file = tmp_path / "edge.yaml"
    file.write_text(example)
    assert load(file, {}, EdgeConfig).node == "edge-fra-1"


@pytest.mark.parametrize(
    "name",
    sorted(
        {metric.name for metric in defined_in(EdgeMetrics("e", "", "0"))}
        | {metric.name for metric in defined_in(OriginMetrics("0"))}
    ),
)
def test_every_metric_is_named_in_the_design(name: str):
    assert name.removeprefix("starling_") in (ROOT / "docs" / "design.md").read_text()


@pytest.mark.parametrize("route", ["/metrics", "/livez", "/readyz", "/status", "/explain", "/drain", "/purge"])
def test_every_route_of_the_admin_port_is_described_for_operators(route: str):
    assert (
        f"`{route}" in (ROOT / "docs" / "operating.md").read_text()
        or f" {route}`" in (ROOT / "docs" / "operating.md").read_text()
    )
