from importlib import resources
from pathlib import Path

import pytest
import yaml

from simulator.step_time import ProfileError, StepTimeProfile, dump_profile, load_profile, shipped_profiles
from simulator.step_time.profile import Uncertainty

PROFILES = sorted(shipped_profiles())


@pytest.mark.parametrize("name", PROFILES)
def test_dump_and_load_are_inverse(name: str, tmp_path: Path) -> None:
    profile = shipped_profiles()[name]
    path = tmp_path / "profile.yaml"
    path.write_text(dump_profile(profile), encoding="utf-8")
    assert load_profile(path) == profile


@pytest.mark.parametrize("name", PROFILES)
def test_shipped_profiles_are_small_named_and_accounted_for(name: str) -> None:
    profile = shipped_profiles()[name]
    file = resources.files("simulator.step_time").joinpath("profiles", f"{name}.yaml")
    assert len(file.read_bytes()) < 60_000
    assert {"licence", "files", "records"} <= set(profile.provenance)
    regimes = {error.regime for error in profile.fit_error}
    assert regimes >= {
        "pure_decode",
        "pure_prefill",
        "mixed" if profile.source == "fitted profile" else "dense",
    }
    assert profile.known_error


def _broken(tmp_path: Path, **terms: object) -> Path:
    data = yaml.safe_load(dump_profile(shipped_profiles()[PROFILES[0]]))
    data["terms"].update(terms)
    path = tmp_path / "broken.yaml"
    path.write_text(yaml.safe_dump(data), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("terms", "key", "reason"),
    [
        ({"dense": {"tokens": [1, 2], "us": [1.0]}}, "terms.dense", "2 tokens but 1 us"),
        ({"dense": {"tokens": [2, 1], "us": [1.0, 2.0]}}, "terms.dense", "tokens must rise"),
        ({"dense": {"tokens": [1], "us": [-1.0]}}, "terms.dense.us.0", "greater than or equal to 0"),
        ({"noise": 1}, "terms.noise", "not permitted"),
        ({"overhead_us": "fast"}, "terms.overhead_us", "valid number"),
    ],
)
def test_mistakes_name_the_file_the_key_and_the_reason(
    tmp_path: Path, terms: dict[str, object], key: str, reason: str
) -> None:
    path = _broken(tmp_path, **terms)
    with pytest.raises(ProfileError, match=reason) as error:
        load_profile(path)
    assert str(error.value).startswith(f"{path}: {key}")


def test_parts_of_version_2_need_version_2(tmp_path: Path) -> None:
    data = yaml.safe_load(dump_profile(shipped_profiles()[PROFILES[0]]))
    path = tmp_path / "profile.yaml"
    for version, accepted in ((1, False), (2, True), (3, False)):
        path.write_text(
            yaml.safe_dump({**data, "schema_version": version, "range_notes": ["none above 64 requests"]}),
            encoding="utf-8",
        )
        if accepted:
            assert load_profile(path).range_notes
        else:
            with pytest.raises(ProfileError, match=r"range_notes needs schema_version 2|schema_version"):
                load_profile(path)


@pytest.mark.parametrize(
    ("covariance", "reason"),
    [
        ([[1.0]], "2 groups need 2 x 2"),
        ([[1.0, 0.5], [0.4, 1.0]], "not symmetric"),
        ([[1.0, 2.0], [2.0, 1.0]], "negative eigenvalue"),
    ],
)
def test_a_covariance_must_be_one(covariance: list[list[float]], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        Uncertainty(groups=["dense", "host"], covariance=covariance, common_relative_error=0.0, source="x")


def test_missing_or_unparsable_file(tmp_path: Path) -> None:
    with pytest.raises(ProfileError, match="No such file"):
        load_profile(tmp_path / "none.yaml")
    bad = tmp_path / "bad.yaml"
    bad.write_text("a: [", encoding="utf-8")
    with pytest.raises(ProfileError, match=r"bad\.yaml"):
        load_profile(bad)


def test_json_schema_describes_every_term() -> None:
    schema = StepTimeProfile.model_json_schema()
    assert set(schema["$defs"]["Terms"]["properties"]) == {
        "dense",
        "per_sequence",
        "decode_attention",
        "prefill_attention",
        "mixed_attention",
        "overhead_us",
        "eager_floor_us",
    }
