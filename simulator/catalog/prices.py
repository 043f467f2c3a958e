"""What a GPU-hour costs: list prices with date and source (prices.yaml), and the rule that picks one of them.

Whole-instance prices are divided by the instance's GPUs. They are facts of their date, not quotations: a
scenario that decides about money should state its own price.

The rule: of the rows that fit what is asked for, the median by price of each cloud's rows, then the median of these
over the clouds. Of an even number of rows it is the dearer of the middle two. The price found is always one that
somebody lists, with its date and source, and no single dear or cheap seller decides.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from simulator.catalog.gpus import find_gpu
from simulator.catalog.lookup import CatalogError, read_table, unknown_name

PriceKind = Literal["on-demand", "spot", "reserved-1y", "reserved-3y"]

_COLUMNS: Final[dict[str, str]] = {
    "on-demand": "on_demand",
    "spot": "spot",
    "reserved-1y": "reserved_1y",
    "reserved-3y": "reserved_3y",
}


class Price(BaseModel):
    """One row: a GPU in an instance type of a cloud. Prices are dollars per GPU and hour.

    Attributes:
        region: None where the price is the same in all, or the source does not say.
        zone: availability zone; None where the price is the same in all of the region.
        reserved_1y: commitment of one year, standard, without upfront payment.
        reserved_3y: the same for three years.
        as_of: date of the price, or of the table that has it; None if the source has none.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    gpu: str
    cloud: str
    instance: str
    region: str | None
    zone: str | None
    gpus_per_instance: int = Field(gt=0)
    on_demand: float | None = Field(ge=0)
    spot: float | None = Field(ge=0)
    reserved_1y: float | None = Field(default=None, ge=0)
    reserved_3y: float | None = Field(default=None, ge=0)
    as_of: str | None
    source: str

    def usd(self, kind: PriceKind) -> float | None:
        """Dollars per GPU-hour of one kind of capacity; None if unknown."""
        value: float | None = getattr(self, _COLUMNS[kind])
        return value

    @property
    def where(self) -> str:
        """Cloud, instance type, region and zone in words."""
        parts = (self.cloud, self.instance, self.region, None if self.zone is None else f"({self.zone})")
        return " ".join(part for part in parts if part is not None)


@dataclass(frozen=True)
class Quote:
    """A price of the catalogue and how it was found.

    Attributes:
        usd_per_gpu_hour: the price.
        row: the row that lists it.
        rule: how the row was picked, in words.
    """

    usd_per_gpu_hour: float
    row: Price
    rule: str


@cache
def prices() -> tuple[Price, ...]:
    """All rows."""
    table = read_table("prices.yaml")
    rows = [dict(zip(table["columns"], row, strict=True)) for row in table["rows"]]
    return tuple(Price(**{**row, "source": table["sources"][row["source"]]}) for row in rows)


def find_price(
    gpu: str,
    kind: PriceKind = "on-demand",
    *,
    cloud: str | None = None,
    region: str | None = None,
    zone: str | None = None,
    instance: str | None = None,
) -> Quote:
    """The price of a GPU-hour by the rule of this module, narrowed by what is given.

    Args:
        gpu: id or name of the GPU.
        kind: of capacity.
        cloud: such as aws.
        region: such as us-east-1; rows that hold for all regions of a cloud fit any.
        zone: availability zone; where no row is of this zone it is left aside.
        instance: instance type.

    Raises:
        CatalogError: unknown GPU, cloud, region or instance type; or no price of this kind (the error says which
            GPUs have one).
    """
    gpu_id = find_gpu(gpu).id
    rows = [row for row in prices() if row.gpu == gpu_id]
    asked = {"cloud": cloud, "instance type": instance, "region": region}
    for what, name in asked.items():
        if name is None or not rows:
            continue
        field = "instance" if what == "instance type" else what
        known = {value for row in rows if (value := getattr(row, field)) is not None}
        fitting = [row for row in rows if _same(getattr(row, field), name)]
        if field == "region":
            fitting += [row for row in rows if row.region is None]
        if not fitting:
            raise unknown_name(f"{what} for {gpu_id}", name, known)
        rows = fitting
    priced = [row for row in rows if row.usd(kind) is not None]
    if zone is not None:
        priced = [row for row in priced if _same(row.zone, zone)] or priced
    if not priced:
        raise _none_known(gpu_id, kind, [name for name in asked.values() if name is not None])
    by_cloud = {name: [row for row in priced if row.cloud == name] for name in {row.cloud for row in priced}}
    middle = [_median(of_cloud, kind) for _, of_cloud in sorted(by_cloud.items())]
    row = _median(middle, kind)
    usd = row.usd(kind)
    assert usd is not None
    if len(by_cloud) > 1:
        rule = f"median of {len(by_cloud)} clouds' {kind} list prices"
    elif len({other.usd(kind) for other in priced}) > 1:
        rule = f"median of {len(priced)} {kind} list prices of {row.cloud}"
    else:
        rule = f"{kind} list price of {row.cloud}"
    return Quote(usd, row, rule)


def _same(value: str | None, name: str) -> bool:
    return value is not None and value.casefold() == name.casefold()


def _median(rows: Sequence[Price], kind: PriceKind) -> Price:
    """The upper median; the first in the table among equals."""
    by_price = sorted(rows, key=lambda row: row.usd(kind) or 0.0)
    usd = by_price[len(by_price) // 2].usd(kind)
    return next(row for row in rows if row.usd(kind) == usd)


def _none_known(gpu_id: str, kind: PriceKind, narrowed: Iterable[str]) -> CatalogError:
    where = " ".join(narrowed)
    known = sorted({row.gpu for row in prices() if row.usd(kind) is not None})
    has = f"{kind} prices are known for {', '.join(known)}" if known else f"none is known of any GPU's {kind}"
    return CatalogError(
        f"no {kind} price is known for {gpu_id}{f' ({where})' if where else ''}; state it in the scenario ({has})"
    )
