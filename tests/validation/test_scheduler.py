from dataclasses import replace
from pathlib import Path

import pytest

from simulator.engines.vllm.rules import CHECKED_VERSIONS
from validation.coverage import FEATURES, IMPOSSIBLE, Coverage, features_of
from validation.engine_runs import run_plain
from validation.oracle_log import LogEntry, read_log, write_log
from validation.scheduler import Tally, compare, differences, explain, logged_entries, main
from validation.schedules import Schedule, draw_schedule
from validation.shrink import shrink


@pytest.mark.parametrize("version", CHECKED_VERSIONS)
def test_every_decision_is_that_of_vllm_in_the_committed_logs(version: str) -> None:
    tally = compare(logged_entries(version=version))
    assert tally.first_differing is None or explain(tally.first_differing, "plain", None) == ""
    assert tally.agree
    assert tally.schedules > 100
    assert tally.preemptions > 200
    assert tally.prefix_hits > 300
    lacking = {"max_num_active_seqs", "adaptive threshold", "refused by the front end"}
    seen = {name for name in FEATURES if tally.coverage.alone[name]}
    assert set(FEATURES) - seen == (lacking if version == "0.26" else set())


def test_the_rules_of_the_other_version_decide_otherwise() -> None:
    entries = list(logged_entries(version="0.26"))
    other = [
        replace(entry.schedule, config=replace(entry.schedule.config, vllm_version="0.32"))
        for entry in entries
    ]
    assert any(differences(schedule, entry.decisions) for schedule, entry in zip(other, entries, strict=True))


def test_a_difference_is_found_and_shown() -> None:
    schedule = draw_schedule(1)
    theirs = run_plain(schedule)[0]
    theirs.steps[3] = theirs.steps[3]._replace(num_free_blocks=-1)
    theirs.outputs.pop()
    entry = LogEntry("case", schedule, theirs)
    tally = Tally()
    tally.add(entry, differences(schedule, theirs))
    assert not tally.agree
    assert (tally.differing_steps, tally.differing_outputs) == (1, 1)
    text = explain(entry, "plain", None)
    assert "case, step 3" in text
    assert "num_free_blocks=-1" in text


def test_another_configuration_gives_other_decisions() -> None:
    schedule = draw_schedule(1)
    other = replace(
        schedule, config=replace(schedule.config, async_scheduling=not schedule.config.async_scheduling)
    )
    assert differences(other, run_plain(schedule)[0])


@pytest.mark.parametrize("version", CHECKED_VERSIONS)
def test_a_schedule_survives_its_file_form(version: str) -> None:
    for seed in range(20):
        schedule = draw_schedule(seed, version=version)
        assert Schedule.from_json(schedule.to_json()) == schedule


def test_a_log_survives_its_file_form(tmp_path: Path) -> None:
    entries = []
    for seed in range(5):
        schedule = draw_schedule(seed)
        decisions = run_plain(schedule)[0]
        decisions.marks = {"eviction"}
        entries.append(LogEntry(f"seed {seed}", schedule, decisions))
    write_log(tmp_path / "log", entries)
    assert list(read_log(tmp_path / "log")) == entries


def test_shrinking_keeps_what_differs_and_little_else() -> None:
    schedule = draw_schedule(3)
    wanted = schedule.arrivals[-1][1].request_id

    def differs(case: Schedule) -> bool:
        return any(r.request_id == wanted and r.prompt_tokens > 2 for _, r in case.arrivals)

    small = shrink(schedule, differs)
    ((_, request),) = small.arrivals
    assert (request.prompt_tokens, request.max_tokens) == (3, 1)
    assert small.aborts == []
    assert not small.config.enable_prefix_caching


def test_coverage_counts_pairs() -> None:
    schedule = draw_schedule(0)
    decisions = run_plain(schedule)[0]
    coverage = Coverage()
    coverage.add(features_of(schedule, decisions))
    copy = Coverage()
    copy.add_json(coverage.to_json())
    assert copy.pairs == +coverage.pairs
    assert coverage.alone["stop by length"] == 1
    assert coverage.pairs[frozenset(("stop by length", "chunked prefill"))] == int(
        schedule.config.enable_chunked_prefill
    )
    assert frozenset(("synchronous", "asynchronous")) in IMPOSSIBLE
    assert coverage.rarest()[0][0] == 0
    assert "stop by length" in coverage.table()


def test_the_command_reports_and_succeeds(capsys, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    saved = tmp_path / "tally.json"
    assert main(["--logs", "--vllm-version", "0.26", "--save", str(saved)]) == 0
    assert "differing steps    0" in capsys.readouterr().out
    assert main(["--merge", str(saved), str(saved)]) == 0
    assert "differing outputs  0" in capsys.readouterr().out
