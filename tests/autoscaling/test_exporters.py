"""What is exported, and that the reference says so."""

from pathlib import Path
from types import SimpleNamespace

from simulator.autoscaling.exporters import EXPORTED, GATEWAY_METRICS, POD_METRICS, gateway_exporter
from simulator.autoscaling.latencies import histogram_of

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "metrics.md"


def test_the_reference_lists_every_metric():
    page = PAGE.read_text(encoding="utf-8")
    for name in EXPORTED:
        assert f"`{histogram_of(name) or name}`" in page


def test_names_are_unique_and_belong_to_pods_or_the_gateway():
    assert len(set(EXPORTED)) == len(EXPORTED)
    assert set(POD_METRICS) | set(GATEWAY_METRICS) == set(EXPORTED)


class Gateway:
    queue_length = 3

    def outstanding(self):
        return {"a": 4, "b": 5}


def test_gateway_exporter_counts_attempts():
    client = SimpleNamespace(totals=SimpleNamespace(attempts=100))
    assert gateway_exporter(Gateway(), client)() == dict(zip(GATEWAY_METRICS, (3, 9, 100), strict=True))
