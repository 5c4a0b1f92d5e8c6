"""The OpenAPI document: it is complete, and what it says of the server is true of any request."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from serving import Client, served, toy_shelf

from hiss.web.app import create_app
from hiss.web.limits import Limits
from hiss.web.shelf import Shelf


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Shelf:
    return toy_shelf(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def client(shelf: Shelf) -> Iterator[Client]:
    with served(shelf, limits=Limits(queue=16)) as client:
        yield client


def test_the_document_has_examples_and_describes_everything(shelf: Shelf) -> None:
    document = create_app(shelf).openapi()
    operations = [operation for path in document["paths"].values() for operation in path.values()]
    assert len(operations) == 11
    for operation in operations:
        assert operation["description"]
        for status, response in operation["responses"].items():
            assert status < "400" or "application/problem+json" in response["content"]
    assert document["components"]["schemas"]["Generate"]["examples"]
    assert "Problem" in document["components"]["schemas"]


def test_examples_of_the_document_work(client: Client) -> None:
    document = client.get("/openapi.json").json
    for example in document["components"]["schemas"]["Generate"]["examples"]:
        answer = client.post("/v1/generate", {**example, "model": "toy", "prompt": "low"})
        assert answer.status == 200


@pytest.mark.slow
def test_schemathesis_finds_nothing(client: Client, tmp_path: Path) -> None:
    # Whether there is such a model, and whether it knows such a prompt, no schema can tell.
    words = ["--exclude-checks", "positive_data_acceptance", "--max-examples", "4", "--seed", "1", "--no-color"]
    program = [sys.executable, "-c", "from schemathesis.cli import schemathesis; schemathesis()", "run"]
    done = subprocess.run(
        [*program, f"{client.url}/openapi.json", *words], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "11 selected / 11 total" in done.stdout
