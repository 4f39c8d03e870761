"""Prometheus can read the rules, promtool fires each alert, and each alert tells a sleepy person what to do."""

import re
import subprocess

import pytest
import yaml

from tests.deploy.panels import COMPARISONS, DEPLOY, RULE_FILES, left_hand_side, rules

PROMETHEUS = DEPLOY / "prometheus"
ALERTS = {
    rule["alert"]: rule
    for group in yaml.safe_load((PROMETHEUS / "alerts.yml").read_text())["groups"]
    for rule in group["rules"]
}


@pytest.mark.prometheus
@pytest.mark.parametrize(
    "arguments",
    [
        ("check", "config", "prometheus.yml"),
        ("check", "rules", "rules.yml", "alerts.yml"),
        ("test", "rules", "tests.yml"),
    ],
    ids=" ".join,
)
def test_promtool_is_content(arguments):
    run = subprocess.run(["promtool", *arguments], cwd=PROMETHEUS, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr


def test_the_tests_fire_every_alert():
    tests = yaml.safe_load((PROMETHEUS / "tests.yml").read_text())["tests"]
    fired = [case["alertname"] for test in tests for case in test.get("alert_rule_test", ()) if case["exp_alerts"]]
    assert sorted(fired) == sorted(ALERTS)


@pytest.mark.parametrize("name", ALERTS)
def test_an_alert_says_how_bad_it_is_what_is_wrong_and_what_to_do(name):
    alert = ALERTS[name]
    assert alert["labels"]["severity"] in {"page", "ticket"}
    assert alert["annotations"]["summary"].endswith(".")
    assert alert["annotations"]["action"].endswith(".")
    assert alert["annotations"]["runbook"] == f"deploy/README.md#{name.lower()}"
    assert re.search(rf"^### {name}$", (DEPLOY / "README.md").read_text(), re.MULTILINE)


@pytest.mark.parametrize("name", ALERTS)
def test_an_alert_compares_something_that_always_has_data_with_a_threshold(name):
    lhs = left_hand_side(ALERTS[name]["expr"])
    assert not COMPARISONS & set(re.sub(r"\{[^}]*\}|\([^()]*==[^()]*\)", "", lhs).split())


def test_no_name_is_recorded_twice_and_every_name_has_three_parts():
    names = [
        rule["record"]
        for group in yaml.safe_load((PROMETHEUS / "rules.yml").read_text())["groups"]
        for rule in group["rules"]
    ]
    assert len(names) == len(set(names)) == len(rules("record"))
    assert all(re.fullmatch(r"[a-z]+:[a-z_]+:[a-z0-9_]+", name) for name in names)


def test_the_rule_files_are_those_that_prometheus_loads():
    configuration = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text())
    assert configuration["rule_files"] == [file.name for file in RULE_FILES]
    assert [job["job_name"] for job in configuration["scrape_configs"]] == ["starling-edge", "starling-origin"]
