"""Clocks, power, temperature and memory of a GPU, read in the background through NVML."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, Final

import pyarrow as pa

from calibration.capture_format import DEVICE
from calibration.clock import CaptureClock

_PERIOD_S: Final = 0.2


def driver_version() -> str | None:
    """Version of the GPU's driver; None without NVML."""
    try:
        import pynvml  # noqa: PLC0415

        pynvml.nvmlInit()
        return str(pynvml.nvmlSystemGetDriverVersion())
    except ImportError:
        return None
    except pynvml.NVMLError:
        return None


class DeviceSampler:
    """Samples the first GPU five times a second until stopped.

    Args:
        clock: of the capture.

    Attributes:
        note: why there are no samples, or empty.
    """

    def __init__(self, clock: CaptureClock) -> None:
        self._clock = clock
        self._rows: list[tuple[int | float | None, ...]] = []
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self.note = ""
        try:
            import pynvml  # noqa: PLC0415

            pynvml.nvmlInit()
            handle = pynvml.nvmlDeviceGetHandleByIndex(0)
        except ImportError:
            self.note = "no device samples: nvidia-ml-py is not installed (extra gpu)"
            return
        except pynvml.NVMLError as error:
            self.note = f"no device samples: {error}"
            return
        self._thread = threading.Thread(target=self._sample, args=(pynvml, handle), daemon=True)
        self._thread.start()

    def _sample(self, nvml: Any, handle: Any) -> None:
        def read(query: Callable[..., Any], *arguments: Any) -> Any:
            try:
                return query(handle, *arguments)
            except nvml.NVMLError:
                return None  # this GPU does not tell

        reasons = getattr(nvml, "nvmlDeviceGetCurrentClocksEventReasons", None)
        reasons = reasons or nvml.nvmlDeviceGetCurrentClocksThrottleReasons
        while not self._stop.wait(_PERIOD_S):
            power = read(nvml.nvmlDeviceGetPowerUsage)
            use = read(nvml.nvmlDeviceGetUtilizationRates)
            memory = read(nvml.nvmlDeviceGetMemoryInfo)
            self._rows.append(
                (
                    self._clock.now_us(),
                    read(nvml.nvmlDeviceGetClockInfo, nvml.NVML_CLOCK_SM),
                    read(nvml.nvmlDeviceGetClockInfo, nvml.NVML_CLOCK_MEM),
                    None if power is None else power / 1e3,
                    read(nvml.nvmlDeviceGetTemperature, nvml.NVML_TEMPERATURE_GPU),
                    None if use is None else use.gpu,
                    None if memory is None else memory.used,
                    read(reasons),
                )
            )

    def take(self) -> pa.Table:
        """Samples since the last call."""
        count = len(self._rows)
        rows = self._rows[:count]
        del self._rows[:count]
        columns = list(zip(*rows, strict=True)) if rows else [() for _ in DEVICE]
        arrays = [pa.array(values, field.type) for values, field in zip(columns, DEVICE, strict=True)]
        return pa.Table.from_arrays(arrays, schema=DEVICE)

    def stop(self) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join(timeout=2)
