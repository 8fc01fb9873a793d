"""Every block of code in the docs runs, in order, in an empty folder for each page. How a page says what its blocks need:
docs_run.py."""

from __future__ import annotations

import os
import pathlib
import subprocess
import sys
from collections.abc import Iterator

import docs_files
import docs_run
import headrace as hr
import pytest
from conftest import ROOT

SKIPPED = 5


def pages() -> list[pathlib.Path]:
    """The pages that have code; those that somebody adds are found by themselves."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.md"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return [ROOT / name for name in sorted(set(listed.stdout.split())) if (ROOT / name).exists()]


def interpreter(needs: set[str]) -> str:
    """The Python that has what a page needs, if ./dev has installed one; else this one."""
    for wanted, groups in (
        (("pytorch_lightning", "transformers", "composer"), ["frameworks"]),
        (("torch", "torchvision", "datasets"), ["rivals-hf"]),
        (("openai",), ["clients", "demo"]),
    ):
        for group in groups if needs.intersection(wanted) else []:
            for done in sorted(docs_files.CACHE.glob(f"venv-{group}-*/.done")):
                return str(done.parent / "bin" / "python")
    return sys.executable


def run(page: pathlib.Path, folder: pathlib.Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """The page's blocks in an empty folder."""
    needs = {need for block in docs_run.blocks_of(page) for need in block.needs}
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("HEADRACE_CATALOG", "AWS_"))}
    return subprocess.run(
        [interpreter(needs), str(pathlib.Path(docs_run.__file__)), str(page)],
        cwd=folder,
        env={**clean, "PYTHONPATH": str(pathlib.Path(hr.__file__).parent.parent), "HF_HUB_OFFLINE": "1", **environment},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


@pytest.fixture(scope="module")
def s3() -> Iterator[dict[str, str]]:
    """A server with S3's interface and a bucket, as environment variables."""
    import boto3

    port = docs_run.free_port()
    server = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    found = {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        "AWS_ACCESS_KEY_ID": "AKIAEXAMPLE",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_REGION": "us-east-1",
    }
    client = boto3.client(
        "s3",
        endpoint_url=found["AWS_ENDPOINT_URL"],
        region_name=found["AWS_REGION"],
        aws_access_key_id=found["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=found["AWS_SECRET_ACCESS_KEY"],
        config=boto3.session.Config(retries={"max_attempts": 20}),
    )
    client.create_bucket(Bucket="bucket")
    yield found
    server.kill()
    server.wait()


@pytest.mark.parametrize(
    "page", [page for page in pages() if "```" in page.read_text()], ids=lambda page: str(page.relative_to(ROOT))
)
def test_the_code_of_a_page_runs(page: pathlib.Path, tmp_path: pathlib.Path, request: pytest.FixtureRequest) -> None:
    needs = {need for block in docs_run.blocks_of(page) for need in block.needs}
    if not docs_run.blocks_of(page):
        return
    done = run(page, tmp_path, **(request.getfixturevalue("s3") if "s3" in needs else {}))
    if done.returncode == SKIPPED:
        pytest.skip(done.stdout.replace("\n", "; "))
    assert done.returncode == 0, done.stdout + done.stderr


def test_all_code_is_fenced() -> None:
    for page in pages():
        docs_run.blocks_of(page)


PAGE = """# A page

<!-- setup: a file a.txt
lines("a.txt", "one")
-->
```sh
cat a.txt
```

```text
one
```

```python
x = 1
```

```python
print(x + 1)
```

```text
2
```
"""


def test_a_block_that_fails_is_named(tmp_path: pathlib.Path) -> None:
    page = tmp_path / "page.md"

    def told(text: str) -> str:
        page.write_text(text)
        folder = tmp_path / "folder"
        folder.mkdir()
        done = run(page, folder)
        for path in folder.iterdir():
            path.unlink()
        folder.rmdir()
        return "" if done.returncode == 0 else done.stdout + done.stderr

    assert told(PAGE) == ""
    assert "page.md:7: exit code" in told(PAGE.replace("cat a.txt", "cat b.txt"))
    assert "page.md:7: exit code" in told(PAGE.replace("cat a.txt", "cat b.txt\ntrue"))
    assert 'page.md", line 15' in told(PAGE.replace("x = 1", "x = …"))
    assert "the page says\n3\nand it printed\n2\n" in told(PAGE.replace("```text\n2", "```text\n3"))
    for wrong, match in [
        (PAGE.replace("```sh", "```shell"), "```shell is neither run"),
        (PAGE.replace("```sh", "<!-- needs: torhc -->\n```sh"), "nobody knows torhc"),
        (PAGE + "\n    indented\n", "code is fenced with its language"),
        (PAGE + "\n```python\n", "has no end"),
        (PAGE + "\n<!-- server -->\n", "stands before no block"),
        (PAGE.replace("setup: a file a.txt", "setup"), "say what the reader has"),
    ]:
        page.write_text(wrong)
        with pytest.raises(ValueError, match=match):
            docs_run.blocks_of(page)
