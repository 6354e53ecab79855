"""A comparison is the section of one scenario: its servers in turn, under its loads."""

from collections.abc import Iterator, Mapping, Sequence

from benchmarks.budgets import BUDGETS, judge
from benchmarks.chart import cpu_chart
from benchmarks.harness import Measurement, run_rounds
from benchmarks.percentiles import medians
from benchmarks.scenarios import ONE_ROW, Ratio, Scenario
from benchmarks.sections import Effort, Section, kept
from benchmarks.servers import SERVERS

CHART = "cpu_per_request.svg"
_BEFORE = ("load", "server", "CPU µs/request")
_AFTER = ("requests/s", "p50 ms", "p99 ms", "RSS MiB", "others, %")


def compare(scenario: Scenario, effort: Effort) -> Section:
    """Measure `scenario` and judge its budgets. Raises BenchFailed."""
    folder = effort.own(scenario.name)
    site = scenario.prepare(folder)
    wanted = [n for n in scenario.servers if effort.servers is None or n in effort.servers]
    found = run_rounds(
        [SERVERS[name](site) for name in wanted],
        scenario.loads(site, effort.connections, effort.seconds),
        rounds=effort.rounds,
        warm_up_s=1 if effort.quick else 2,
        logs=folder,
        tell=effort.tell,
    )
    middle = sorted(medians(found, labels=2), key=lambda one: scenario.servers.index(one.server))
    return Section(
        scenario.title,
        scenario.text,
        (*_BEFORE, *(ratio.title for ratio in scenario.ratios), *_AFTER),
        list(rows(middle, scenario.ratios)),
        judge(BUDGETS.get(scenario.name, ()), middle),
        charts={CHART: cpu_chart(middle)} if scenario.name == ONE_ROW else {},
        others=[one.others_percent for one in found],
        data=kept(middle, found),
    )


def rows(middle: Sequence[Measurement], ratios: Sequence[Ratio]) -> Iterator[tuple[str, ...]]:
    """The table's cells, load by load."""
    numbers = {(one.server, one.load): one for one in middle}
    for load in dict.fromkeys(one.load for one in middle):
        for one in (m for m in middle if m.load == load):
            yield (
                load,
                one.server,
                f"{one.cpu_us:,.1f}",
                *(_cell(one, numbers, ratio) for ratio in ratios),
                f"{one.requests_per_s:,.0f}",
                f"{one.p50_ms:,.2f}",
                f"{one.p99_ms:,.2f}",
                f"{one.rss_mib:.0f}",
                f"{one.others_percent:.0f}",
            )


def _cell(one: Measurement, numbers: Mapping[tuple[str, str], Measurement], ratio: Ratio) -> str:
    others = [numbers[of, one.load] for of in ratio.of if (of, one.load) in numbers]
    if len(others) < len(ratio.of):
        return ""
    ours, theirs = (sum(getattr(m, ratio.metric) for m in part) for part in ([one], others))
    number = ours / theirs if ratio.way == "over" else theirs / ours
    return f"{number:.2f}" if number < 10 else f"{number:.1f}"
