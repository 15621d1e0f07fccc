"""Try out, in a process of its own, the parts of a model's folder that are programs: its tokenizer, its chat templates, patterns.

Mental model. A tokenizer is a chain of replacements and regular expressions that a native library runs, a template is a
program in Jinja, an adapter's ``target_modules`` a regular expression: each can be written so that it never ends, fills the
memory or aborts the process. Nothing can stop it from inside, so ``bombs.py`` runs this file first, with limits of time and
memory, and what does not come back whole is refused. It imports nothing of the project and prints what is wrong.
"""

import json
import re
import resource
import sys
from pathlib import Path
from typing import Any

#: Seconds of computing and bytes of memory; the largest vocabularies need 3 s and 2 GB.
SECONDS, MEMORY = 30, 4 << 30
#: How many times as long a text may become by replacements, and three short messages by a template, in letters.
GROWTH, RENDERED = 64, 1_000_000
PROBES = (
    "".join(map(chr, range(32, 127))) * 8,
    "a" * 4000,
    " " * 4000,
    "\n" * 2000,
    "1" * 2000,
    "aB" * 2000 + "!",
    "\u00e9\u6f22\u5b57\ufdfa\U0001f600" * 200,
    "a1 " * 1000,
    "'" * 2000 + "x",
    "x\u0301" * 1000,
)
TALKS = (
    [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "One?"}],
    [{"role": "user", "content": "One?"}],
    [
        {"role": "user", "content": "One?"},
        {"role": "assistant", "content": "Two."},
        {"role": "user", "content": "!"},
    ],
)
_REPEATS = ("MAX_REPEAT", "MIN_REPEAT")


class Refused(Exception):
    """A fault, told as the end of a sentence."""


def tokenizer(file: Path) -> None:
    text = file.read_text(encoding="utf-8", errors="replace")
    try:
        told = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise Refused(f"its {file.name} is no JSON that can be read ({type(error).__name__})") from error
    if not isinstance(told, dict):
        raise Refused(f"its {file.name} holds no object")
    probes = list(PROBES)
    for part in ("normalizer", "pre_tokenizer", "decoder"):
        grown = 1.0
        for step in _objects(told.get(part)):
            pattern = step.get("Regex")
            if isinstance(pattern, str) and nested(pattern):
                raise Refused(f"its {part} has the regular expression {pattern[:80]!r}, which can take for ever")
            if step.get("type") == "Replace" and isinstance(step.get("content"), str):
                found = step.get("pattern")
                sought = found.get("String") if isinstance(found, dict) else None
                grown *= max(1.0, len(step["content"]) / max(1, len(sought or "x")))
                probes.append((sought or "") * 200)
            if step.get("type") == "Prepend" and len(str(step.get("prepend"))) > GROWTH:
                grown = GROWTH + 1
        if grown > GROWTH:
            raise Refused(f"its {part} makes a text up to {grown:.3g} times as long")
    from tokenizers import Tokenizer

    try:
        made = Tokenizer.from_str(text)
        for probe in probes:
            made.decode(made.encode(probe).ids[:1000])
    except Exception:
        return  # the loader meets it again, and says it
    except BaseException as error:  # a panic of the native library
        raise Refused(f"its tokenizer breaks the library that runs it ({str(error)[:120]})") from error


def _objects(value: object) -> list[dict]:
    found, waiting = [], [value]
    while waiting:
        each = waiting.pop()
        if isinstance(each, dict):
            found.append(each)
            waiting += each.values()
        elif isinstance(each, list):
            waiting += each
    return found


def nested(pattern: str) -> bool:
    """Tell whether a repetition without end stands inside another, as in ``(a+)+``: then a text can take exponentially long.

    >>> nested(r"(a+)+b"), nested(r"\\\\s*[\\\\r\\\\n]+|\\\\s+(?!\\\\S)|\\\\p{L}+")
    (True, False)
    """
    from re import _parser  # type: ignore[attr-defined]

    plain = re.sub(r"\\[pP](\{[^}]*\}|\w)", "a", pattern)
    try:
        return _endless(_parser.parse(plain, 0), 0)
    except Exception:  # Oniguruma's own notation: only the plainest form is recognised
        return bool(re.search(r"[+*}]\)[?]?[+*{]", plain))


def _endless(parsed: Any, inside: int) -> bool:
    if isinstance(parsed, tuple) and len(parsed) == 2 and str(parsed[0]) in _REPEATS:
        _, most, body = parsed[1]
        inside += int(most) > 100
        return inside > 1 or _endless(body, inside)
    if isinstance(parsed, tuple | list) or hasattr(parsed, "data"):
        return any(_endless(each, inside) for each in getattr(parsed, "data", parsed))
    return False


def templates(folder: Path) -> None:
    found = [file.read_text(encoding="utf-8", errors="replace") for file in sorted(folder.glob("**/*.jinja"))]
    config = folder / "tokenizer_config.json"
    told = json.loads(config.read_text(encoding="utf-8", errors="replace")) if config.is_file() else {}
    given = told.get("chat_template") if isinstance(told, dict) else None
    for each in given if isinstance(given, list) else [given]:
        text = each.get("template") if isinstance(each, dict) else each
        found += [text] if isinstance(text, str) else []
    for text in found:
        _render(text, told)


def _render(text: str, told: dict) -> None:
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    env = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
    )
    env.filters["tojson"] = lambda value, **_: json.dumps(value, default=str)
    env.globals["strftime_now"] = lambda form: form
    tokens = {name: value for name, value in told.items() if name.endswith("_token") and isinstance(value, str)}
    text = re.sub(r"\{%-?\s*(end)?generation\s*-?%\}", "", text)
    for talk in TALKS:
        try:
            made = env.from_string(text).render(messages=talk, add_generation_prompt=True, **tokens)
        except MemoryError as error:
            raise Refused("its chat template fills the memory") from error
        except (Exception, RecursionError):
            continue  # a template may refuse a talk
        if len(made) > RENDERED:
            raise Refused(f"its chat template makes {len(made)} letters of {len(talk)} short messages")


def patterns() -> None:
    asked = json.load(sys.stdin)
    for pattern in asked["patterns"]:
        try:
            known = re.compile(pattern)
        except re.error as error:
            raise Refused(f"its {pattern[:80]!r} is no regular expression ({error})") from error
        for name in asked["names"]:
            known.fullmatch(name)
            known.search(name)


def main() -> int:
    for kind, most in ((resource.RLIMIT_AS, MEMORY), (resource.RLIMIT_CPU, SECONDS), (resource.RLIMIT_CORE, 0)):
        resource.setrlimit(kind, (most, most))
    what, folder = sys.argv[1], Path(sys.argv[2])
    try:
        if what == "patterns":
            patterns()
        else:
            if (folder / "tokenizer.json").is_file():
                tokenizer(folder / "tokenizer.json")
            templates(folder)
    except Refused as refused:
        print(refused)
        return 3
    except MemoryError:
        print("it fills the memory")
        return 3
    return 0


if __name__ == "__main__":
    sys.exit(main())
