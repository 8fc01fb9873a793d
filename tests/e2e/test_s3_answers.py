"""What S3 answers besides success, and what is made of it: each answer is one that AWS's documentation tells of."""

from __future__ import annotations

import itertools
import os
import pathlib
from collections.abc import Iterator

import headrace as hr
import pytest
from fake_aws import Answer, FakeAws, error


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path) -> Iterator[FakeAws]:
    server = FakeAws()
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    keys = server.hand_out("ENV", token=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", keys.access)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", keys.secret)
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", server.url)
    yield server
    server.close()


def use_a_table(location: str) -> None:
    table = hr.init(location).create_table("t", {"n": "int64"})
    for part in range(3):
        table.append([{"n": part}])
    assert [row["n"] for row in hr.open(location)["t"].scan()] == [0, 1, 2]


def test_a_bucket_of_another_region_is_asked_there(aws: FakeAws) -> None:
    aws.region = "eu-south-2"
    use_a_table("s3://bucket/x")
    assert aws.mistakes == ["region"] * 2, "once for each catalog that was opened"


@pytest.mark.parametrize("hours", [-7, 1])
def test_a_clock_that_is_off_is_allowed_for(aws: FakeAws, hours: int) -> None:
    aws.clock = hours * 3600
    use_a_table("s3://bucket/x")
    assert aws.mistakes == ["clock"] * 2
    catalog = hr.open("s3://bucket/x")
    aws.clock, aws.mistakes = 0, []  # set right again, in a long run
    assert [row["n"] for row in catalog["t"].scan()] == [0, 1, 2]
    assert 1 <= len(aws.mistakes) <= 2 and set(aws.mistakes) == {"clock"}, "of two requests at once, both may be wrong"


def test_a_clock_that_nobody_can_follow_is_an_error(aws: FakeAws) -> None:
    aws.hook = lambda *_: Answer(403, error("RequestTimeTooSkewed"), {"Date": "Thu, 01 Jan 2099 00:00:00 GMT"})
    with pytest.raises(hr.HeadraceError, match="RequestTimeTooSkewed"):
        hr.open("s3://bucket/x")


def test_it_waits_as_long_as_it_is_asked_to(aws: FakeAws, monkeypatch: pytest.MonkeyPatch) -> None:
    hr.init("s3://bucket/x")
    answers = iter([Answer(503, error("SlowDown"), {"Retry-After": "1"}), Answer(429, b"", {"Retry-After": "1"})])
    aws.times.clear()
    aws.hook = lambda *_: next(answers, None)
    hr.open("s3://bucket/x")
    assert all(later - earlier >= 1 for earlier, later in itertools.pairwise(aws.times[:3]))
    # But not beyond its own deadline, and then with one more attempt.
    monkeypatch.setenv("HEADRACE_S3_DEADLINE", "2")
    aws.hook = lambda *_: Answer(503, error("SlowDown"), {"Retry-After": "86400"})
    aws.times.clear()
    with pytest.raises(hr.Unavailable, match="SlowDown"):
        hr.open("s3://bucket/x")
    assert len(aws.times) >= 2


@pytest.mark.parametrize(
    "answer",
    [
        Answer(409, error("ConditionalRequestConflict")),
        Answer(409, error("OperationAborted")),
        Answer(400, error("RequestTimeout")),
        Answer(500, error("InternalError")),
        Answer(502, b"<html>no gateway</html>"),
        Answer(503, error("SlowDown")),
        Answer(429),
    ],
    ids=lambda answer: f"{answer.status} {answer.body[13:30].decode()}",
)
def test_it_asks_again_where_that_helps(aws: FakeAws, answer: Answer) -> None:
    """Every third request is answered so, and has done nothing; 400 and 409 are what only writers are told."""
    numbers = itertools.count()

    def hook(method: str, *_: object) -> Answer | None:
        if answer.status in (400, 409) and method != "PUT":
            return None
        return answer if next(numbers) % 3 == 1 else None

    aws.hook = hook
    use_a_table("s3://bucket/x")
    assert next(numbers) > 15


def test_half_a_range_is_no_range(aws: FakeAws) -> None:
    table = hr.init("s3://bucket/x").create_table("t", {"n": "int64"})
    table.append({"n": list(range(1000))})
    cut = []

    def hook(method: str, path: str, headers: dict[str, str]) -> Answer | None:
        if "range" not in headers or len(cut) % 2:
            cut.append(path) if "range" in headers else None
            return None
        cut.append(path)
        whole = aws.objects_answer(method, path, headers, b"")
        return Answer(206, whole.body[: len(whole.body) // 2])

    aws.hook = hook
    assert [row["n"] for row in hr.open("s3://bucket/x")["t"].scan()] == list(range(1000))
    assert len(cut) >= 2
