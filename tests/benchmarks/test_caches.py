"""The benchmark of caches judges what it measured."""

from benchmarks.caches import NONE, REFUSED, SILENT, Answered, judge


def words(refused: float, alone: tuple[float, float, float, float]) -> list[str]:
    told = {name: Answered(name, 0, 1, 40) for name in (NONE, SILENT)}
    told[REFUSED] = Answered(REFUSED, 0, 1, refused)
    return [verdict.word for verdict in judge(told, alone)]


def test_a_cache_that_costs_too_much_misses_its_budgets() -> None:
    assert words(48, (10, 15, 10, 400)) == ["held"] * 5
    assert words(49, (10, 15.1, 10.1, 401)) == ["missed"] * 4 + ["held"]
