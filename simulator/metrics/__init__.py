"""From records to the summary."""

from simulator.metrics.conservation import ConservationError, check_conservation
from simulator.metrics.facts import PoolLedger, PriceFacts, RunFacts, StepTimeTrust
from simulator.metrics.summary import summarise

__all__ = [
    "ConservationError",
    "PoolLedger",
    "PriceFacts",
    "RunFacts",
    "StepTimeTrust",
    "check_conservation",
    "summarise",
]
