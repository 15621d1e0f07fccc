"""Workers get as much of what takes long, at once."""

from types import SimpleNamespace

from dealing import dealt


def file(name: str, tests: int, *marks: str) -> list[SimpleNamespace]:
    def marker(mark: str) -> str | None:
        return mark if mark in marks else None

    return [SimpleNamespace(path=name, number=number, get_closest_marker=marker) for number in range(tests)]


def test_each_part_begins_with_its_share_and_no_test_is_lost():
    quick = [file(f"quick{number}", 7) for number in range(9)]
    slow = [file(f"slow{number}", 4, "slow") for number in range(4)]
    browser = [file("looks", 6, "browser"), file("pages", 5, "browser", "slow")]
    items = [item for each in (*quick, *slow, *browser) for item in each]
    order = dealt(items, 2)
    assert sorted(map(id, order)) == sorted(map(id, items))
    half = len(order) // 2
    assert [order[0].path, order[half].path] == ["looks", "pages"]
    for part in (order[:half], order[half:]):
        names = [item.path[:4] for item in part]
        heavy = [name for name in names if name != "quic"]
        assert names[: len(heavy)] == heavy
        assert names.count("slow") == 8
        for name in {item.path for item in part if not item.path.startswith("quick")}:
            numbers = [item.number for item in part if item.path == name]
            assert numbers == [item.number for item in items if item.path == name]


def test_one_worker_has_all_and_the_longest_come_first():
    items = [*file("quick", 3), *file("slow", 1, "slow"), *file("page", 1, "browser")]
    assert [item.path for item in dealt(items, 1)] == ["page", "slow", "quick", "quick", "quick"]
