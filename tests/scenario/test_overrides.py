import pytest

from simulator.scenario.errors import ScenarioError
from simulator.scenario.overrides import apply_overrides

DATA = {"duration": "2h", "workload": [{"name": "chat", "arrivals": {"rate": "7/s"}}], "slo": None}


def test_a_path_through_a_list_is_replaced():
    changed = apply_overrides(DATA, ["workload.0.arrivals.rate=12/s"])
    assert changed["workload"][0]["arrivals"]["rate"] == "12/s"


def test_the_original_is_left_alone():
    apply_overrides(DATA, ["workload.0.name=x"])
    assert DATA["workload"][0]["name"] == "chat"


def test_values_are_yaml():
    changed = apply_overrides(DATA, ["a=3", "b=[1, 2]", "c=true", "d={x: 1}", "e=", "f=1e3"])
    assert [changed[k] for k in "abcdef"] == [3, [1, 2], True, {"x": 1}, None, "1e3"]


def test_missing_sections_are_made():
    assert apply_overrides(DATA, ["slo.ttft=2s"])["slo"] == {"ttft": "2s"}


@pytest.mark.parametrize(
    ("assignment", "words"),
    [
        ("duration", "KEY.PATH=VALUE"),
        ("=3", "KEY.PATH=VALUE"),
        ("workload.1.name=x", "items 0 to 0"),
        ("workload.first.name=x", "no such item"),
        ("duration.hours=3", "plain value"),
        ("a=[1", "not valid YAML"),
    ],
)
def test_a_bad_assignment_is_named(assignment, words):
    with pytest.raises(ScenarioError, match=words.replace("[", r"\[")) as caught:
        apply_overrides(DATA, [assignment])
    assert assignment in str(caught.value)


def test_on_is_a_key_and_not_true() -> None:
    assert apply_overrides({}, ["retry={on: [cut]}"]) == {"retry": {"on": ["cut"]}}
