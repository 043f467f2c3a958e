"""Random scenarios over the whole schema, as plain data: small, short and under every stress at once.

One module draws each part; what is drawn hangs on the seed alone.
"""

from validation.random_scenarios.draw import draw_scenario, write_scenario
from validation.random_scenarios.features import features

__all__ = ["draw_scenario", "features", "write_scenario"]
