"""The order of all tests, for as many workers as there are.

Mental model. With ``--dist worksteal`` the list is cut into equal parts, one for each worker, who runs it from its beginning,
and takes from another's end when it has none left. So each part begins with its share of what takes long (a browser, then what
is marked slow) and ends with what is quick, and workers end together. A file's tests stay together, since they share fixtures.
"""

from collections.abc import Sequence

import pytest

#: What a test of a browser takes, in slow tests.
BROWSER = 4


def dealt(items: Sequence[pytest.Item], workers: int) -> list[pytest.Item]:
    files: dict[object, list[pytest.Item]] = {}
    for item in items:
        files.setdefault(item.path, []).append(item)

    def marked(tests: list[pytest.Item], mark: str) -> int:
        return sum(each.get_closest_marker(mark) is not None for each in tests)

    parts: list[list[pytest.Item]] = [[] for _ in range(workers)]
    loads = [0] * workers
    quick: list[pytest.Item] = []
    for tests in sorted(
        files.values(), key=lambda each: (marked(each, "browser"), marked(each, "slow")), reverse=True
    ):
        load = BROWSER * marked(tests, "browser") + marked(tests, "slow")
        if load:
            place = loads.index(min(loads))
            parts[place] += tests
            loads[place] += load
        else:
            quick += tests
    left = len(items)
    for number, part in enumerate(parts):
        length = left // (workers - number)  # as xdist cuts it
        share = max(0, length - len(part))
        part += quick[:share]
        del quick[:share]
        left -= len(part)
    return [item for part in parts for item in part]
