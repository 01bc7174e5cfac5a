"""The image that ships container logs: lines that go on, rotation, restarts, the service's limits, backing off."""

import contextlib
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from log_shipper import files as following
from log_shipper.__main__ import FLUSH_SECONDS, LONGEST_WAIT, NEEDED, Shipper, main
from log_shipper.cloudwatch import Refused
from log_shipper.cri import LONGEST, Part, Record, cut_off, join
from log_shipper.events import LONGEST as LONGEST_EVENT
from log_shipper.events import MOST_BYTES, MOST_EVENTS, OVERHEAD, Container, Event, batches, event
from log_shipper.files import CHUNK, Files

AT = "2026-11-27T02:03:04.123456789Z"
ID = "3e" * 32
LINK = f"llm-gateway-5f7f7bb446-676dp_llm-serving_gateway-{ID}.log"
CONTAINER = Container("gateway", "llm-gateway-5f7f7bb446-676dp", "8bcd4570-f425", "llm-serving", ID)


def line(text: str, *, tag: str = "F", stream: str = "stdout") -> str:
    return f"{AT} {stream} {tag} {text}\n"


# Lines


def test_lines_of_both_streams() -> None:
    data = line("one") + line("", stream="stderr") + line("carriage\rreturn, é")
    records, pending = join(data.encode(), 0, {})
    assert records == [
        Record(AT, "stdout", "one"),
        Record(AT, "stderr", ""),
        Record(AT, "stdout", "carriage\rreturn, é"),
    ]
    assert pending == {}


def test_a_line_that_goes_on_is_joined_across_reads_and_beside_the_other_stream() -> None:
    first = (line("a") + line("be", tag="P") + line("other", stream="stderr")).encode()
    records, pending = join(first, 100, {})
    assert [record.text for record in records] == ["a", "other"]
    assert pending == {"stdout": Part(AT, 100 + len(line("a")), b"be")}
    records, pending = join((line("gi", tag="P:more") + line("n")).encode(), 100 + len(first), pending)
    assert records == [Record(AT, "stdout", "begin")]
    assert pending == {}


def test_a_line_without_an_end_is_cut() -> None:
    records, pending = join(b"".join(line("x" * 16384, tag="P").encode() for _ in range(9)), 0, {})
    assert [len(record.text) for record in records] == [LONGEST]
    assert [record.text for record in cut_off(pending)] == ["x" * 16384]


def test_what_is_no_line_of_the_cri_is_left_out() -> None:
    assert join(b"hello\n\n{}\n" + line("one").encode(), 0, {})[0] == [Record(AT, "stdout", "one")]


# Events


def test_names_are_read_from_the_file_s() -> None:
    pod = "llm-serving_llm-gateway-5f7f7bb446-676dp_8bcd4570-f425"
    assert Container.of(LINK, Path(f"/var/log/pods/{pod}/gateway/0.log")) == CONTAINER
    assert Container.of("kubelet.log", Path("/var/log/kubelet.log")) is None


def body(text: str) -> dict[str, Any]:
    return json.loads(event(Record(AT, "stdout", text), CONTAINER, "ip-10-89-0-11").message)


def test_an_event_is_as_fluent_bit_writes_it() -> None:
    assert event(Record(AT, "stdout", "x"), CONTAINER, "node").timestamp == 1_795_744_984_123
    assert body('{"logger": "llm_gateway.access", "status": 200}') == {
        "time": AT,
        "stream": "stdout",
        "_p": "F",
        "log": '{"logger": "llm_gateway.access", "status": 200}',
        "log_processed": {"logger": "llm_gateway.access", "status": 200},
        "kubernetes": {
            "pod_name": "llm-gateway-5f7f7bb446-676dp",
            "namespace_name": "llm-serving",
            "pod_id": "8bcd4570-f425",
            "host": "ip-10-89-0-11",
            "container_name": "gateway",
            "docker_id": ID,
        },
    }


@pytest.mark.parametrize("text", ["plain", "[1]", '"text"', "{", '{"a": NaN}', '{"a":' * 20_000, ""])
def test_a_line_that_is_no_object_has_no_fields(text: str) -> None:
    assert "log_processed" not in body(text)


def test_half_a_surrogate_pair_does_not_stop_it() -> None:
    assert body('{"a": "\\ud800"}')["log_processed"] == {"a": "\ud800"}


def test_an_event_is_no_longer_than_cloudwatch_takes() -> None:
    longest = event(Record(AT, "stdout", "é" * LONGEST_EVENT), CONTAINER, "node")
    assert LONGEST_EVENT - 1 <= len(longest.message.encode()) <= LONGEST_EVENT


def test_batches_keep_the_limits_and_the_order() -> None:
    few = [Event(at, "x") for at in (3, 1, 2)]
    assert [[each.timestamp for each in batch] for batch in batches(few)] == [[1, 2, 3]]
    assert list(batches([])) == []
    many = [Event(0, "x")] * (MOST_EVENTS + 1)
    assert [len(batch) for batch in batches(many)] == [MOST_EVENTS, 1]
    large = [Event(0, "é" * ((MOST_BYTES // 4 - OVERHEAD) // 2))] * 5
    assert [len(batch) for batch in batches(large)] == [4, 1]
    day = 24 * 3600 * 1000
    assert [len(batch) for batch in batches([Event(0, "x"), Event(day, "x"), Event(day + 1, "x")])] == [2, 1]


# Files


class Node:
    """A node's logs, as kubelet and containerd write them, and what was delivered of them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "containers"
        self.state = folder / "state.json"
        self.pod = folder / "pods" / "llm-serving_llm-gateway-5f7f7bb446-676dp_8bcd4570-f425" / "gateway"
        self.folder.mkdir()
        self.pod.mkdir(parents=True)
        self.log = self.pod / "0.log"
        self.lines: list[str] = []
        self.fails = False
        self.files = Files(self.folder, self.state)

    def write(self, *texts: str, tag: str = "F") -> None:
        with self.log.open("a") as file:
            file.writelines(line(text, tag=tag) for text in texts)
        if not (self.folder / LINK).is_symlink():
            (self.folder / LINK).symlink_to(self.log)

    def rotate(self) -> Path:
        return self.log.rename(self.pod / "0.log.20261127-020304")

    def restart(self) -> None:
        self.files.close()
        self.files = Files(self.folder, self.state)

    def deliver(self, container: Container, file: str, records: list[Record]) -> None:
        if self.fails:
            raise OSError("the cloud is away")
        assert (container, file) == (CONTAINER, LINK)
        self.lines += [record.text for record in records]

    def read(self, **options: int) -> bool:
        return self.files.read(self.deliver, **options)


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    node = Node(tmp_path)
    yield node
    node.files.close()


def test_a_file_is_read_from_its_beginning_and_never_twice(node: Node) -> None:
    node.write("one", "two")
    assert not node.read()
    node.write("three")
    node.read()
    node.read()
    assert node.lines == ["one", "two", "three"]


def test_a_line_that_is_being_written_waits_for_its_end(node: Node) -> None:
    node.write("one")
    with node.log.open("a") as file:
        file.write(line("two")[:-2])
        file.flush()
        node.read()
        assert node.lines == ["one"]
        file.write("o\n")
    node.read()
    assert node.lines == ["one", "two"]


def test_after_a_restart_it_goes_on_where_it_was(node: Node) -> None:
    node.write("one")
    node.write("tw", tag="P")
    node.read()
    node.restart()
    node.write("o", "three")
    node.read()
    assert node.lines == ["one", "two", "three"]


def test_what_was_not_taken_comes_again(node: Node) -> None:
    node.write("one", "two")
    node.fails = True
    for _ in range(2):
        with pytest.raises(OSError, match="away"):
            node.read()
    node.fails = False
    node.read()
    assert node.lines == ["one", "two"]


def test_rotation_loses_nothing(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    node.write("one")
    node.read()
    node.write("two")
    rotated = node.rotate()
    node.write("four")
    with rotated.open("a") as file:  # containerd writes on until it is told
        file.write(line("three"))
    node.read()
    assert node.lines == ["one", "two", "three", "four"]
    monkeypatch.setattr(following, "ROTATED_SECONDS", 0)
    node.read()
    assert list(json.loads(node.state.read_text())[LINK]) == [str(node.log.stat().st_ino)]


def test_rotation_while_it_was_away(node: Node) -> None:
    node.write("one")
    node.read()
    node.write("two")
    node.rotate()
    node.write("three")
    node.restart()
    node.read()
    node.read()
    assert node.lines == ["one", "two", "three"]


def test_a_file_that_is_deleted_is_read_to_its_end_and_forgotten(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    node.write("one")
    node.read()
    node.write("two")
    node.write("thr", tag="P")
    (node.folder / LINK).unlink()
    node.log.unlink()
    monkeypatch.setattr(following, "ROTATED_SECONDS", -1)
    node.read()
    assert node.lines == ["one", "two", "thr"]
    assert json.loads(node.state.read_text()) == {}
    assert not [target for target in _open_files() if target.startswith(str(node.log))]


def _open_files() -> list[str]:
    found: list[str] = []
    for link in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):  # that of this very listing is closed by now
            found.append(str(link.readlink()))
    return found


def test_a_file_that_was_emptied_is_read_anew(node: Node) -> None:
    node.write("one", "two")
    node.read()
    node.log.write_text(line("three"))
    node.read()
    assert node.lines == ["one", "two", "three"]


def test_little_is_in_memory_at_once(node: Node) -> None:
    texts = [f"{number} " + "x" * 1000 for number in range(200)]
    node.write(*texts)
    assert node.read(chunks=1)
    assert 0 < len(node.lines) <= CHUNK // 1000
    while node.read(chunks=1):
        pass
    assert node.lines == texts


def test_other_files_dead_links_and_the_data_plane_are_left_out(node: Node) -> None:
    (node.folder / LINK).symlink_to(node.log)  # leads nowhere yet
    (node.folder / "notes.log").write_text(line("x"))
    (node.folder / f"kube-proxy-x1_kube-system_kube-proxy-{ID}.log").write_text(line("x"))
    node.read()
    assert node.lines == []


def test_a_damaged_state_is_a_first_start(node: Node) -> None:
    node.state.write_text("{")
    node.restart()
    node.write("one")
    node.read()
    assert node.lines == ["one"]


# Shipping


class FakeCloudWatch:
    def __init__(self) -> None:
        self.put_events: list[tuple[str, list[Event]]] = []
        self.failure: Exception | None = None

    def put(self, stream: str, events: list[Event]) -> None:
        if self.failure:
            raise self.failure
        self.put_events.append((stream, events))


def shipper(node: Node) -> tuple[Shipper, FakeCloudWatch]:
    cloudwatch: Any = FakeCloudWatch()
    return Shipper(node.files, cloudwatch, "ip-10-89-0-11.ec2.internal"), cloudwatch


def test_a_stream_is_named_as_the_addon_names_it(node: Node) -> None:
    ship, cloudwatch = shipper(node)
    node.write("one")
    assert ship.step() == FLUSH_SECONDS
    ((stream, (shipped,)),) = cloudwatch.put_events
    assert stream == f"ip-10-89-0-11.ec2.internal-application.var.log.containers.{LINK}"
    assert json.loads(shipped.message)["kubernetes"]["host"] == "ip-10-89-0-11.ec2.internal"


def test_it_backs_off_and_says_a_failure_once(node: Node, capsys: pytest.CaptureFixture[str]) -> None:
    ship, cloudwatch = shipper(node)
    node.write("secret text")
    cloudwatch.failure = Refused("PutLogEvents", "ThrottlingException")
    waits = [ship.step() for _ in range(12)]
    assert all(2**number / 2 <= wait <= 2**number for number, wait in enumerate(waits[:5], start=1))
    assert max(waits) <= LONGEST_WAIT
    cloudwatch.failure = None
    assert ship.step() == FLUSH_SECONDS
    assert len(cloudwatch.put_events) == 1
    assert capsys.readouterr().out == "PutLogEvents: ThrottlingException; trying again\nworks again\n"


def test_a_batch_that_is_never_taken_does_not_hold_up_the_next(node: Node, capsys: pytest.CaptureFixture[str]) -> None:
    ship, cloudwatch = shipper(node)
    node.write("secret text")
    cloudwatch.failure = Refused("PutLogEvents", "InvalidParameterException")
    assert ship.step() == FLUSH_SECONDS
    cloudwatch.failure = None
    node.write("next")
    ship.step()
    ((_, (shipped,)),) = cloudwatch.put_events
    assert json.loads(shipped.message)["log"] == "next"
    said = capsys.readouterr().out
    assert said == f"left out 1 lines of {LINK}: PutLogEvents: InvalidParameterException\n"


def test_much_is_shipped_without_a_pause(node: Node) -> None:
    ship, cloudwatch = shipper(node)
    node.write(*["x" * 1000] * 1200)  # more than one look reads
    assert ship.step() == 0
    begun = time.monotonic()
    while ship.step() == 0:
        assert time.monotonic() - begun < 10
    assert sum(len(events) for _, events in cloudwatch.put_events) == 1200


def test_a_pod_without_credentials_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in NEEDED:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("CLUSTER_NAME", "llm")
    with pytest.raises(SystemExit, match="1"):
        main()
    said = capsys.readouterr().out
    assert said.startswith("not set: HOST_NAME, AWS_REGION, AWS_ENDPOINT_URL, AWS_CONTAINER")
    assert said.endswith("a pod made without credentials gets them when it is made anew\n")
