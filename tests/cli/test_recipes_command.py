"""hiss recipes: what can be trained, and a recipe to change a copy of."""

import json
from importlib.resources import files
from pathlib import Path

import pytest
from command_line import hiss, refused

from hiss.training.recipe import load_recipe, recipes


def test_recipes_are_listed_with_what_each_trains(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "300")
    lines = hiss("recipes").stdout.splitlines()
    assert [line.split()[0] for line in lines[1:]] == recipes()
    assert "denoise-16k       Takes noise and echo away from speech at 16 kHz." in [line.rstrip() for line in lines]


def test_a_list_can_be_had_as_json() -> None:
    rows = json.loads(hiss("recipes", "--json").stdout)
    assert [row["name"] for row in rows] == recipes()
    assert all(row["summary"] for row in rows)


@pytest.mark.parametrize("name", recipes())
def test_a_recipe_is_printed_as_it_is(name: str, tmp_path: Path) -> None:
    printed = hiss("recipes", name)
    assert printed.exit_code == 0
    assert printed.stdout == (files("hiss") / "recipes" / f"{name}.yaml").read_text(encoding="utf-8")
    copy = tmp_path / "mine.yaml"
    copy.write_text(printed.stdout)
    assert load_recipe(copy) == load_recipe(name)


def test_an_unknown_recipe_is_answered_with_the_valid_ones() -> None:
    refused(hiss("recipes", "digitz"), 2, says="unknown recipe 'digitz' (did you mean 'digits'?); valid are: adapt, ")
