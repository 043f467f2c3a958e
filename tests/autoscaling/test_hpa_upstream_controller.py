"""The upstream controller's test tables, case by case: passes through `decide` and `record_write`.

Case names are upstream's. A table's standard answer is a rescale with AbleToScale SucceededRescale, ScalingActive
ValidMetricFound and ScalingLimited DesiredWithinRange. As in upstream's own test file, the doubling limit of the path
without behavior is raised to a factor of 8. Not stated here: the controller's own telemetry, its queue and caches,
building quantities, and how many API calls it makes.
"""

from dataclasses import dataclass, field

import pytest

from simulator.autoscaling import hpa_normalize
from simulator.autoscaling.hpa import decide, record_write
from simulator.autoscaling.hpa_normalize import (
    change_in_period,
    limit,
    limit_with_behavior,
    scale_down_limit_with_rules,
    scale_up_limit_with_rules,
    stabilize,
    stabilize_with_behavior,
    store_event,
)
from simulator.autoscaling.hpa_spec import (
    Behavior,
    HpaSpec,
    MetricSpec,
    MetricTarget,
    ScalingPolicy,
    ScalingRules,
    defaulted_rules,
)
from simulator.autoscaling.hpa_types import (
    Condition,
    ExternalValues,
    HpaSnapshot,
    HpaState,
    MetricError,
    ObjectValue,
    PodSamples,
    Recommendation,
    Sample,
    Scale,
    ScaleError,
    ScaleEvent,
)
from simulator.units import PS_PER_S
from tests.autoscaling.upstream import NOW, controller, cpu, make_pods, qps, rules, usage

S = PS_PER_S
STAYS = "AbleToScale:ReadyForNewScale ScalingActive:ValidMetricFound ScalingLimited:-DesiredWithinRange"
OK = "AbleToScale:SucceededRescale ScalingActive:ValidMetricFound ScalingLimited:-DesiredWithinRange"
DISABLED = "AbleToScale:SucceededGetScale ScalingActive:-ScalingDisabled"
FORCED = "AbleToScale:SucceededRescale"
CHEESE = MetricSpec("CheddarCheese", "", MetricTarget())
ERROR = MetricError("something went wrong")
SLEEPS = (Condition("ScaledToZero", True, "ScaledToZero", "", 0),)


def failed(reason):
    return f"AbleToScale:SucceededGetScale ScalingActive:-{reason}"


def limited(reason):
    return f"AbleToScale:SucceededRescale ScalingActive:ValidMetricFound ScalingLimited:{reason}"


@dataclass
class Case:
    """One pass. ``levels`` are per pod in milli-units; requests in milli-cores of the whole pod.

    Conditions in their order as ``Type:Reason``, with a ``-`` before the reason where the status is False.
    """

    name: str
    bounds: tuple
    current: int
    want: int
    levels: list = field(default_factory=list)
    cpu: int = 0
    metrics: tuple = ()
    conditions: str = OK
    status: int | None = None
    requests: list | None = None
    ready: str = ""
    start: str = ""
    phase: str = ""
    deleted: str = ""
    log: tuple | None = None
    behavior: Behavior | None = None
    initial: tuple = ()
    gates: dict = field(default_factory=dict)
    problem: str | None = None
    reading: object = None
    utilization: int | None = None


THREE, FOUR, FIVE, SEVEN = ([1000] * count for count in (3, 4, 5, 7))
UNEVEN = [900, 1000, 1100]
TENTHS = [100, 100, 100]
DOWN = [100, 300, 500, 250, 250]
ON, OFF = {"scale_to_zero": True}, {"scale_to_zero": False}
ZERO_OBJECT = {"metrics": (qps("Object", 15000),), "levels": [20000], "conditions": DISABLED}

CASES = [
    # TestScaleContainerResource
    Case("scale up container resource", (2, 6), 3, 5, [300, 500, 700], metrics=(cpu(30, "container1"),)),
    Case("scale down container resource", (2, 6), 5, 3, DOWN, metrics=(cpu(50, "container2"),), log=()),
    # TestScaleUpUnreadyOrHotCpuNoScale
    Case(
        "unready pods excluded from scaling",
        (2, 6),
        3,
        3,
        [400, 500, 700],
        30,
        conditions=STAYS,
        ready="TFF",
        utilization=40,
    ),
    Case(
        "hot CPU pods excluded from scaling",
        (2, 6),
        3,
        3,
        [400, 500, 700],
        30,
        conditions=STAYS,
        ready="TFF",
        start="chh",
        utilization=40,
    ),
    # TestScaleUpCPU
    Case("scale up", (2, 6), 3, 5, [300, 500, 700], 30),
    Case("scale up with unready pods results in less scale", (2, 6), 3, 4, [300, 500, 700], 30, ready="FTT"),
    Case("scale up with hot cpu pods results in less scale", (2, 6), 3, 4, [300, 500, 700], 30, start="hcc"),
    Case(
        "scale up ignores failed pods",
        (2, 6),
        2,
        4,
        [500, 700],
        30,
        requests=FOUR,
        ready="TTFF",
        phase="RRFF",
    ),
    Case(
        "scale up ignores deletion pods",
        (2, 6),
        2,
        4,
        [500, 700],
        30,
        requests=FOUR,
        ready="TTFF",
        phase="RRRR",
        deleted="..xx",
    ),
    Case(
        "no scale up when all unready pods bring utilization within target",
        (2, 6),
        3,
        3,
        [400, 500, 700],
        30,
        conditions=STAYS,
        ready="TFF",
    ),
    # TestScaleDownCPU
    Case("scale down", (2, 6), 5, 3, DOWN, 50, log=()),
    Case("scale down includes unready pods", (2, 6), 5, 2, DOWN, 50, ready="TTTFF", log=()),
    Case("scale down ignores hot cpu pods", (2, 6), 5, 2, DOWN, 50, start="ccchh", log=()),
    Case(
        "scale down ignores failed pods",
        (2, 6),
        5,
        3,
        DOWN,
        50,
        requests=SEVEN,
        ready="TTTTTFF",
        phase="RRRRRFF",
        log=(),
    ),
    Case(
        "scale down ignores deletion pods",
        (2, 6),
        5,
        3,
        DOWN,
        50,
        requests=SEVEN,
        ready="TTTTTFF",
        phase="RRRRRRR",
        deleted=".....xx",
        log=(),
    ),
    # TestScaleUpCM
    Case("scale up custom metric", (2, 6), 3, 4, [20000, 10000, 30000], metrics=(qps("Pods", 15000),)),
    Case(
        "unready and hot cpu pods do not reduce scale for custom metric",
        (2, 6),
        3,
        6,
        [50000, 10000, 30000],
        metrics=(qps("Pods", 15000),),
        ready="TTF",
        start="cch",
    ),
    Case(
        "unready and hot cpu pods scale to max with scaling limited condition",
        (2, 6),
        3,
        6,
        [50000, 15000, 30000],
        metrics=(qps("Pods", 15000),),
        ready="FTF",
        start="hch",
        conditions=limited("TooManyReplicas"),
    ),
    # TestScaleUpCMObject
    Case("scale up object metric with value target", (2, 6), 3, 4, [20000], metrics=(qps("Object", 15000),)),
    Case(
        "scale up from zero with feature gate enabled",
        (0, 6),
        0,
        2,
        [20000],
        metrics=(qps("Object", 15000),),
        initial=SLEEPS,
        gates=ON,
        conditions=f"ScaledToZero:-NotScaledToZero {OK}",
    ),
    Case(
        "scale up from zero with feature gate disabled",
        (0, 6),
        0,
        0,
        initial=SLEEPS,
        gates=OFF,
        **ZERO_OBJECT,
    ),
    Case(
        "scale up from zero ignores tolerance with feature gate enabled",
        (0, 6),
        0,
        1,
        [1000],
        metrics=(qps("Object", 1000),),
        initial=SLEEPS,
        gates=ON,
        conditions=f"ScaledToZero:-NotScaledToZero {OK}",
    ),
    Case(
        "scale up from zero ignores tolerance with feature gate disabled",
        (0, 6),
        0,
        0,
        [1000],
        metrics=(qps("Object", 1000),),
        initial=SLEEPS,
        gates=OFF,
        conditions=DISABLED,
    ),
    Case(
        "scale up per-pod object metric with average value target",
        (2, 6),
        3,
        4,
        [40000],
        metrics=(qps("ObjectPerPod", 10000),),
    ),
    # TestScaleUpCMExternal
    Case(
        "scale up external metric with value target", (2, 6), 3, 4, [8600], metrics=(qps("External", 6666),)
    ),
    Case(
        "scale up external metric with per-pod average value target",
        (2, 6),
        3,
        4,
        [8600],
        metrics=(qps("ExternalPerPod", 2222),),
    ),
    # TestScaleUpOneMetricInvalid and the like
    Case("ScaleUpOneMetricInvalid", (2, 6), 3, 4, [300, 400, 500], 30, metrics=(CHEESE,)),
    Case(
        "ScaleUpFromZeroOneMetricInvalid, gate on",
        (0, 6),
        0,
        0,
        [300, 400, 500],
        30,
        metrics=(CHEESE,),
        requests=THREE,
        log=(),
        gates=ON,
        conditions=DISABLED,
    ),
    Case(
        "ScaleUpFromZeroOneMetricInvalid, gate off",
        (0, 6),
        0,
        0,
        [300, 400, 500],
        30,
        metrics=(CHEESE,),
        requests=THREE,
        log=(),
        gates=OFF,
        conditions=DISABLED,
    ),
    Case(
        "ScaleDownStabilizeInitialSize",
        (2, 6),
        5,
        5,
        DOWN,
        50,
        conditions=STAYS.replace("ReadyForNewScale", "ScaleDownStabilized"),
    ),
    # TestScaleDownCM
    Case("scale down pods metric", (2, 6), 5, 3, [12000] * 5, metrics=(qps("Pods", 20000),), log=()),
    Case(
        "scale down object metric with value target",
        (2, 6),
        5,
        3,
        [12000],
        metrics=(qps("Object", 20000),),
        log=(),
    ),
    Case(
        "scale down to zero object metric with feature gate enabled",
        (0, 6),
        5,
        0,
        [0],
        metrics=(qps("Object", 20000),),
        log=(),
        gates=ON,
        conditions=f"{OK} ScaledToZero:ScaledToZero",
    ),
    Case(
        "scale down to zero object metric with feature gate disabled",
        (0, 6),
        5,
        0,
        [0],
        metrics=(qps("Object", 20000),),
        log=(),
        gates=OFF,
    ),
    Case(
        "scale down per-pod object metric with average value target",
        (2, 6),
        5,
        3,
        [60000],
        metrics=(qps("ObjectPerPod", 20000),),
        log=(),
    ),
    Case(
        "scale down external metric with value target",
        (2, 6),
        5,
        3,
        [8600],
        metrics=(qps("External", 14400),),
        log=(),
    ),
    Case(
        "scale down to zero external metric with feature gate enabled",
        (0, 6),
        5,
        0,
        [0],
        metrics=(qps("External", 14400),),
        log=(),
        gates=ON,
        conditions=f"{OK} ScaledToZero:ScaledToZero",
    ),
    Case(
        "scale down to zero external metric with feature gate disabled",
        (0, 6),
        5,
        0,
        [0],
        metrics=(qps("External", 14400),),
        log=(),
        gates=OFF,
    ),
    Case(
        "scale down per-pod external metric with average value target",
        (2, 6),
        5,
        3,
        [8600],
        metrics=(qps("ExternalPerPod", 3000),),
        log=(),
    ),
    # Scale to zero
    Case("ScaleUpFromZeroWithoutCondition, gate on", (0, 6), 0, 0, gates=ON, **ZERO_OBJECT),
    Case("ScaleUpFromZeroWithoutCondition, gate off", (0, 6), 0, 0, gates=OFF, **ZERO_OBJECT),
    Case(
        "ScaleUpFromZeroWhenMinReplicasIncreased, gate on",
        (2, 6),
        0,
        2,
        [10000],
        metrics=(qps("Object", 15000),),
        initial=SLEEPS,
        gates=ON,
        conditions=f"ScaledToZero:-NotScaledToZero {limited('TooFewReplicas')}",
    ),
    Case(
        "ScaleUpFromZeroWhenMinReplicasIncreased, gate off",
        (2, 6),
        0,
        0,
        [10000],
        metrics=(qps("Object", 15000),),
        initial=SLEEPS,
        gates=OFF,
        conditions=DISABLED,
    ),
    Case(
        "ScaledToZeroConditionHandledOnNormalRescale, gate on",
        (1, 6),
        3,
        5,
        [300, 500, 700],
        30,
        initial=SLEEPS,
        gates=ON,
        conditions=f"ScaledToZero:-NotScaledToZero {OK}",
    ),
    Case(
        "ScaledToZeroConditionHandledOnNormalRescale, gate off",
        (1, 6),
        3,
        5,
        [300, 500, 700],
        30,
        initial=SLEEPS,
        gates=OFF,
    ),
    Case(
        "ManualScaleToZeroDisablesHPA, gate on",
        (1, 6),
        0,
        0,
        [],
        50,
        requests=[],
        gates=ON,
        conditions=DISABLED,
    ),
    Case(
        "ManualScaleToZeroDisablesHPA, gate off",
        (1, 6),
        0,
        0,
        [],
        50,
        requests=[],
        gates=OFF,
        conditions=DISABLED,
    ),
    # TestTolerance
    Case(
        "CPU resource metric within tolerance",
        (1, 5),
        3,
        3,
        [1010, 1030, 1020],
        100,
        requests=UNEVEN,
        conditions=STAYS,
    ),
    Case(
        "pods metric within tolerance",
        (1, 5),
        3,
        3,
        [20000, 20001, 21000],
        metrics=(qps("Pods", 20000),),
        conditions=STAYS,
    ),
    Case(
        "object metric with value target within tolerance",
        (1, 5),
        3,
        3,
        [20050],
        metrics=(qps("Object", 20000),),
        conditions=STAYS,
    ),
    Case(
        "external metric with value target within tolerance",
        (2, 6),
        4,
        4,
        [8600],
        metrics=(qps("External", 8666),),
        conditions=STAYS,
    ),
    Case(
        "per-pod object metric with average value target within tolerance",
        (2, 6),
        4,
        4,
        [8600],
        metrics=(qps("ObjectPerPod", 2200),),
        conditions=STAYS,
    ),
    Case(
        "per-pod external metric with average value target within tolerance",
        (2, 6),
        4,
        4,
        [8600],
        metrics=(qps("ExternalPerPod", 2200),),
        conditions=STAYS,
    ),
    # TestConfigurableTolerance
    Case(
        "scaling up because of a 1% configurable tolerance",
        (1, 5),
        3,
        4,
        [1010, 1030, 1020],
        100,
        requests=UNEVEN,
        behavior=Behavior(scale_up=ScalingRules(tolerance=0.01)),
        gates={"configurable_tolerance": True},
    ),
    Case(
        "no scale-down because of a 90% configurable tolerance",
        (1, 5),
        3,
        3,
        [300, 300, 300],
        100,
        behavior=Behavior(scale_down=ScalingRules(tolerance=0.9)),
        gates={"configurable_tolerance": True},
        conditions=STAYS,
    ),
    Case(
        "no scaling because of the large default tolerance",
        (1, 5),
        3,
        3,
        [1010, 1030, 1020],
        100,
        requests=UNEVEN,
        gates={"configurable_tolerance": True},
        conditions=STAYS,
    ),
    Case(
        "no scaling because the configurable tolerance is ignored as the feature gate is disabled",
        (1, 5),
        3,
        3,
        [1010, 1030, 1020],
        100,
        requests=UNEVEN,
        behavior=Behavior(scale_up=ScalingRules(tolerance=0.01)),
        gates={"configurable_tolerance": False},
        conditions=STAYS,
    ),
    # TestReplicaLimits
    Case(
        "scale down clamped to min replicas",
        (2, 5),
        3,
        2,
        [10, 95, 10],
        90,
        requests=UNEVEN,
        log=(),
        conditions=limited("TooFewReplicas"),
    ),
    Case(
        "scale down to zero when min replicas is zero",
        (0, 5),
        3,
        0,
        [0, 0, 0],
        90,
        requests=UNEVEN,
        log=(),
        gates=OFF,
    ),
    Case(
        "scale down clamped to min when desired is zero",
        (2, 5),
        3,
        2,
        [0, 0, 0],
        90,
        requests=UNEVEN,
        log=(),
        conditions=limited("TooFewReplicas"),
    ),
    Case("no scaling when spec replicas is zero", (3, 5), 0, 0, [], 90, requests=[], conditions=DISABLED),
    Case("scale up to min when below min replicas", (3, 5), 2, 3, [], 90, requests=[], conditions=FORCED),
    Case("scale down to max when above max replicas", (3, 5), 10, 5, [], 90, requests=[], conditions=FORCED),
    Case(
        "scale up clamped to max replicas",
        (2, 5),
        3,
        5,
        [8000, 9500, 1000],
        90,
        requests=UNEVEN,
        conditions=limited("TooManyReplicas"),
    ),
    # TestMetricsEdgeCases
    Case(
        "superfluous metrics reported",
        (2, 6),
        4,
        6,
        [4000, 9500, 3000, 7000, 3200, 2000],
        100,
        requests=FOUR,
        conditions=limited("TooManyReplicas"),
    ),
    Case("missing metrics from some pods", (2, 6), 4, 3, [400, 95], 100, requests=FOUR, log=()),
    Case(
        "empty metrics from all pods",
        (2, 6),
        4,
        4,
        [],
        100,
        requests=FOUR,
        conditions=failed("FailedGetResourceMetric"),
    ),
    Case(
        "empty CPU requests",
        (1, 5),
        1,
        1,
        [200],
        100,
        requests=[],
        conditions=failed("FailedGetResourceMetric"),
    ),
    # TestEventCreated, TestEventNotCreated
    Case("EventCreated", (1, 5), 1, 2, [200], 50, requests=[200]),
    Case("EventNotCreated", (1, 5), 2, 2, [200, 200], 50, requests=[400, 400], conditions=STAYS),
    # TestCPUScalingEdgeCases
    Case("missing reports from some pods", (1, 5), 4, 2, [200], 50, requests=[200], log=()),
    Case(
        "more replicas than spec no scale",
        (1, 8),
        4,
        4,
        [500] * 5,
        50,
        status=5,
        requests=FIVE,
        conditions=STAYS,
    ),
    # TestUpscaleCap
    Case(
        "capped by scale up rules",
        (1, 100),
        3,
        24,
        [100, 200, 300],
        10,
        requests=TENTHS,
        behavior=Behavior(scale_up=rules(0, 0, 700, 60, 0)),
        conditions=limited("ScaleUpLimit"),
    ),
    Case(
        "capped by max replicas when scale up limit exceeds max",
        (1, 20),
        3,
        20,
        [100, 200, 300],
        10,
        requests=TENTHS,
        behavior=Behavior(scale_up=rules(0, 0, 700, 60, 0)),
        conditions=limited("TooManyReplicas"),
    ),
    # Selectors
    Case(
        "ConditionInvalidSelectorMissing",
        (1, 100),
        3,
        3,
        [100, 200, 300],
        10,
        requests=TENTHS,
        problem="missing",
        conditions=failed("InvalidSelector"),
    ),
    Case(
        "ConditionInvalidSelectorUnparsable",
        (1, 100),
        3,
        3,
        [100, 200, 300],
        10,
        requests=TENTHS,
        problem="unparsable",
        conditions=failed("InvalidSelector"),
    ),
    Case("ConditionNoAmbiguousSelector", (2, 6), 3, 5, [300, 500, 700], 30),
    Case(
        "ConditionAmbiguousSelector, full and partial overlap",
        (2, 6),
        3,
        3,
        [300, 500, 700],
        30,
        problem="ambiguous",
        conditions=failed("AmbiguousSelector"),
    ),
    # TestConditionFailedGetMetrics
    Case(
        "FailedGetResourceMetric",
        (1, 100),
        3,
        3,
        cpu=10,
        requests=TENTHS,
        reading=ERROR,
        conditions=failed("FailedGetResourceMetric"),
    ),
    Case(
        "FailedGetPodsMetric",
        (1, 100),
        3,
        3,
        metrics=(qps("Pods", 15000),),
        reading=ERROR,
        conditions=failed("FailedGetPodsMetric"),
    ),
    Case(
        "FailedGetObjectMetric",
        (1, 100),
        3,
        3,
        metrics=(qps("Object", 15000),),
        reading=ERROR,
        conditions=failed("FailedGetObjectMetric"),
    ),
    Case(
        "FailedGetExternalMetric",
        (1, 100),
        3,
        3,
        metrics=(qps("External", 300),),
        reading=ERROR,
        conditions=failed("FailedGetExternalMetric"),
    ),
    # TestInvalidMetricSourceType
    Case(
        "only invalid metric source type",
        (2, 6),
        3,
        3,
        [20000],
        metrics=(CHEESE,),
        conditions=failed("InvalidMetricSourceType"),
    ),
    Case(
        "no scale down when one metric has invalid source type",
        (2, 6),
        5,
        5,
        DOWN,
        50,
        metrics=(CHEESE,),
        log=(),
        conditions=failed("InvalidMetricSourceType"),
    ),
    # One metric empty
    Case(
        "ScaleUpOneMetricEmpty",
        (2, 6),
        3,
        4,
        [300, 400, 500],
        30,
        metrics=(qps("External", 100),),
        reading=ERROR,
    ),
    Case(
        "NoScaleDownOneMetricEmpty",
        (2, 6),
        5,
        5,
        DOWN,
        50,
        metrics=(qps("External", 1000),),
        reading=ERROR,
        log=(),
        conditions=failed("FailedGetExternalMetric"),
    ),
    # TestScaleTimingBehavior
    Case(
        "no backoff upscale custom metric only",
        (1, 5),
        3,
        4,
        [20000, 10000, 30000],
        metrics=(qps("Pods", 15000),),
    ),
    Case(
        "no backoff upscale custom metric and CPU",
        (1, 5),
        3,
        5,
        [20000, 10000, 30000],
        10,
        metrics=(qps("Pods", 15000),),
        conditions=limited("TooManyReplicas"),
    ),
    Case(
        "stabilize downscale",
        (1, 5),
        4,
        4,
        [50, 50, 50],
        100,
        requests=TENTHS,
        log=((10, 600), (4, 60)),
        conditions=STAYS.replace("ReadyForNewScale", "ScaleDownStabilized"),
    ),
    # TestComputedToleranceAlgImplementation
    Case(
        "ComputedTolerance: beyond",
        (0, 1000),
        10,
        9,
        [150] * 10,
        56,
        requests=[400, 200, 310, 290, 302, 298, 301, 299, 300, 300],
        log=(),
        gates=OFF,
    ),
    Case(
        "ComputedTolerance: within",
        (0, 1000),
        10,
        10,
        [150] * 10,
        55,
        requests=[400, 200, 310, 290, 302, 298, 301, 299, 300, 300],
        log=(),
        gates=OFF,
        conditions=STAYS,
    ),
    # TestScaleRCImmediately
    Case("scale up to min immediately", (2, 6), 1, 2, [0, 0, 0, 0], 50, requests=FOUR, conditions=FORCED),
    Case(
        "scale down to max immediately",
        (2, 5),
        6,
        5,
        [8000, 9500, 1000],
        50,
        requests=UNEVEN,
        conditions=FORCED,
    ),
]


def reading_of(metric, case):
    if metric is CHEESE:
        return None
    if case.reading is not None and metric.type != "Resource":
        return case.reading
    levels = case.levels
    match metric.type:
        case "Resource" | "ContainerResource":
            if case.reading is not None and not case.metrics:
                return case.reading
            return usage([level // 2 for level in levels], timestamp=NOW)
        case "Pods":
            return PodSamples({f"p{index}": Sample(level) for index, level in enumerate(levels)})
        case "Object":
            return ObjectValue(levels[0])
    return ExternalValues(tuple(levels))


def snapshot_of(case):
    status = case.current if case.status is None else case.status
    count = status if case.requests is None else len(case.requests)
    # Upstream gives each of the two containers half of the pod's request and usage.
    requests = [request // 2 for request in (case.requests or [1000] * count)]
    metrics = ((cpu(case.cpu),) if case.cpu else ()) + case.metrics
    return HpaSnapshot(
        HpaSpec(case.bounds[1], case.bounds[0], metrics, case.behavior),
        Scale(case.current, status, case.problem),
        make_pods(
            count, requests, ready=case.ready, start=case.start, phase=case.phase, deleted=case.deleted
        ),
        tuple(reading_of(metric, case) for metric in metrics),
        controller(**case.gates),
    )


def one_pass(case, outcome="written"):
    log = None if case.log is None else tuple(Recommendation(n, NOW - age * S) for n, age in case.log)
    state = HpaState(recommendations=log, conditions=case.initial, desired_replicas=case.current)
    snapshot = snapshot_of(case)
    state, decision = decide(state, snapshot, NOW)
    event = None
    if decision.rescale:
        state, event = record_write(state, snapshot, decision, NOW, outcome)
    return state, decision, event


def shown(conditions):
    return " ".join(f"{c.type}:{'' if c.status else '-'}{c.reason}" for c in conditions)


@pytest.fixture
def raised_limit(monkeypatch):
    monkeypatch.setattr(hpa_normalize, "SCALE_UP_LIMIT_FACTOR", 8)


@pytest.mark.usefixtures("raised_limit")
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_pass(case):
    state, decision, _ = one_pass(case)
    assert decision.rescale == (case.want != case.current)
    if decision.rescale:
        assert decision.desired_replicas == case.want
    assert state.desired_replicas == case.want
    assert shown(state.conditions) == case.conditions
    if case.utilization is not None:
        assert state.current_metrics[0].average_utilization_percent == case.utilization


def case(name):
    return next(entry for entry in CASES if entry.name == name)


def test_event_created():
    _, _, event = one_pass(case("EventCreated"))
    assert event.reason == "SuccessfulRescale"
    assert (
        event.message == "New size: 2; reason: cpu resource utilization (percentage of request) above target"
    )


def test_event_not_created():
    _, decision, event = one_pass(case("EventNotCreated"))
    assert event is None
    assert decision.events == ()


def test_condition_failed_get_scale():
    snapshot = HpaSnapshot(HpaSpec(100, 1, (cpu(10),)), ScaleError("something went wrong"))
    state, decision = decide(HpaState(desired_replicas=3), snapshot, NOW)
    assert shown(state.conditions) == "AbleToScale:-FailedGetScale"
    assert state.desired_replicas == 3
    assert not decision.rescale


FAILED_UPDATE = Case("", (1, 5), 3, 5, [150, 150, 150], 100, requests=TENTHS)


def test_condition_failed_update_scale():
    state, decision, _ = one_pass(FAILED_UPDATE, "failed")
    assert decision.desired_replicas == 5
    assert state.desired_replicas == 3
    assert shown(state.conditions) == (
        "AbleToScale:-FailedUpdateScale ScalingActive:ValidMetricFound ScalingLimited:-DesiredWithinRange"
    )


def test_rescale_with_successful_conflict_retry():
    state, _, event = one_pass(FAILED_UPDATE, "conflict")
    assert state.desired_replicas == 5
    assert event.reason == "SuccessfulRescale"


def test_avoid_unnecessary_updates():
    """A pass that finds what the status already says leaves the conditions as they are, to the times."""
    an_hour_ago = NOW - 3600 * S
    metric = "cpu resource utilization (percentage of request)"
    conditions = (
        Condition(
            "AbleToScale", True, "ReadyForNewScale", "recommended size matches current size", an_hour_ago
        ),
        Condition(
            "ScalingActive",
            True,
            "ValidMetricFound",
            f"the HPA was able to successfully calculate a replica count from {metric}",
            an_hour_ago,
        ),
        Condition(
            "ScalingLimited",
            True,
            "TooFewReplicas",
            "the desired replica count is less than the minimum replica count",
            an_hour_ago,
        ),
    )
    same = Case(
        "", (2, 6), 2, 2, [400, 500, 700], 80, requests=THREE, start="chh", log=(), initial=conditions
    )
    state, decision, _ = one_pass(same)
    assert not decision.rescale
    assert state.conditions == conditions
    assert state.current_metrics[0].average_utilization_percent == 40


# --- limits -------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("raised_limit")
@pytest.mark.parametrize(
    ("current", "desired", "low", "high", "want", "reason"),
    [
        (5, 7, 3, 8, 7, "DesiredWithinRange"),
        (3, 1, 2, 8, 2, "TooFewReplicas"),
        (1, 0, 0, 10, 0, "DesiredWithinRange"),
        (20, 1000, 1, 10, 10, "TooManyReplicas"),
        (3, 1000, 1, 2000, 24, "ScaleUpLimit"),
    ],
)
def test_convert_desired_replicas_with_rules(current, desired, low, high, want, reason):
    limited_to = limit(current, desired, low, high)
    assert (limited_to.replicas, limited_to.reason) == (want, reason)


MIN_OF_TWO = ScalingRules(300, (ScalingPolicy("Pods", 2, 60), ScalingPolicy("Percent", 50, 60)), "Min")


def test_calculate_scale_up_limit_with_scaling_rules():
    assert scale_up_limit_with_rules(1, (), (), MIN_OF_TWO, NOW) == 2


def test_calculate_scale_down_limit_with_behaviors():
    assert scale_down_limit_with_rules(5, (), (), MIN_OF_TWO, NOW) == 3


def spread(changes, period_s):
    """Events in the middles of equal parts of the period, in whole seconds."""
    part = period_s / len(changes)
    ages = [int(period_s - part * (index + 1) + part / 2) for index in range(len(changes))]
    return tuple(ScaleEvent(change, NOW - age * S) for change, age in zip(changes, ages, strict=True))


def rate_case(name, bounds, current, desired, want, reason, up=None, down=None, ups=(), downs=()):
    return pytest.param(bounds, current, desired, want, reason, up, down, ups, downs, id=name)


WIDE = (1, 1000)
RISE, FALL, MIX = [1, 5, 9], [10, 10, 10], [8, 12, 9, 11]
RATES = [
    rate_case("within range", (3, 8), 5, 7, 7, "DesiredWithinRange"),
    rate_case("below minReplicas", (2, 8), 3, 1, 2, "TooFewReplicas"),
    rate_case("within range when minReplicas is 0", (0, 10), 1, 0, 0, "DesiredWithinRange"),
    rate_case("maxReplicas below scaleUpLimit", (1, 10), 20, 1000, 10, "TooManyReplicas"),
    rate_case("more than the maximum", (100, 150), 100, 1000, 150, "TooManyReplicas"),
    rate_case("user policies", (1, 2000), 3, 1000, 4, "ScaleUpLimit", (0, 0, 1, 60, 0)),
    rate_case("up with default behavior", WIDE, 10, 50, 20, "ScaleUpLimit"),
    rate_case("up, pods over percent", WIDE, 10, 500, 110, "ScaleUpLimit", (100, 60, 100, 60, 0)),
    rate_case("up, percent over pods", WIDE, 10, 500, 20, "ScaleUpLimit", (2, 60, 100, 60, 0)),
    rate_case("up, large pod policy", WIDE, 10, 50, 50, "DesiredWithinRange", (100, 60, 0, 0, 0)),
    rate_case("up, large percent policy", WIDE, 10, 50, 50, "DesiredWithinRange", (10000, 60, 0, 0, 0)),
    rate_case("up, pod policy limitation", WIDE, 10, 50, 40, "ScaleUpLimit", (30, 60, 0, 0, 0)),
    rate_case("up, percent policy limitation", WIDE, 10, 50, 30, "ScaleUpLimit", (0, 0, 200, 60, 0)),
    rate_case("down, percent over pods", WIDE, 100, 2, 80, "ScaleDownLimit", None, (20, 60, 1, 60, 300)),
    rate_case("down, pods over percent", WIDE, 100, 2, 98, "ScaleDownLimit", None, (2, 60, 1, 60, 300)),
    rate_case("down, large pod policy", WIDE, 10, 0, 1, "TooFewReplicas", None, (100, 60, 0, 0, 300)),
    rate_case("down, large percent", (5, 1000), 10, 2, 5, "TooFewReplicas", None, (0, 0, 100, 60, 300)),
    rate_case("down, pod policy limitation", WIDE, 10, 2, 5, "ScaleDownLimit", None, (5, 60, 0, 0, 300)),
    rate_case("down, percent limitation", WIDE, 10, 5, 5, "DesiredWithinRange", None, (0, 0, 50, 60, 300)),
    rate_case(
        "up, large pod policy and events",
        (1, 200),
        100,
        500,
        200,
        "TooManyReplicas",
        (300, 60, 0, 0, 0),
        ups=RISE,
    ),
    rate_case(
        "up, large percent policy and events",
        (1, 200),
        100,
        500,
        200,
        "TooManyReplicas",
        (0, 0, 10000, 60, 0),
        ups=RISE,
    ),
    rate_case("up, recent events", WIDE, 100, 500, 100, "ScaleUpLimit", (5, 120, 0, 0, 0), ups=RISE),
    rate_case("up, pods and events", WIDE, 100, 500, 235, "ScaleUpLimit", (150, 120, 0, 0, 0), ups=RISE),
    rate_case("up, percent and events", WIDE, 100, 500, 255, "ScaleUpLimit", (0, 0, 200, 120, 0), ups=RISE),
    rate_case(
        "up, events both ways", WIDE, 6, 24, 16, "ScaleUpLimit", (0, 0, 300, 300, 0), ups=[4], downs=[2]
    ),
    rate_case("down, default and events", WIDE, 10, 5, 5, "DesiredWithinRange", downs=RISE),
    rate_case(
        "down, minReplicas nil", WIDE, 100, 0, 1, "TooFewReplicas", None, (115, 120, 0, 0, 300), downs=RISE
    ),
    rate_case(
        "down, large pods and events",
        (5, 1000),
        100,
        0,
        5,
        "TooFewReplicas",
        None,
        (130, 120, 0, 0, 300),
        downs=RISE,
    ),
    rate_case(
        "down, large percent and events",
        (5, 1000),
        100,
        2,
        5,
        "TooFewReplicas",
        None,
        (0, 0, 100, 120, 300),
        downs=RISE,
    ),
    rate_case(
        "down, pods and events", WIDE, 100, 2, 100, "ScaleDownLimit", None, (5, 120, 0, 0, 300), downs=RISE
    ),
    rate_case(
        "down, percent and events",
        WIDE,
        100,
        0,
        56,
        "ScaleDownLimit",
        None,
        (0, 0, 50, 120, 300),
        downs=[2, 4, 6],
    ),
    rate_case(
        "down, events both ways",
        WIDE,
        10,
        1,
        6,
        "ScaleDownLimit",
        None,
        (0, 0, 50, 180, 0),
        ups=[2],
        downs=[4],
    ),
    rate_case(
        "down, events prevent more",
        WIDE,
        100,
        0,
        100,
        "ScaleDownLimit",
        None,
        (0, 0, 10, 120, 300),
        downs=FALL,
    ),
    rate_case(
        "down, events still allow more",
        WIDE,
        10,
        5,
        5,
        "DesiredWithinRange",
        None,
        (0, 0, 1000, 120, 300),
        downs=FALL,
    ),
    rate_case("up, outdated, one", WIDE, 100, 200, 200, "DesiredWithinRange", (1000, 60, 0, 0, 0), ups=MIX),
    rate_case(
        "up, not outdated, two", WIDE, 100, 200, 200, "DesiredWithinRange", (1000, 120, 100, 60, 0), ups=MIX
    ),
    rate_case(
        "up, outdated, two", WIDE, 100, 200, 200, "DesiredWithinRange", (1000, 30, 100, 60, 0), ups=MIX
    ),
    rate_case(
        "down, outdated, one", WIDE, 100, 5, 5, "DesiredWithinRange", None, (1000, 60, 0, 0, 300), downs=MIX
    ),
    rate_case(
        "down, not outdated, two",
        WIDE,
        100,
        5,
        5,
        "DesiredWithinRange",
        None,
        (1000, 120, 100, 60, 300),
        downs=MIX,
    ),
    rate_case(
        "down, outdated, two",
        WIDE,
        100,
        5,
        5,
        "DesiredWithinRange",
        None,
        (1000, 30, 100, 60, 300),
        downs=MIX,
    ),
]


@pytest.mark.parametrize(
    ("bounds", "current", "desired", "want", "reason", "up", "down", "ups", "downs"), RATES
)
def test_scaling_with_rules(bounds, current, desired, want, reason, up, down, ups, downs):
    behavior = Behavior(None if up is None else rules(*up), None if down is None else rules(*down))
    up_rules, down_rules = defaulted_rules(behavior, 300)
    up_events, down_events = (spread(changes, 120) if changes else () for changes in (ups, downs))
    found = limit_with_behavior(current, desired, *bounds, up_rules, down_rules, up_events, down_events, NOW)
    assert (found.replicas, found.reason) == (want, reason)


# --- scale events -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("before", "policies", "change", "after"),
    [
        pytest.param([], (10, 60, 100, 60, 0), 0, [(5, False)], id="empty entries with two-policy-behavior"),
        pytest.param(
            [(7, 61)], (10, 60, 100, 60, 0), 0, [(5, False)], id="one outdated entry to be replaced"
        ),
        pytest.param(
            [(7, 58)], (10, 60, 100, 60, 0), 7, [(7, False), (5, False)], id="one actual entry not touched"
        ),
        pytest.param(
            [(7, 61), (6, 59)],
            (10, 60, 0, 0, 0),
            6,
            [(5, False), (6, False)],
            id="two entries, one of them to be replaced",
        ),
        pytest.param(
            [(8, 29), (6, 59), (7, 61), (9, 61)],
            (10, 60, 100, 30, 0),
            14,
            [(8, False), (6, False), (7, True), (5, False)],
            id="replace one entry, use policies with different periods",
        ),
        pytest.param(
            [(7, 58), (6, 59)],
            (10, 120, 100, 30, 0),
            13,
            [(7, False), (6, False), (5, False)],
            id="two entries, both actual",
        ),
    ],
)
def test_store_scale_events(before, policies, change, after):
    events = tuple(ScaleEvent(size, NOW - age * S) for size, age in before)
    assert change_in_period(events, 60, NOW) == change
    stored = store_event(events, 5, rules(*policies), NOW)
    assert [(event.change, event.outdated) for event in stored] == after


@pytest.mark.parametrize("events", [(), (ScaleEvent(7, NOW - 61 * S),)])
def test_no_events_are_stored_without_behavior(events):
    rescaled = Case("", (1, 5), 1, 2, [200], 50, requests=[200])
    snapshot = snapshot_of(rescaled)
    state, decision = decide(HpaState(scale_up_events=events), snapshot, NOW)
    state, _ = record_write(state, snapshot, decision, NOW)
    assert state.scale_up_events == events


# --- stabilisation ------------------------------------------------------------------------------------------


def log_of(*entries):
    """(replicas, minutes ago)."""
    return tuple(Recommendation(replicas, NOW - minutes * 60 * S) for replicas, minutes in entries)


@pytest.mark.parametrize(
    ("log", "proposal", "want", "length"),
    [
        pytest.param((), 5, 5, 1, id="empty log"),
        pytest.param(log_of((4, 2), (5, 1)), 3, 5, 3, id="stabilize"),
        pytest.param(log_of((1, 2), (2, 1)), 3, 3, 3, id="no stabilize"),
        pytest.param(log_of((10, 10), (9, 9)), 3, 3, 2, id="no stabilize - old recommendations"),
        pytest.param(log_of((10, 10), (4, 1), (5, 2), (9, 9)), 3, 5, 4, id="stabilize - old recommendations"),
    ],
)
def test_normalize_desired_replicas(log, proposal, want, length):
    found = stabilize(proposal, log, 300 * S, NOW)
    assert found.replicas == want
    assert len(found.recommendations) == length


@pytest.mark.parametrize(
    ("log", "current", "proposal", "up_s", "down_s", "want", "after"),
    [
        pytest.param((), 100, 5, 0, 0, 5, [5], id="empty recommendations for scaling down"),
        pytest.param(
            log_of((4, 2), (5, 1)), 100, 3, 0, 180, 5, [4, 5, 3], id="simple scale down stabilization"
        ),
        pytest.param(log_of((4, 2), (5, 1)), 1, 7, 300, 0, 4, [4, 5, 7], id="simple scale up stabilization"),
        pytest.param(log_of((1, 2), (2, 1)), 100, 3, 300, 0, 3, [1, 2, 3], id="no scale down stabilization"),
        pytest.param(log_of((4, 2), (5, 1)), 1, 3, 0, 300, 3, [4, 5, 3], id="no scale up stabilization"),
        pytest.param(log_of((10, 10), (9, 9)), 100, 3, 0, 0, 3, [10, 3], id="no scale down, reuse element"),
        pytest.param(log_of((10, 10), (9, 9)), 1, 100, 0, 0, 100, [10, 100], id="no scale up, reuse element"),
        pytest.param(
            log_of((10, 10), (4, 1), (5, 2), (9, 9)),
            100,
            3,
            0,
            180,
            5,
            [10, 4, 5, 3],
            id="scale down stabilization, reuse one of obsolete",
        ),
        pytest.param(
            log_of((10, 100), (6, 1), (5, 2), (9, 3)),
            1,
            100,
            300,
            0,
            5,
            [100, 6, 5, 9],
            id="scale up stabilization, reuse one of obsolete",
        ),
        pytest.param(
            log_of((2, 100), (3, 3)),
            2,
            1,
            300,
            300,
            2,
            None,
            id="do not scale up when the proposal goes down",
        ),
        pytest.param(
            log_of((2, 100), (1, 3)),
            2,
            3,
            300,
            300,
            2,
            None,
            id="do not scale down when the proposal goes up",
        ),
    ],
)
def test_normalize_desired_replicas_with_behavior(log, current, proposal, up_s, down_s, want, after):
    found = stabilize_with_behavior(current, proposal, log, up_s * S, down_s * S, NOW)
    assert found.replicas == want
    if after is not None:
        assert [entry.replicas for entry in found.recommendations] == after
