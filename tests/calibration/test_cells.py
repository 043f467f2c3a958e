from calibration.captured_steps import CapturedStep
from calibration.cells import Cell, cells_of, combination, held_out


def _step(
    decodes: int = 0,
    context: int = 0,
    prefills: tuple[tuple[int, int], ...] = (),
    step_us: float | None = 1000.0,
    spread: float = 0.0,
) -> CapturedStep:
    return CapturedStep(0, 0, 0, 0, decodes, decodes * context, spread, prefills, step_us, None)


def test_a_cell_s_time_is_its_median() -> None:
    cells = cells_of([_step(4, 100, step_us=us) for us in (10.0, 11.0, 900.0, None, 0.0)])
    assert [(len(cell.steps), cell.median_us) for cell in cells] == [(3, 11.0)]


def test_drifting_contexts_share_a_cell_and_other_sizes_do_not() -> None:
    assert combination(_step(4, 1000)) == combination(_step(4, 1030))
    assert combination(_step(4, 1000)) != combination(_step(4, 2000))
    assert combination(_step(4, 1000)) != combination(_step(5, 1000))
    assert combination(_step(4, 1000)) != combination(_step(4, 1000, spread=0.5))
    assert combination(_step(0, 0, ((64, 512),))) != combination(_step(0, 0, ((64, 0),)))
    assert combination(_step(2, 50, ((64, 0),))) != combination(_step(3, 50, ((64, 0),)))


def _grid() -> list[Cell]:
    return cells_of([_step(n, c) for n in (1, 2, 4, 8, 16) for c in (64, 128, 256, 512, 1024, 2048)])


def test_a_fifth_is_held_out_from_the_inside_and_always_the_same() -> None:
    cells = _grid()
    chosen = held_out(cells)
    assert len(chosen) == 6
    assert chosen == held_out(reversed(cells))
    for cell in cells:
        if cell.steps[0].mean_context in (64, 2048):
            assert cell.combination not in chosen


def test_what_would_leave_a_row_or_column_bare_is_never_held_out() -> None:
    # Two contexts a row, and rows that have a column for themselves.
    assert held_out(cells_of([_step(n, c) for n in (1, 2, 4) for c in (64, 1024)])) == set()
    assert held_out(cells_of([_step(n, 64 * 4**n * k) for n in (1, 2) for k in (1, 2, 4)])) == set()
