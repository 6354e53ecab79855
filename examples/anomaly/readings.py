"""Print readings of three pumps as lines of JSON; one is stuck, one runs hot, one shakes.

    python -m examples.anomaly.readings [--seconds 1200] [--healthy]

All of it is made up, and the same each time.
"""

import argparse
import json
import math
import random
from collections.abc import Iterator
from typing import Any

PUMPS = ("north", "south", "west")
BEGIN = 1_760_000_000


def readings(seconds: int, *, healthy: bool = False) -> Iterator[dict[str, Any]]:
    """Readings in the order in which they come, one of each pump a second, for `seconds`.

    Unless all are `healthy`, north's thermometer is stuck for a tenth of the time from a quarter
    on, south gets hotter by a degree in four seconds from the half on, as long, and west shakes in
    the last quarter.
    """
    draw = random.Random(1 if healthy else 2)
    stuck = 0.0
    for second in range(seconds):
        part = second / seconds
        for number, pump in enumerate(PUMPS):
            temperature = 60 + 4 * math.sin(second / 90 + number) + draw.gauss(0, 0.4)
            vibration = 2 + 0.3 * math.sin(second / 40 + number) + abs(draw.gauss(0, 0.2))
            if not healthy:
                if pump == "north" and 0.25 <= part < 0.35:
                    temperature = stuck = stuck or temperature
                if pump == "south" and 0.5 <= part < 0.6:
                    temperature += (part - 0.5) * seconds / 4
                if pump == "west" and part >= 0.75 and second % 60 < 12:
                    vibration += 4
            yield {
                "pump": pump,
                "at": BEGIN + second,
                "temperature": round(temperature, 2),
                "vibration": round(vibration, 3),
            }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seconds", type=int, default=1200, help="how long they run")
    parser.add_argument("--healthy", action="store_true", help="nothing goes wrong")
    told = parser.parse_args()
    for reading in readings(told.seconds, healthy=told.healthy):
        print(json.dumps(reading))


if __name__ == "__main__":
    main()
