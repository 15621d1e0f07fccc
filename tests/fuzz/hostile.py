"""What somebody might put where a number, a name, a file or a text is expected; and ways to damage bytes, objects and files.

Mental model. A damage is data (a list of small tuples that hypothesis draws and can print), and :func:`done_to` does it: so a
case that fails can be written down and done again.
"""

import os
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

DEEP = {"a": 1}
for _ in range(80):
    DEEP = {"a": DEEP}

#: Values that JSON and YAML can say.
VALUES: list[Any] = [
    None, True, False, 0, -1, 1, 2, 3, 10**6, 10**8, 10**19, -(10**30), 2**63, 0.5,
    1e308, -0.0, 1e-320, float("inf"), float("nan"),
    "", " ", "a", "no", "null", "1", "1e400", "x/y", "../../esc", "..", ".", "a,b", "a=b", "-x", "{prompt}", "{context}",
    "\x1b[2J", "\u202e", "\u2028", "\ufeff", "e\u0301" * 60, "x" * 300, "y" * 5000, "/etc/passwd", "/dev/zero", "~", "~root",
    "builtin:organism-rules", "builtin:nothing", "somebody/model", "https://x.invalid/a", "http://127.0.0.1:1", "<|user|>",
    "<script>alert(1)</script>", "{{ 7 * 7 }}", "$(id)", "(a+)+$", "2026-02-30", "rules:shift", "task.yaml", "outside.txt",
    [], [None], [0], [1, 1], ["opd"], ["opd", "opd"], ["x/y"], [[]], [{}], {}, {"": 0}, {"a": 1}, {"role": "user"}, DEEP,
    "0" * 100, [0] * 200, ["a"] * 200,
]  # fmt: skip

values = st.sampled_from(VALUES)

#: Pieces that mean something to a parser.
PIECES = [
    b"\x00", b"\xff\xfe", b"\xef\xbb\xbf", b"\r", b"\r\n", b"\n\n", b"\t", b"{", b"}", b"[", b"]", b'"', b"'", b":", b",",
    b"&a [*a, *a]", b"*a", b"<<: *a", b"!!python/object/apply:os.system [id]", b"!!binary x", b"!!int x", b"? ", b"---\n",
    b"...\n", b"%YAML 9.9\n", b"# ", b"| ", b"> ", b"[" * 3000, b"{" * 3000, b'{"a":' * 3000, b"- " * 3000, b"9" * 5000,
    b"\\ud800",
    b"\\u0000", b"NaN", b"-Infinity", b"1e999", b"{{", b"{% for a in range(10**9) %}{% endfor %}", b"<|end|>",
    "\u2028".encode(), "\u0085".encode(), "\U0001f600".encode(), b"\xed\xa0\x80", b"\x1b]0;x\x07", b"true", b"null", b"0",
]  # fmt: skip

places = st.floats(0, 1, width=32)
bytes_damage = st.one_of(
    st.tuples(st.just("put"), places, st.sampled_from(PIECES)),
    st.tuples(st.just("over"), places, st.sampled_from(PIECES)),
    st.tuples(st.just("bit"), places, st.integers(0, 7)),
    st.tuples(st.just("cut"), places, places),
    st.tuples(st.just("twice"), places, places),
    st.tuples(st.just("end"), places),
)
#: Of a value in nested dictionaries and lists: where (a number that chooses among all places), and what becomes of it.
object_damage = st.one_of(
    st.tuples(st.just("set"), st.integers(0, 10**6), values),
    st.tuples(st.just("set"), st.integers(0, 10**6), values),
    st.tuples(st.just("drop"), st.integers(0, 10**6)),
    st.tuples(
        st.just("add"), st.integers(0, 10**6), st.sampled_from(["", "a", "x/y", "__class__", "model"]), values
    ),
    st.tuples(st.just("swap"), st.integers(0, 10**6), st.integers(0, 10**6)),
)
file_damage = st.sampled_from(
    ["gone", "empty", "folder", "pipe", "zero", "outside", "loop", "nowhere", "large", "garbage"]
)


def damaged_bytes(data: bytes, damages: list[tuple]) -> bytes:
    for kind, where, *more in damages:
        at = int(where * len(data))
        if kind == "put":
            data = data[:at] + more[0] + data[at:]
        elif kind == "over":
            data = data[:at] + more[0] + data[at + len(more[0]) :]
        elif kind == "bit" and at < len(data):
            data = data[:at] + bytes([data[at] ^ (1 << more[0])]) + data[at + 1 :]
        elif kind == "cut":
            data = data[:at] + data[at + int(more[0] * 40) :]
        elif kind == "twice":
            data = data[:at] + data[at : at + int(more[0] * 200)] + data[at:]
        elif kind == "end":
            data = data[:at]
    return data


def damaged_object(value: Any, damages: list[tuple]) -> Any:
    """``value`` is changed in place, and returned."""
    for kind, where, *more in damages:
        spots = list(_spots(value))
        if not spots:
            continue
        holder, key = spots[where % len(spots)]
        if kind == "set":
            holder[key] = more[0]
        elif kind == "drop":
            del holder[key]
        elif kind == "add" and isinstance(holder, dict):
            holder[more[0]] = more[1]
        elif kind == "swap":
            other, its = spots[more[0] % len(spots)]
            if not (_within(holder[key], other) or _within(other[its], holder)):
                holder[key], other[its] = other[its], holder[key]
    return value


def _spots(value: Any, deep: int = 0):
    for key, inner in list(value.items() if isinstance(value, dict) else enumerate(value)):
        yield value, key
        if isinstance(inner, dict | list) and deep < 12:
            yield from _spots(inner, deep + 1)


def _within(value: Any, holder: Any) -> bool:
    """Would putting ``value`` into ``holder`` make a circle?"""
    if value is holder:
        return True
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return any(_within(each, holder) for each in inner if isinstance(each, dict | list))


def damage_file(file: Path, kind: str, outside: Path) -> None:
    """Put something else in a file's place. ``outside`` is a text that nobody may be shown."""
    file.unlink()
    if kind == "empty":
        file.write_bytes(b"")
    elif kind == "folder":
        file.mkdir()
    elif kind == "pipe":
        os.mkfifo(file)
    elif kind == "zero":
        file.symlink_to("/dev/zero")
    elif kind == "outside":
        file.symlink_to(outside)
    elif kind == "loop":
        file.symlink_to(file.name)
    elif kind == "nowhere":
        file.symlink_to(file.parent / "nowhere")
    elif kind == "large":
        with open(file, "wb") as hole:
            hole.truncate(1 << 40)
    elif kind == "garbage":
        file.write_bytes(bytes(range(256)) * 8)
