"""What is written and printed, from a made-up run."""

import io
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from matplotlib.figure import Figure
from rich.console import Console

from simulator.billing import ApiBill
from simulator.metrics import summarise
from simulator.records import Recorder, Results, Tables, read_results
from simulator.report import RunProgress, plot_timeline, print_summary, write_report
from simulator.report.style import thin, time_axis
from simulator.report.write import PLOTS
from simulator.statistics import combine


def printed(results: Results, width: int = 110) -> str:
    out = io.StringIO()
    print_summary(results.summary, Console(file=out, width=width), folder=Path("results/spiky"))
    return out.getvalue()


def with_replications(results: Results) -> Results:
    other = {**results.summary, "run": {**results.summary["run"], "seed": 2}}
    return replace(results, summary={**results.summary, "replications": combine([results.summary, other])})


def empty_run(results: Results) -> Results:
    recorder = Recorder(["chat"])
    tables = recorder.tables()
    from simulator.metrics import RunFacts, StepTimeTrust
    from simulator.scenario.slo import Slo

    facts = RunFacts(
        "empty",
        "d",
        1,
        "0",
        60.0,
        Slo(),
        "m",
        "e",
        "g",
        1,
        (),
        0,
        ApiBill(),
        StepTimeTrust("roofline", "g", ""),
    )
    return Results(tables, summarise(tables, recorder.itl, facts), "")


def test_folder_holds_plots_and_report(folder: Path) -> None:
    for name in PLOTS:
        assert (folder / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    assert (folder / "report.html").stat().st_size > 100_000


def test_report_is_the_same_bytes_every_time(folder: Path, tmp_path: Path) -> None:
    write_report(tmp_path, read_results(folder))
    for name in ("report.html", *(f"{plot}.png" for plot in PLOTS)):
        assert (tmp_path / name).read_bytes() == (folder / name).read_bytes()


class _Links(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.targets: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.targets += [value or "" for name, value in attrs if name in ("src", "href")]


def test_report_needs_no_network(folder: Path) -> None:
    html = (folder / "report.html").read_text(encoding="utf-8")
    links = _Links()
    links.feed(html)
    assert "script" not in links.tags
    assert "link" not in links.tags
    assert len(links.targets) == len(PLOTS)
    assert all(target.startswith("data:image/png;base64,") for target in links.targets)
    assert "url(" not in html


def test_report_says_verdict_trust_events_and_scenario(folder: Path) -> None:
    html = (folder / "report.html").read_text(encoding="utf-8")
    for part in (
        "SLO missed",
        "pure decode ±4.0 %",
        "context over 32768",
        "SpotReclaimed",
        "rate: 4/s, factor: 8",
    ):
        assert part in html


def test_report_escapes_what_users_wrote(folder: Path, tmp_path: Path) -> None:
    results = replace(read_results(folder), scenario_yaml="name: <script>alert(1)</script>")
    assert "<script>" not in write_report(tmp_path, results).read_text(encoding="utf-8")


@pytest.mark.parametrize("name", list(PLOTS))
def test_plots_of_an_empty_run(results: Results, name: str) -> None:
    assert isinstance(PLOTS[name](empty_run(results)), Figure)


def test_empty_run_and_replications_have_a_report_and_a_summary(results: Results, tmp_path: Path) -> None:
    for i, run in enumerate((empty_run(results), with_replications(results))):
        directory = tmp_path / str(i)
        directory.mkdir()
        write_report(directory, run)
        assert printed(run)


def test_summary_begins_with_the_verdict_and_ends_with_the_report(results: Results) -> None:
    lines = printed(results).strip().splitlines()
    assert re.match(r"\s*SLO missed: \d+\.\d % of requests good, 95 % wanted", lines[0])
    assert lines[-1] == "Report: results/spiky/report.html"
    assert len(lines) <= 50


def test_summary_has_no_control_characters_in_a_pipe(results: Results) -> None:
    assert "\x1b" not in printed(results)
    assert "\r" not in printed(results)


def test_summary_fits_eighty_columns(results: Results) -> None:
    for run in (results, with_replications(results)):
        assert max(len(line.rstrip()) for line in printed(run, 80).splitlines()) <= 80


def test_summary_shows_intervals_with_replications(results: Results) -> None:
    text = printed(with_replications(results))
    assert "SLO met in 0 of 2 replications" in text
    assert "±" in text
    assert "mean over replications" in text


def test_timeline_marks_reclaims_late_times_and_draws_on_a_given_figure(results: Results) -> None:
    figure = Figure()
    assert plot_timeline(results, figure) is figure
    assert len(figure.axes) == 5
    labels = {text for axes in figure.axes for text in axes.get_legend_handles_labels()[1]}
    assert {
        "arrivals",
        "ready",
        "desired",
        "spot reclaim",
        "scale up",
        "SLO limit, 2 s",
        "GPU busy (DCGM)",
    } <= labels
    shaded = [patch for patch in figure.axes[3].patches if patch.get_width() > 0]
    assert shaded


def test_thinning_keeps_counts_and_peaks(results: Results) -> None:
    timeline = results.tables.timeline
    thinned = thin(timeline, 50)
    assert len(thinned) <= 50
    for column in ("arrivals", "errors", "interval_s"):
        assert thinned[column].sum() == pytest.approx(timeline[column].sum())
    assert thinned["ttft_p99_s"].max() == timeline["ttft_p99_s"].max()
    assert thinned["t_s"].iloc[-1] == timeline["t_s"].iloc[-1]
    assert np.isclose(thinned["cost_usd"].iloc[-1], timeline["cost_usd"].iloc[-1])


def test_progress_in_a_pipe_is_one_plain_line() -> None:
    out = io.StringIO()
    with RunProgress(7200.0, Console(file=out), label="spiky") as progress:
        progress.update(3600.0, 10_000)
        progress.update(7200.0, 51_000)
    assert re.fullmatch(r"spiky: 2:00:00 simulated, \S+× real time, 51,000 requests, \S+ s\n", out.getvalue())


def test_progress_on_a_terminal_shows_a_bar_and_quiet_shows_nothing() -> None:
    for quiet in (False, True):
        out = io.StringIO()
        with RunProgress(60.0, Console(file=out, force_terminal=True, width=120), quiet=quiet) as progress:
            progress._shown = 0.0
            progress.update(30.0, 5)
        assert ("0:00:30 simulated" in out.getvalue()) is not quiet
        assert bool(out.getvalue()) is not quiet


def test_report_lists_rare_kinds_of_event_and_counts_the_others(results: Results, tmp_path: Path) -> None:
    events = results.tables.events
    flood = pd.DataFrame(
        {
            "t_s": np.arange(3000.0),
            "kind": "preemption",
            "subject": "vllm-0",
            "reason": "Preempted",
            "message": "m",
        }
    )
    flooded = pd.concat([events.astype({"kind": str, "reason": str}), flood])
    source = pa.Table.from_pandas(flooded, preserve_index=False)
    tables = Tables({**results.tables.sources, "events": source})
    html = write_report(tmp_path, replace(results, tables=tables)).read_text(encoding="utf-8")
    assert f"Events ({len(events)} listed)" in html
    assert "preemption: Preempted" in html
    assert "3,000" in html


@pytest.mark.parametrize(
    ("duration_s", "labels"),
    [
        (40.0, ["0:00:00", "0:00:05", "0:00:10"]),
        (7200.0, ["0:00", "0:15", "0:30"]),
        (86_400.0, ["0:00", "4:00", "8:00"]),
        (7 * 86_400.0, ["day 0", "day 1", "day 2"]),
    ],
)
def test_time_axis_reads_as_a_clock(duration_s: float, labels: list[str]) -> None:
    axes = Figure().subplots()
    time_axis(axes, duration_s)
    ticks = [t for t in axes.xaxis.get_majorticklocs() if 0 <= t <= duration_s]
    assert len(ticks) <= 11
    assert [axes.xaxis.get_major_formatter()(t) for t in ticks[:3]] == labels


@pytest.mark.parametrize("width", [80, 120])
@pytest.mark.parametrize("replicated", [False, True])
def test_no_label_or_figure_is_cut_or_wrapped(results: Results, width: int, replicated: bool) -> None:
    text = printed(with_replications(results) if replicated else results, width)
    lines = text.splitlines()
    assert max(map(len, lines)) <= width
    tables = text[: text.index("Step times")]
    assert "…" not in tables
    for label in (
        "replicas existing",
        "rescales, reclaims",
        "error share",
        "per M output tokens",
        "GPU memory used",
    ):
        assert sum(label in line for line in lines) == 1, label
    trust = lines[next(i for i, line in enumerate(lines) if line.startswith("Step times")) :]
    assert len([line for line in trust if line.strip()]) <= 13
