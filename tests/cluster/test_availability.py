"""Files of spot capacity."""

import json

import pytest

from simulator.cluster.availability import load_availability
from simulator.scenario.errors import ScenarioError
from simulator.units import PS_PER_S


def write(folder, text, name="a.csv"):
    path = folder / name
    path.write_text(text)
    return path


def test_csv_of_several_zones(tmp_path):
    path = write(tmp_path, "t_s,zone,nodes_available\n0,a,4\n0,b,9\n60,a,4\n120,a,1\n90,b,0\n")
    assert load_availability(path, "a") == ((0, 120 * PS_PER_S), (4, 1))
    trace = load_availability(path, "b")
    assert [trace.at(t * PS_PER_S) for t in (0, 89, 90, 10**6)] == [9, 9, 0, 0]


def test_json_of_skypilot(tmp_path):
    path = write(tmp_path, json.dumps({"metadata": {"gap_seconds": 300}, "data": [16, 16, 3, 0]}), "a.json")
    assert load_availability(path, "any") == ((0, 600 * PS_PER_S, 900 * PS_PER_S), (16, 3, 0))


def test_start_inside_the_file(tmp_path):
    path = write(tmp_path, json.dumps({"metadata": {"gap_seconds": 300}, "data": [16, 16, 3, 0]}), "a.json")
    assert load_availability(path, "any", 700) == ((0, 200 * PS_PER_S), (3, 0))


def test_the_first_row_holds_before_it(tmp_path):
    path = write(tmp_path, "t_s,zone,nodes_available\n50,a,4\n60,a,2\n")
    assert load_availability(path, "a") == ((0, 60 * PS_PER_S), (4, 2))


@pytest.mark.parametrize(
    ("text", "name", "told"),
    [
        ("t_s,zone\n0,a\n", "a.csv", "column nodes_available is missing"),
        ("t_s,zone,nodes_available\n0,b,1\n", "a.csv", "no row of zone 'a'"),
        ("t_s,zone,nodes_available\n0,a,1.5\n", "a.csv", "a whole number of nodes"),
        ("t_s,zone,nodes_available\n0,a,-1\n", "a.csv", "a whole number of nodes"),
        ("t_s,zone,nodes_available\n5,a,1\n5,a,2\n", "a.csv", "does not rise"),
        ("t_s,zone,nodes_available\n0,a,1\n5,a,2\n", "a.csv", "ends at 5 s, before availability_start"),
        ("[1, 2]", "a.json", 'expected {"metadata"'),
        ('{"metadata": {"gap_seconds": 0}, "data": [1]}', "a.json", "gap_seconds must be above 0"),
        ("{", "a.json", "not a file of spot capacity"),
    ],
)
def test_bad_files(tmp_path, text, name, told):
    with pytest.raises(ScenarioError, match=told):
        load_availability(write(tmp_path, text, name), "a", 10 if "ends" in told else 0)


def test_no_file(tmp_path):
    with pytest.raises(ScenarioError, match="no such file"):
        load_availability(tmp_path / "a.csv", "a")
