"""The bill, in exact integers: rates, meters of pools, statements whose lines sum to their total."""

from simulator.billing.api import ApiBill, ApiPrices
from simulator.billing.money import micro_usd, nano_usd, usd
from simulator.billing.peak import FleetPeak
from simulator.billing.pool_meter import PHASES, Phase, PoolMeter, Use
from simulator.billing.rates import Commitment, PoolRates, PriceSchedule
from simulator.billing.statement import NODE_LINES, Line, Purchase, Statement

__all__ = [
    "NODE_LINES",
    "PHASES",
    "ApiBill",
    "ApiPrices",
    "Commitment",
    "FleetPeak",
    "Line",
    "Phase",
    "PoolMeter",
    "PoolRates",
    "PriceSchedule",
    "Purchase",
    "Statement",
    "Use",
    "micro_usd",
    "nano_usd",
    "usd",
]
