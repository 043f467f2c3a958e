from pathlib import Path

import numpy as np
import pytest

from calibration.collectives import Collectives
from calibration.operator_tables import OperatorTables, TablesError


def test_one_gpu_does_not_communicate() -> None:
    alone = Collectives(None, "H100-SXM", 1)
    assert alone.allreduce_us(np.array([1.0, 8192.0]), 4096).tolist() == [0, 0]
    assert alone.gather_us(np.array([64.0]), 128256).tolist() == [0]


def test_captured_steps_take_the_graph_rows_and_larger_ones_the_eager_rows(made_up_tables: Path) -> None:
    pair = Collectives(OperatorTables(made_up_tables), "H100-SXM", 2)
    times = pair.allreduce_us(np.array([512.0, 513.0]), 1000)
    assert times == pytest.approx([4.0 + 2e-6 * 512_000, 20.0 + 2e-6 * 513_000])


def test_logits_are_gathered(made_up_tables: Path) -> None:
    pair = Collectives(OperatorTables(made_up_tables), "H100-SXM", 2)
    assert pair.gather_us(np.array([64.0]), 100_000) == pytest.approx([6.0 + 6.4])


def test_a_degree_that_was_not_measured_is_an_error(made_up_tables: Path) -> None:
    with pytest.raises(TablesError, match="all-reduce over 4 H100-SXM was not measured; there are: 2"):
        Collectives(OperatorTables(made_up_tables), "H100-SXM", 4)
    with pytest.raises(TablesError, match="tp 2 on RTX4090 needs aiconfigurator's all-reduce tables"):
        Collectives(None, "RTX4090", 2)
