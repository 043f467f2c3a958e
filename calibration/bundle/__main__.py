"""Command line: ``python -m calibration.bundle`` builds a bundle, ``… probe`` describes the host it runs on."""

from __future__ import annotations

import sys

if __name__ == "__main__":
    if sys.argv[1:] == ["probe"]:  # the standard library alone: the host may have nothing else
        from calibration.bundle.probe import main as probe

        probe()
    else:
        from calibration.bundle.command import app

        app()
