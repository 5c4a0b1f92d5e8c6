"""Configurations survive a round trip through dict, JSON and YAML, and say what is wrong with a broken one."""

import json
from collections.abc import Mapping
from dataclasses import FrozenInstanceError, dataclass, field
from typing import Any, Literal

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from hiss.errors import HissError, UsageError, unknown
from hiss.spec import Spec


class Shape(Spec):
    """A family."""


@dataclass(frozen=True)
class Circle(Shape, name="circle"):
    radius: float = 1.0


@dataclass(frozen=True)
class Box(Shape, name="box"):
    sides: tuple[float, float]
    filled: bool = False


class Colour(Spec):
    """Another family, which shares no members with the first."""


@dataclass(frozen=True)
class Grey(Colour, name="grey"):
    level: float = 0.5


@dataclass(frozen=True)
class Drawing(Spec):
    shape: Shape
    circle: Circle = Circle()
    title: str = "untitled"
    mode: Literal["fill", "line"] = "fill"
    widths: tuple[int, ...] = (1, 2)
    layers: tuple[Shape, ...] = ()
    names: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    parts: Mapping[str, Shape] = field(default_factory=dict)
    colour: Grey | Circle | None = None
    size: int | str = 3


FULL = Drawing(
    shape=Box(sides=(1.0, 2.5), filled=True),
    circle=Circle(radius=0.1),
    title="house",
    mode="line",
    widths=(4, 5, 6),
    layers=(Circle(), Box(sides=(3.0, 4.0))),
    names={"digit": ("zero", "one")},
    parts={"door": Box(sides=(0.5, 2.0)), "moon": Circle(9.0)},
    colour=Grey(0.25),
    size="large",
)
SHAPES = st.one_of(
    st.builds(Circle, st.floats(allow_nan=False, allow_infinity=False)),
    st.builds(Box, st.tuples(st.floats(-9, 9), st.floats(-9, 9)), st.booleans()),
)


def error(cls: type[Spec], data: Any) -> str:
    with pytest.raises(UsageError) as caught:
        cls.from_dict(data)
    return str(caught.value)


@pytest.mark.parametrize("spec", [FULL, Drawing(shape=Circle()), Drawing(shape=Circle(), colour=Circle(2.0))])
def test_a_spec_survives_dict_json_and_yaml(spec: Drawing) -> None:
    assert Drawing.from_dict(spec.to_dict()) == spec
    assert Drawing.from_dict(json.loads(spec.to_json())) == spec
    assert Drawing.from_dict(yaml.safe_load(yaml.safe_dump(spec.to_dict()))) == spec


@given(SHAPES, st.lists(SHAPES, max_size=3), st.text(max_size=5), st.lists(st.integers(), max_size=4))
def test_any_spec_survives_json(shape: Shape, layers: list[Shape], title: str, widths: list[int]) -> None:
    spec = Drawing(shape=shape, layers=tuple(layers), title=title, widths=tuple(widths))
    assert Drawing.from_dict(json.loads(spec.to_json())) == spec


def test_plain_data_is_only_dicts_lists_strings_numbers_booleans_and_none() -> None:
    assert FULL.to_dict()["shape"] == {"name": "box", "sides": [1.0, 2.5], "filled": True}
    assert FULL.to_dict()["names"] == {"digit": ["zero", "one"]}
    assert "name" not in FULL.to_dict()


def test_what_is_left_out_takes_its_default() -> None:
    assert Drawing.from_dict({"shape": {"name": "circle"}}) == Drawing(shape=Circle())


def test_a_whole_number_serves_as_a_float_and_becomes_one() -> None:
    assert isinstance(Circle.from_dict({"radius": 2}).radius, float)


def test_a_spec_is_frozen() -> None:
    with pytest.raises(FrozenInstanceError):
        FULL.title = "other"  # type: ignore[misc]


def test_a_family_builds_the_member_that_is_named() -> None:
    assert Shape.from_dict({"name": "circle", "radius": 3.0}) == Circle(3.0)
    assert set(Shape.members) == {"circle", "box"}
    assert set(Colour.members) == {"grey"}


def test_a_member_needs_no_name_where_only_it_can_stand() -> None:
    assert Circle.from_dict({"radius": 3.0}) == Circle(3.0)


def test_a_member_refuses_the_name_of_its_sibling() -> None:
    assert "no Circle" in error(Circle, {"name": "box", "sides": [1, 2]})


def test_a_new_member_is_found_by_its_name() -> None:
    @dataclass(frozen=True)
    class Line(Colour, name="line"):
        length: int = 1

    try:
        assert Colour.from_dict({"name": "line", "length": 4}) == Line(4)
    finally:
        del Colour.members["line"]


def test_an_unknown_member_gets_the_valid_names_and_the_nearest() -> None:
    message = error(Drawing, {"shape": {"name": "circel"}})
    assert "did you mean 'circle'?" in message
    assert "box, circle" in message
    assert "config.shape" in message


def test_a_name_that_is_no_word_gets_the_valid_names() -> None:
    assert "box, circle" in error(Drawing, {"shape": {"name": ["circle"]}})


def test_a_family_without_a_name_gets_the_valid_names() -> None:
    assert "box, circle" in error(Drawing, {"shape": {"radius": 1.0}})


def test_a_misspelt_key_gets_the_valid_ones_and_the_nearest() -> None:
    message = error(Drawing, {"shape": {"name": "box", "sides": [1, 2], "filed": True}})
    assert "did you mean 'filled'?" in message
    assert "filled, sides" in message


def test_a_missing_key_is_named() -> None:
    assert error(Drawing, {"shape": {"name": "box"}}) == "config.shape lacks sides"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"title": 3}, "config.title must be str, not 3"),
        ({"title": None}, "config.title must be str, not None"),
        ({"widths": 3}, "config.widths must be"),
        ({"widths": ["a"]}, "config.widths[0] must be int, not 'a'"),
        ({"widths": [True]}, "config.widths[0] must be int, not True"),
        ({"widths": [1.5]}, "config.widths[0] must be int, not 1.5"),
        ({"mode": "dots"}, "'dots'; valid are: fill, line"),
        ({"shape": {"name": "box", "sides": [1, 2, 3]}}, "config.shape.sides must have 2 values, not 3"),
        ({"shape": {"name": "box", "sides": [1, 2], "filled": 1}}, "config.shape.filled must be bool, not 1"),
        ({"shape": "circle"}, "config.shape must be a mapping, not 'circle'"),
        ({"circle": {"radius": "wide"}}, "config.circle.radius must be float, not 'wide'"),
        ({"circle": {"radius": True}}, "config.circle.radius must be float, not True"),
        ({"names": {"digit": "zero"}}, "config.names.digit must be"),
        ({"parts": {"door": {"name": "bx"}}}, "config.parts.door"),
        ({"layers": [{"name": "circle"}, {"name": "bx"}]}, "config.layers[1]"),
        ({"size": [1]}, "config.size must be"),
    ],
)
def test_a_wrong_value_is_said_with_its_place_and_what_was_expected(change: dict[str, Any], words: str) -> None:
    assert words in error(Drawing, {"shape": {"name": "circle"}} | change)


def test_what_is_no_mapping_is_refused() -> None:
    assert error(Circle, [1.0]) == "config must be a mapping, not [1.0]"


def test_a_union_takes_the_first_type_that_fits() -> None:
    assert Drawing.from_dict({"shape": {"name": "circle"}, "size": "5"}).size == "5"
    assert Drawing.from_dict({"shape": {"name": "circle"}, "size": 5}).size == 5
    assert Drawing.from_dict({"shape": {"name": "circle"}, "colour": {"radius": 2}}).colour == Circle(2.0)


def test_a_usage_error_is_a_hiss_error_so_that_one_clause_catches_both() -> None:
    assert issubclass(UsageError, HissError)


def test_an_unknown_name_far_from_all_gets_the_list_alone() -> None:
    assert str(unknown("sampler", "zzz", ["heun", "ddim"])) == "unknown sampler 'zzz'; valid are: ddim, heun"
    assert str(unknown("model", "x", [])) == "unknown model 'x'; valid are: none"
