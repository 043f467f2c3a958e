"""What a GPU-hour costs: a small table of list prices with date and source (prices.yaml).

Whole-instance prices are divided by the instance's GPUs. They are facts of their date, not quotations: a
scenario that decides about money should state its own price.
"""

from __future__ import annotations

from functools import cache

from pydantic import BaseModel, ConfigDict, Field

from simulator.catalog.gpus import find_gpu
from simulator.catalog.lookup import CatalogError, read_table, unknown_name


class Price(BaseModel):
    """One row: a GPU in an instance type of a cloud's region."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    gpu: str
    cloud: str
    instance: str
    region: str
    gpus_per_instance: int = Field(gt=0)
    on_demand_usd_per_gpu_h: float | None = Field(ge=0)
    spot_usd_per_gpu_h: float | None = Field(ge=0)
    as_of: str
    source: str


@cache
def prices() -> tuple[Price, ...]:
    """All rows; the first of a GPU is its default."""
    table = read_table("prices.yaml")
    rows = [dict(zip(table["columns"], row, strict=True)) for row in table["rows"]]
    return tuple(Price(**{**row, "source": table["sources"][row["source"]]}) for row in rows)


def find_price(gpu: str, cloud: str | None = None, instance: str | None = None) -> Price:
    """The first row for a GPU, narrowed by cloud and instance type if given.

    Raises:
        CatalogError: unknown GPU; no price for it; or none for that cloud or instance (the error lists them).
    """
    gpu_id = find_gpu(gpu).id
    rows = [row for row in prices() if row.gpu == gpu_id]
    if not rows:
        priced = sorted({row.gpu for row in prices()})
        raise CatalogError(
            f"no price is known for {gpu_id}; state it in the scenario "
            f"(prices are known for {', '.join(priced)})"
        )
    if cloud is not None:
        clouds = {row.cloud for row in rows}
        rows = [row for row in rows if row.cloud == cloud.casefold()]
        if not rows:
            raise unknown_name(f"cloud for {gpu_id}", cloud, clouds)
    if instance is not None:
        instances = {row.instance for row in rows}
        rows = [row for row in rows if row.instance.casefold() == instance.casefold()]
        if not rows:
            raise unknown_name(f"instance type for {gpu_id}", instance, instances)
    return rows[0]
