"""``report.html``: one self-contained file that needs no network."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any, Final

import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

from simulator.records.results import Results
from simulator.report import text

EVENTS_SHOWN: Final = 1000
"""The report lists so many events at most; the rarest kinds come first, the others are only counted."""


def environment() -> Environment:
    """Where the pages' templates are."""
    return Environment(
        loader=PackageLoader("simulator.report", "templates"),
        autoescape=select_autoescape(["html", "j2"]),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def render_html(results: Results, plots: Mapping[str, bytes]) -> str:
    """The report as HTML.

    Args:
        results: the run.
        plots: PNG images by name: timeline, latency, errors, cost.
    """
    templates = environment()
    templates.globals.update(text=text, zip=zip)
    summary = results.summary
    met, sentence = text.verdict(summary)
    page: str = templates.get_template("report.html.j2").render(
        summary=summary,
        run=summary["run"],
        combined=summary.get("replications"),
        met=met,
        verdict=sentence,
        fig=lambda *path: text.figure(summary, *path),
        fig_at=lambda path, *keys: text.figure(summary, *path, *keys),
        plots={name: base64.b64encode(image).decode("ascii") for name, image in plots.items()},
        events=_events(results.tables.events),
        event_counts=_event_counts(results.tables.events),
        events_shown=EVENTS_SHOWN,
        scenario_yaml=results.scenario_yaml,
    )
    return page


def _event_counts(events: pd.DataFrame) -> list[tuple[str, str, int]]:
    counts = events.groupby(["kind", "reason"], observed=True, as_index=False).agg(n=("t_s", "size"))
    counts = counts.astype({"kind": str, "reason": str}).sort_values(["kind", "reason"])
    return list(zip(counts["kind"], counts["reason"], counts["n"].tolist()))


def _events(events: pd.DataFrame) -> list[dict[str, Any]]:
    per_kind = events["kind"].astype(str).value_counts().sort_index().sort_values(kind="stable")
    few_enough = per_kind.index[per_kind.cumsum() <= EVENTS_SHOWN]
    listed = events[events["kind"].isin(few_enough)].sort_values("t_s", kind="stable")
    columns = ["t_s", "kind", "subject", "reason", "message"]
    return [
        dict(zip(columns, [text.clock(t_s), *labels]))
        for t_s, *labels in listed[columns].itertuples(index=False, name=None)
    ]
