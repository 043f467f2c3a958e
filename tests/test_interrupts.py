import os
import signal
import threading

import pytest

from simulator.interrupts import deferred_signals


def test_ctrl_c_waits_for_a_safe_point() -> None:
    with deferred_signals() as deliver:
        os.kill(os.getpid(), signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):  # not before
            deliver()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_signal_is_not_lost_without_a_safe_point() -> None:
    with pytest.raises(KeyboardInterrupt), deferred_signals():
        os.kill(os.getpid(), signal.SIGINT)


def test_what_has_no_handler_is_left_alone() -> None:
    with deferred_signals() as deliver:
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
        deliver()


def test_other_threads_get_no_signals() -> None:
    def body() -> None:
        with deferred_signals() as deliver:
            deliver()

    thread = threading.Thread(target=body)
    thread.start()
    thread.join()
