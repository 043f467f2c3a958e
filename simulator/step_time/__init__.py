"""How long one engine step takes: profiles, the roofline, and the number of KV blocks."""

from simulator.step_time.kv_blocks import DoesNotFitError, num_kv_blocks
from simulator.step_time.perturb import perturbed
from simulator.step_time.profile import (
    FrontEnd,
    KvCacheRecord,
    ProfileError,
    StepTimeProfile,
    dump_profile,
    load_profile,
)
from simulator.step_time.roofline import roofline_profile
from simulator.step_time.select import ResolvedStepTime, best_shipped, load_step_time, shipped_profiles
from simulator.step_time.tables import ProfileStepTime

__all__ = [
    "DoesNotFitError",
    "FrontEnd",
    "KvCacheRecord",
    "ProfileError",
    "ProfileStepTime",
    "ResolvedStepTime",
    "StepTimeProfile",
    "best_shipped",
    "dump_profile",
    "load_profile",
    "load_step_time",
    "num_kv_blocks",
    "perturbed",
    "roofline_profile",
    "shipped_profiles",
]
