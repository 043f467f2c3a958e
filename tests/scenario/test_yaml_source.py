import pytest

from simulator.scenario.errors import ScenarioError
from simulator.scenario.yaml_source import YamlSource


def write(folder, name, text):
    path = folder / name
    path.write_text(text)
    return path


def test_every_key_has_its_line(tmp_path):
    path = write(tmp_path, "a.yaml", "one: 1\ntwo:\n  - x: 1\n  - x: 2\n    y: 3\n")
    source = YamlSource(path)
    assert source.where(["one"]) == f"{path}:1"
    assert source.where(["two", 1, "y"]) == f"{path}:5"
    assert source.where(["two", 1, "missing"]) == f"{path}:4"
    assert source.where([]) == str(path)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: 1\na: 2\n", "given twice"),
        ("a: [1\n", "not valid YAML"),
        ("", "empty"),
        ("- 1\n", "expected keys and values"),
        ("a: 1\n\tb: 2\n", "not valid YAML"),
    ],
)
def test_what_is_not_a_mapping_is_refused_with_the_reason(tmp_path, text, words):
    path = write(tmp_path, "bad.yaml", text)
    with pytest.raises(ScenarioError, match=words) as caught:
        YamlSource(path)
    assert str(path) in str(caught.value)


def test_missing_files_and_folders(tmp_path):
    with pytest.raises(ScenarioError, match="no such file"):
        YamlSource(tmp_path / "none.yaml")
    with pytest.raises(ScenarioError, match="folder"):
        YamlSource(tmp_path)


def test_extends_merges_mappings_and_replaces_the_rest(tmp_path):
    base = write(tmp_path, "base.yaml", "name: base\na: {x: 1, y: 2}\nlist: [1, 2]\n")
    child = write(tmp_path, "child.yaml", "extends: base.yaml\nname: child\na: {y: 3}\nlist: [9]\n")
    source = YamlSource(child)
    assert source.data == {"name": "child", "a": {"x": 1, "y": 3}, "list": [9]}
    assert source.where(["a", "y"]) == f"{child}:3"
    assert source.where(["a", "x"]) == f"{base}:2"


def test_extends_in_a_circle_is_refused(tmp_path):
    write(tmp_path, "a.yaml", "extends: b.yaml\n")
    b = write(tmp_path, "b.yaml", "extends: a.yaml\n")
    with pytest.raises(ScenarioError, match="in turn"):
        YamlSource(b)


@pytest.mark.parametrize(("value", "words"), [("none.yaml", "no such file"), ("[a]", "expected the path")])
def test_a_bad_base_is_named(tmp_path, value, words):
    path = write(tmp_path, "a.yaml", f"extends: {value}\n")
    with pytest.raises(ScenarioError, match=words) as caught:
        YamlSource(path)
    assert caught.value.key == "extends"
