from dataclasses import replace

from validation.scheduler import Tally, compare_with_logs, main, run_ours
from validation.schedules import Schedule, draw_schedule


def test_every_decision_is_that_of_vllm_in_the_committed_logs() -> None:
    tally = compare_with_logs()
    assert tally.examples == []
    assert tally.agree
    assert tally.schedules > 60
    assert 0 < tally.synchronous < tally.schedules
    assert 0 < tally.prefix_caching < tally.schedules
    assert tally.preemptions > 50
    assert tally.prefix_hits > 100


def test_a_difference_is_found_and_shown() -> None:
    schedule = draw_schedule(1)
    ours = run_ours(schedule)
    theirs = run_ours(schedule)
    theirs.steps[3] = theirs.steps[3]._replace(num_free_blocks=-1)
    theirs.outputs.pop()
    tally = Tally()
    tally.add("case", schedule, ours, theirs)
    assert not tally.agree
    assert (tally.differing_steps, tally.differing_outputs) == (1, 1)
    assert "step 3" in tally.examples[0]
    assert "num_free_blocks=-1" in tally.examples[0]


def test_another_configuration_gives_other_decisions() -> None:
    schedule = draw_schedule(1)
    other = replace(
        schedule, config=replace(schedule.config, async_scheduling=not schedule.config.async_scheduling)
    )
    assert run_ours(schedule).steps != run_ours(other).steps


def test_a_schedule_survives_its_file_form() -> None:
    for seed in range(20):
        schedule = draw_schedule(seed)
        assert Schedule.from_json(schedule.to_json()) == schedule


def test_the_command_reports_and_succeeds(capsys) -> None:  # type: ignore[no-untyped-def]
    assert main(["--schedules", "2"]) == 0
    assert "differing steps    0" in capsys.readouterr().out
