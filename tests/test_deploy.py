"""What stands in deploy/ names what exists."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import msgspec
import pytest

from gateway.config import load
from tests.end_to_end.parts import program

ROOT = Path(__file__).resolve().parent.parent
DEPLOY = ROOT / "deploy"
ALERTS = DEPLOY / "prometheus" / "alerts.yml"
DASHBOARD = DEPLOY / "grafana" / "tls-gateway.json"
# Out of 100: systemd's own measure of what a unit leaves open.
MOST_EXPOSED = 14


def known_metrics() -> set[str]:
    """Those of docs/admin.md, which a test holds against the code, with the series that each makes."""
    names: set[str] = set()
    for name, kind in re.findall(
        r"^\| `(tls_gateway_\w+)` \| (\w+) \|", (ROOT / "docs/admin.md").read_text(), re.MULTILINE
    ):
        names.add(name)
        if kind in ("histogram", "summary"):
            names |= {
                f"{name}_{suffix}"
                for suffix in ("sum", "count", *(("bucket",) if kind == "histogram" else ()))
            }
    return names


def rules() -> list[dict[str, Any]]:
    groups = msgspec.yaml.decode(ALERTS.read_bytes())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def queries() -> list[str]:
    board = json.loads(DASHBOARD.read_text())
    variables = [each["query"] for each in board["templating"]["list"]]
    return [*variables, *(target["expr"] for panel in board["panels"] for target in panel["targets"])]


@pytest.mark.parametrize("query", [*(rule["expr"] for rule in rules()), *queries()])
def test_every_metric_that_is_asked_for_is_one_of_ours(query: str) -> None:
    assert set(re.findall(r"\btls_gateway_\w+", query)) <= known_metrics()


def test_the_names_are_taken_from_where_there_are_some() -> None:
    assert len(known_metrics()) > 40
    assert len(queries()) > 20


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: rule["alert"])
def test_every_alert_says_what_is_wrong_and_the_document_what_to_do(rule: dict[str, Any]) -> None:
    assert rule["labels"]["severity"] in ("critical", "warning")
    assert rule["annotations"]["summary"]
    assert f"| `{rule['alert']}` |" in (ROOT / "docs/operations.md").read_text()


def test_every_alert_fires_when_it_should_and_not_before() -> None:
    tests = ALERTS.with_suffix(".test.yml")
    assert {rule["alert"] for rule in rules()} == set(re.findall(r"alertname: (\w+)", tests.read_text()))
    done = subprocess.run(
        [program("promtool"), "test", "rules", tests], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_what_the_dashboard_asks_prometheus_understands(tmp_path: Path) -> None:
    board = json.loads(DASHBOARD.read_text())
    asked = [target["expr"] for panel in board["panels"] for target in panel["targets"]]
    expressions = [expr.replace("$__rate_interval", "5m").replace("$instance", ".*") for expr in asked]
    recorded = [{"record": f"panel:{number}", "expr": expr} for number, expr in enumerate(expressions)]
    file = tmp_path / "rules.yml"
    file.write_bytes(msgspec.yaml.encode({"groups": [{"name": "panels", "rules": recorded}]}))
    done = subprocess.run(
        [program("promtool"), "check", "rules", file], capture_output=True, text=True, check=False, timeout=60
    )
    assert f"SUCCESS: {len(expressions)} rules found" in done.stdout, done.stdout + done.stderr


def test_panels_of_the_dashboard_do_not_overlap() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in json.loads(DASHBOARD.read_text())["panels"]:
        at = panel["gridPos"]
        cells = {(at["x"] + x, at["y"] + y) for x in range(at["w"]) for y in range(at["h"])}
        assert not cells & taken, panel["title"]
        assert at["x"] + at["w"] <= 24
        taken |= cells


def test_the_unit_leaves_little_open() -> None:
    done = subprocess.run(
        [
            program("systemd-analyze"), "security", "--offline=true", f"--threshold={MOST_EXPOSED}",
            "--no-pager", DEPLOY / "tls-gateway.service",
        ],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_image_is_built_from_files_that_there_are_and_from_no_others() -> None:
    kept = re.findall(r"^!(\S+)$", (DEPLOY / "Dockerfile.dockerignore").read_text(), re.MULTILINE)
    assert all((ROOT / name).exists() for name in kept)
    assert set(kept) == {"csrc", "gateway", "pyproject.toml", "setup.py", "README.md"}


def test_the_image_copies_what_there_is_and_starts_what_exists() -> None:
    text = (DEPLOY / "Dockerfile").read_text()
    assert text.count("FROM ") == 2
    assert text.index("USER tls-gateway") > text.rindex("FROM ")
    assert json.loads(re.findall(r"^CMD (.*)$", text, re.MULTILINE)[0])[0] == "serve"


def test_what_kubernetes_is_told_fits_together(tmp_path: Path) -> None:
    parts = [msgspec.yaml.decode(part) for part in (DEPLOY / "kubernetes.yml").read_text().split("\n---\n")]
    settings, service, pods = parts
    file = tmp_path / "gateway.toml"
    file.write_text(settings["data"]["gateway.toml"])
    loaded = load.load(file)
    assert [warning.partition(":")[0] for warning in loaded.warnings] == ["admin.bind"]
    config, pod = loaded.config, pods["spec"]["template"]["spec"]
    [container] = pod["containers"]
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert config.admin.bind is not None
    assert ports == {"mqtts": config.listeners[0].bind[0].port, "admin": config.admin.bind.port}
    assert {port["targetPort"] for port in service["spec"]["ports"]} == {"mqtts"}
    mounted = {mount["mountPath"] for mount in container["volumeMounts"]}
    assert {str(config.state_dir), "/etc/tls-gateway/keys", "/etc/tls-gateway/gateway.toml"} == mounted
    wait = int(container["lifecycle"]["preStop"]["exec"]["command"][1])
    assert pod["terminationGracePeriodSeconds"] >= config.drain_timeout + wait + 10
    assert f"--uid {pod['securityContext']['runAsUser']} " in (DEPLOY / "Dockerfile").read_text()
