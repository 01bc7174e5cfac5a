"""`llm-serving plan --stack`: services, costs and findings as text, JSON and a page; stack files that can't be used."""

import re
import xml.etree.ElementTree as ET
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import yaml

from cli import stack_file
from llm_serving.capacity import catalog, cloud
from llm_serving.capacity.cloud_facts import CloudFacts
from tests.unit.cli.cli_runner import Answer, ask

STACKS = Path(__file__).resolve().parents[3] / "stacks"
SERVICE = {
    "name", "model", "runtime", "pool", "instance", "replicas", "max_replicas", "tensor_parallel", "nodes",
    "quantization",
    "max_total_tokens", "fits", "kv_pool_tokens", "max_context", "concurrent_requests", "per_gpu_gib",
}  # fmt: skip
LARGE = "llama-3-3-70b-instruct"


def config() -> dict[str, Any]:
    return yaml.safe_load((STACKS / "Pulumi.prod.yaml").read_text())["config"]


def plan(capsys: pytest.CaptureFixture[str], path: Path, *more: str) -> Answer:
    return ask(capsys, "plan", "--stack", str(path), *more)


def written(folder: Path, changed: dict[str, Any]) -> Path:
    path = folder / "Pulumi.test.yaml"
    path.write_text(yaml.safe_dump({"config": changed}))
    return path


@pytest.fixture
def too_large(tmp_path: Path) -> Path:
    """A stack whose 70B model is on GPUs that don't hold it."""
    changed = config()
    changed["llm-serving:models"][LARGE]["gpus"] = 2
    return written(tmp_path, changed)


@pytest.mark.parametrize("name", ["dev", "staging", "prod"])
def test_the_stacks_of_the_project_are_planned(capsys: pytest.CaptureFixture[str], name: str) -> None:
    answer = plan(capsys, STACKS / f"Pulumi.{name}.yaml", "--json")
    assert answer.status == 0
    told = answer.json
    assert told["stack"] == name
    assert told["services"]
    for service in told["services"]:
        assert set(service) == SERVICE
        assert service["fits"] is True
    assert told["usd_per_hour"] == pytest.approx(sum(pool["usd_per_hour"] for pool in told["pools"]))
    assert told["usd_per_month"] == pytest.approx(730 * told["usd_per_hour"])
    for pool in told["pools"]:
        price = catalog.instance(pool["instance"]).usd_per_hour
        assert price is not None
        assert pool["usd_per_hour"] == pytest.approx(price * pool["nodes"])
        assert pool["most_usd_per_hour"] == pytest.approx(price * pool["most_nodes"])


def test_embedding_services_are_in_every_form_of_it(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    name, path = "all-minilm-l6-v2", STACKS / "Pulumi.prod.yaml"
    assert plan(capsys, path, "--json").json["embeddings"] == [
        {"name": name, "pool": "system", "gpus": 0, "replicas": 2, "cpu_millicores": 1000, "memory_mib": 1024}
    ]
    page = tmp_path / "plan.html"
    text = plan(capsys, path, "--html", str(page)).out
    assert re.search(rf"^{name} +2 on CPUs \(system\) +1 +1024$", text, re.MULTILINE)
    assert "<h2>Embedding services</h2>" in page.read_text()
    assert name in page.read_text()


def test_text_has_services_bars_costs_and_findings(capsys: pytest.CaptureFixture[str]) -> None:
    answer = plan(capsys, STACKS / "Pulumi.prod.yaml")
    assert answer.status == 0
    for service in config()["llm-serving:models"]:
        lines = [line for line in answer.out.splitlines() if line.startswith(service)]
        assert len(lines) == 2
        bar = re.search(r"[█▓▒░▚]+", lines[1])
        assert bar
        assert len(bar[0]) == 32
    assert re.search(r"^all +[\d.,]+ +[\d.,]+ +[\d.,]+", answer.out, re.MULTILINE)
    assert answer.out.splitlines()[-1] == "nothing stops a preview"


def test_a_model_that_does_not_fit_stops_it(capsys: pytest.CaptureFixture[str], too_large: Path) -> None:
    answer = plan(capsys, too_large, "--json")
    assert answer.status == 1
    errors = [finding for finding in answer.json["findings"] if finding["severity"] == "error"]
    assert [(finding["code"], finding["setting"]) for finding in errors] == [("FIT_WEIGHTS", f"models.{LARGE}.pool")]
    assert errors[0]["alternatives"]
    text = plan(capsys, too_large)
    assert text.status == 1
    assert "▚ too much" in text.out
    assert text.out.splitlines()[-1] == "a preview would refuse this stack"


def test_an_accepted_finding_does_not_stop_it(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    changed = config()
    changed["llm-serving:models"][LARGE]["gpus"] = 2
    allowed = changed["llm-serving:models"][LARGE].setdefault("allow", {})
    allowed["FIT_WEIGHTS"] = "a test of what happens then, on purpose"
    answer = plan(capsys, written(tmp_path, changed), "--json")
    assert answer.status == 0
    finding = next(finding for finding in answer.json["findings"] if finding["code"] == "FIT_WEIGHTS")
    assert finding["severity"] == "warning"
    assert "a test of what happens then" in finding["message"]


def test_an_unknown_price_is_unknown_and_never_nothing(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    changed = config()
    changed["llm-serving:cluster"]["gpuPools"]["l40s"]["instanceTypes"] = ["p5e.48xlarge"]
    told = plan(capsys, written(tmp_path, changed), "--json").json
    assert told["usd_per_hour"] is None
    assert told["usd_per_month"] is None
    assert [pool["usd_per_hour"] is None for pool in told["pools"]] == [False, True]
    text = plan(capsys, written(tmp_path, changed)).out
    assert re.search(r"^all +unknown +unknown +unknown", text, re.MULTILINE)


def test_the_account_is_asked_only_when_wanted(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str | None] = []

    def gather(_stack: object, *, account_id: str | None) -> CloudFacts:
        asked.append(account_id)
        return CloudFacts.unchecked("the account is asleep")

    monkeypatch.setattr(cloud, "gather", gather)
    assert "the account is only asked with --account" in plan(capsys, STACKS / "Pulumi.prod.yaml").out
    assert asked == []
    assert "the account is asleep" in plan(capsys, STACKS / "Pulumi.prod.yaml", "--account").out
    assert asked == ["333333333333"]


def test_a_model_is_looked_up_beside_the_project(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "Pulumi.yaml").write_text("name: llm-serving\n")
    (tmp_path / "stacks").mkdir()
    assert stack_file.project(written(tmp_path / "stacks", config())) == tmp_path
    assert stack_file.project(Path("/nowhere/Pulumi.x.yaml")) == Path("/nowhere")


class Page(HTMLParser):
    """What the tests ask of a page."""

    def __init__(self, text: str):
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag != "meta":
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def _page(capsys: pytest.CaptureFixture[str], stack: Path, folder: Path) -> str:
    file = folder / "plan.html"
    plan(capsys, stack, "--html", str(file))
    return file.read_text()


def test_the_page_stands_alone(capsys: pytest.CaptureFixture[str], tmp_path: Path, too_large: Path) -> None:
    for stack in (STACKS / "Pulumi.prod.yaml", too_large):
        text = _page(capsys, stack, tmp_path)
        page = Page(text)
        assert page.open == []
        names = {tag for tag, _ in page.tags}
        assert not names & {"script", "link", "img", "iframe", "object", "embed"}
        assert not any(name in ("src", "href") or name.startswith("on") for _, given in page.tags for name in given)
        urls = set(re.findall(r"url\(([^)]*)\)", text))
        assert urls == {"#overhead", "#cache"}
        assert "http" not in text
        assert ("html", {"lang": "en"}) in page.tags
        assert "@media (prefers-color-scheme: dark)" in text
        assert "var(--" in text
        assert set(re.findall(r"var\((--[a-z]+)\)", text)) <= set(re.findall(r"(--[a-z]+):", text))


def test_the_chart_is_as_large_as_its_numbers_say(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, too_large: Path
) -> None:
    for stack in (STACKS / "Pulumi.prod.yaml", too_large):
        text = _page(capsys, stack, tmp_path)
        found = re.search(r"<svg.*?</svg>", text, re.DOTALL)
        assert found
        chart = ET.fromstring(found[0])
        assert chart.get("role") == "img"
        assert {chart.find("title").get("id"), chart.find("desc").get("id")} == set(  # type: ignore[union-attr]
            chart.get("aria-labelledby", "").split()
        )
        width = float(chart.get("width", "0"))
        told = plan(capsys, stack, "--json").json
        bars = [each for each in chart.findall("rect") if each.find("title") is not None]
        assert len(bars) == 4 * len(told["services"])
        scales: list[float] = []
        for number, service in enumerate(told["services"]):
            budget = service["per_gpu_gib"]
            weights = bars[4 * number]
            assert weights.get("class") == "weights"
            scales.append(float(weights.get("width", "0")) / budget["weights"])
            assert all(float(each.get("x", "0")) + float(each.get("width", "0")) <= width for each in bars)
        assert scales == pytest.approx([scales[0]] * len(scales), rel=0.02)


def test_names_cannot_break_the_page(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    changed = config()
    changed["llm-serving:models"][LARGE]["model"] = "<script>alert('x')</script>&"
    text = _page(capsys, written(tmp_path, changed), tmp_path)
    assert "<script" not in text
    assert "&lt;script&gt;" in text


def test_a_page_that_cannot_be_written(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    answer = plan(capsys, STACKS / "Pulumi.prod.yaml", "--html", str(tmp_path / "no" / "plan.html"), "--json")
    assert answer.status == 1
    assert answer.codes == ["INPUT_FILE"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("config: [", "is no YAML"),
        ("- a\n- b\n", "has no `config:`"),
        ("config: 3\n", "has no `config:`"),
        ("", "has no `config:`"),
        (b"\xff\xfe\x00", "is no text in UTF-8"),
        ("a: " + "[" * 10_000, "is nested too deeply"),
        ("config: &a\n  x: *a\n", "a part of itself"),
        ("config: !!python/object:os.system {}\n", "is no YAML"),
        ("#" * 2_000_000, "is larger than 1 MiB"),
    ],
)
def test_a_file_that_is_no_stack_file(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, text: str | bytes, said: str
) -> None:
    path = tmp_path / "Pulumi.test.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    answer = plan(capsys, path, "--json")
    assert answer.status == 1
    assert answer.codes == ["INPUT_STACK"]
    assert said in answer.json["findings"][0]["message"]
    assert len(answer.err.splitlines()) == 1


def test_a_file_that_is_not_there_names_those_that_are(capsys: pytest.CaptureFixture[str]) -> None:
    answer = plan(capsys, STACKS / "Pulumi.prodd.yaml", "--json")
    assert answer.status == 1
    assert "Pulumi.prod.yaml" in answer.json["findings"][0]["message"]


def test_every_problem_of_the_settings_is_a_finding(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    changed = config()
    changed["llm-serving:models"][LARGE]["gpus"] = 99
    changed["llm-serving:cache"]["nodeTyp"] = "cache.r7g.large"
    answer = plan(capsys, written(tmp_path, changed), "--json")
    assert answer.status == 1
    assert set(answer.codes) == {"INPUT_STACK"}
    assert {finding["setting"] for finding in answer.json["findings"]} >= {
        f"llm-serving:models.{LARGE}.gpus",
        "llm-serving:cache.nodeTyp",
    }
