"""What every test starts from."""

from __future__ import annotations

import signal

# A shell without job control starts what runs in the background with SIGINT ignored, which children inherit: the
# tests of Ctrl-C would then wait for ever.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
