import pytest

from calibration.bundle.errors import BundleError
from calibration.bundle.project import ROOT, read_project


def test_the_source_tree_without_compiled_and_hidden_files():
    project = read_project(None)
    assert {
        "pyproject.toml",
        "simulator/__init__.py",
        "calibration/capture_format.py",
    } <= project.files.keys()
    assert any(name.startswith("simulator/catalog/") and name.endswith(".yaml") for name in project.files)
    assert not [name for name in project.files if name.endswith((".so", ".pyc"))]
    assert {"pyarrow", "nvidia-ml-py"} <= {r.name for r in project.requirements}
    assert project.plan is None


def tree(folder, plans=()):
    for package in ("simulator", "calibration/plans"):
        (folder / package).mkdir(parents=True)
    (folder / "pyproject.toml").write_text('[project]\nversion = "1"\ndependencies = []\n')
    for name in plans:
        (folder / "calibration" / "plans" / name).write_text("own")
    return folder


def test_a_plan_of_the_project_stays_where_it_is_and_another_joins_it(tmp_path):
    root = tree(tmp_path / "tree", ["a.yaml"])
    other = tmp_path / "b.yaml"
    other.write_text("other")
    assert read_project(root / "calibration/plans/a.yaml", root).plan == "calibration/plans/a.yaml"
    project = read_project(other, root)
    assert project.files[project.plan] == b"other"
    assert project.plan == "calibration/plans/b.yaml"


def test_a_plan_that_cannot_be_taken(tmp_path):
    root = tree(tmp_path / "tree", ["a.yaml"])
    (tmp_path / "a.yaml").write_text("other")
    with pytest.raises(BundleError, match=r"another plan of the name a\.yaml"):
        read_project(tmp_path / "a.yaml", root)
    with pytest.raises(BundleError, match="No such file"):
        read_project(tmp_path / "none.yaml", root)
    with pytest.raises(BundleError, match="source tree"):
        read_project(None, tmp_path)


def test_the_root_is_the_projects():
    assert (ROOT / "pyproject.toml").is_file()
