"""Asks a running Prometheus whether each panel, rule and alert has anything to show; and runs one to be asked.

with prometheus({"starling-edge": {"edge-1": "127.0.0.1:9400"}}, directory) as server:
    server.wait_for_scrapes(4)
    assert server.without_data() == {}
"""

import json
import re
import shutil
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from math import isnan
from pathlib import Path
from typing import Any

import promql_parser
import yaml

DEPLOY = Path(__file__).parents[2] / "deploy"
DASHBOARD = DEPLOY / "grafana" / "dashboards" / "starling.json"
RULE_FILES = (DEPLOY / "prometheus" / "rules.yml", DEPLOY / "prometheus" / "alerts.yml")
COMPARISONS = {">", "<", ">=", "<=", "==", "!="}
START_S = 30.0

Targets = Mapping[str, Mapping[str, str]]
"""Job -> instance -> host:port."""


def without_variables(expr: str, window: str = "1m") -> str:
    """A panel's query as Grafana would send it with all edges chosen."""
    for variable, value in {
        "$__rate_interval": window,
        "$__interval": window,
        "$__range": window,
        "$edge": ".*",
    }.items():
        expr = expr.replace(variable, value)
    return expr


def panel_queries(dashboard: Path = DASHBOARD) -> dict[str, str]:
    """`panel title / letter` -> the query as written."""
    panels = json.loads(dashboard.read_text())["panels"]
    return {
        f"{panel['title']} / {target['refId']}": target["expr"]
        for panel in panels
        for target in panel.get("targets", ())
    }


def rules(kind: str) -> dict[str, str]:
    """`record` or `alert`: name -> expression."""
    groups = [group for file in RULE_FILES for group in yaml.safe_load(file.read_text())["groups"]]
    return {rule[kind]: rule["expr"] for group in groups for rule in group["rules"] if kind in rule}


def left_hand_side(expr: str) -> str:
    """What an alert compares with its threshold: the part that has data while all is well."""
    parsed = promql_parser.parse(expr)
    if not isinstance(parsed, promql_parser.BinaryExpr) or str(parsed.op) not in COMPARISONS:
        raise ValueError(f"not a comparison with a threshold: {expr}")
    return str(parsed.lhs)


def all_queries() -> dict[str, str]:
    """Everything that must have data on a healthy system with traffic."""
    return {
        **{f"panel {name}": without_variables(expr) for name, expr in panel_queries().items()},
        **{f"rule {name}": name for name in rules("record")},
        **{f"alert {name}": left_hand_side(expr) for name, expr in rules("alert").items()},
    }


@dataclass(frozen=True)
class Server:
    """A running Prometheus, and the instances it was told to scrape."""

    url: str
    instances: tuple[str, ...]

    def api(self, path: str, **parameters: str) -> Any:
        with urllib.request.urlopen(
            f"{self.url}/api/v1/{path}?{urllib.parse.urlencode(parameters)}", timeout=10
        ) as answer:
            return json.load(answer)["data"]

    def query(self, expr: str) -> list[float]:
        """The values of an instant query, one for each series. HTTPError if Prometheus cannot read it."""
        data = self.api("query", query=expr)
        samples = [data["result"]] if data["resultType"] == "scalar" else [row["value"] for row in data["result"]]
        return [float(value) for _, value in samples]

    def without_data(self) -> dict[str, str]:
        """Panels, rules and alerts that show no series, or only NaN -> their query."""
        return {name: expr for name, expr in all_queries().items() if all(map(isnan, self.query(expr)))}

    def firing(self) -> list[str]:
        """Names of the alerts that fire now."""
        return sorted(
            alert["labels"]["alertname"] for alert in self.api("alerts")["alerts"] if alert["state"] == "firing"
        )

    def wait_for_scrapes(self, scrapes: int, timeout_s: float = 60.0) -> None:
        """Until each target answered so often and the rules took it in; AssertionError naming targets that did not."""
        wait_until(
            lambda: not self.behind(scrapes), timeout_s, lambda: f"not scraped {scrapes} times: {self.behind(scrapes)}"
        )
        self.wait_for_rules(timeout_s)
        self.wait_for_rules(timeout_s)  # some build on rules of groups that were evaluated after them

    def wait_for_rules(self, timeout_s: float) -> None:
        """Until every group of rules was evaluated once more."""
        now = datetime.now(UTC)
        wait_until(lambda: self.evaluated_since(now), timeout_s, lambda: f"rules were not evaluated in {timeout_s} s")

    def behind(self, scrapes: int) -> list[str]:
        """Instances that answered fewer than so many scrapes."""
        rows = self.api("query", query='sum_over_time(up{job=~"starling-.*"}[1h])')["result"]
        counts = {row["metric"]["instance"]: float(row["value"][1]) for row in rows}
        return [instance for instance in self.instances if counts.get(instance, 0) < scrapes]

    def evaluated_since(self, at: datetime) -> bool:
        groups = self.api("rules")["groups"]
        return all(datetime.fromisoformat(group["lastEvaluation"]) > at for group in groups)


def wait_until(fact: Callable[[], bool], timeout_s: float, otherwise: Callable[[], str]) -> None:
    """Polls another program for a fact it cannot tell us by itself."""
    give_up_at = time.monotonic() + timeout_s
    while not fact():
        assert time.monotonic() < give_up_at, otherwise()
        time.sleep(0.1)


def write_configuration(targets: Targets, directory: Path, interval: str = "1s") -> Path:
    """A prometheus.yml for these targets with our rules, in `directory`, which gets copies of the rule files."""
    for file in RULE_FILES:
        shutil.copy(file, directory)
    jobs = [
        {
            "job_name": job,
            "static_configs": [
                {"targets": [address], "labels": {"instance": instance}} for instance, address in instances.items()
            ],
        }
        for job, instances in targets.items()
    ]
    configuration = {
        "global": {"scrape_interval": interval, "evaluation_interval": interval},
        "rule_files": [file.name for file in RULE_FILES],
        "scrape_configs": jobs,
    }
    path = directory / "prometheus.yml"
    path.write_text(yaml.safe_dump(configuration, sort_keys=False))
    return path


@contextmanager
def prometheus(targets: Targets, directory: Path, interval: str = "1s") -> Iterator[Server]:
    """Debian's Prometheus on a free port, scraping these targets with our rules; stopped and reaped at the end."""
    configuration = write_configuration(targets, directory, interval)
    log = directory / "prometheus.log"
    with log.open("wb") as stderr:
        process = subprocess.Popen(
            [
                "prometheus",
                f"--config.file={configuration}",
                f"--storage.tsdb.path={directory / 'tsdb'}",
                "--web.listen-address=127.0.0.1:0",
            ],
            stdout=subprocess.DEVNULL,
            stderr=stderr,
        )
    try:
        instances = tuple(instance for job in targets.values() for instance in job)
        server = Server(listening_url(process, log), instances)
        wait_until(lambda: answers(f"{server.url}/-/ready"), START_S, log.read_text)
        yield server
    finally:
        process.terminate()
        process.wait(timeout=30)


def listening_url(process: subprocess.Popen[bytes], log: Path) -> str:
    """The address it took, from its own log."""

    def found() -> re.Match[str] | None:
        return re.search(r"msg=\"?Listening on\"? address=([0-9.]+:\d+)", log.read_text())

    wait_until(lambda: found() is not None or process.poll() is not None, START_S, log.read_text)
    if (address := found()) is None:
        raise RuntimeError(f"prometheus exited {process.returncode}: {log.read_text()}")
    return f"http://{address[1]}"


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5):
            return True
    except (urllib.error.URLError, ConnectionError):
        return False
