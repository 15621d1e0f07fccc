"""Write the generated pages of the documentation: ``python docs/tools/generate.py`` (what ``make docs`` does first).

Mental model: three kinds of pages. What explains is written by hand in ``docs/``. What reports a result is a template in
``docs/tools/templates``, whose numbers are calls (``results.py``); it is rendered beside the others, and README.md has one
table between two comments. What describes the code (commands, configuration, tables) is made from the code
(``reference.py``) and is not kept in the repository.

A sentence that holds only for certain numbers stands inside ``{% call claim(condition) %} … {% endcall %}``: when the data
no longer say so, nothing is written and the sentence is named.
"""

import argparse
import re
import sys
from pathlib import Path
from textwrap import fill
from typing import Any

from cr_interp.system.house import put_first

put_first()  # training lies beside the package, not in it

import reference
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from cr_interp.errors import UserError

DOCS = Path(__file__).resolve().parent.parent
TEMPLATES = Path(__file__).resolve().parent / "templates"
README = DOCS.parent / "README.md"
NOTE = "\n<!-- Made by docs/tools/generate.py from docs/tools/templates/{name}: change that. -->\n"
WIDTH = 130
TABLE = re.compile(r"(<!-- results -->\n).*?(<!-- end -->)", re.DOTALL)


def claim(condition: bool, caller: Any) -> str:
    """Return a sentence, if it is true of the data."""
    text = " ".join(str(caller()).split())
    if not condition:
        raise UserError(f"The data no longer say: “{text}” Change the sentence in docs/tools/templates.")
    return str(caller())


def environment() -> Environment:
    import mechanism
    import mechanism_runs
    import of_screening
    import results  # reads the studies: only where a page with results is made

    def percents(shares: list[float]) -> str:
        return f"{results.listed(results.percent(each) for each in shares)}{results.NBSP}%"

    made = Environment(
        loader=FileSystemLoader(TEMPLATES),
        undefined=StrictUndefined,
        keep_trailing_newline=True,
        trim_blocks=True,
        lstrip_blocks=True,
        autoescape=False,
    )
    made.globals |= {"claim": claim, "r": results, "m": mechanism, "runs": mechanism_runs, "s": of_screening}
    made.filters |= {
        "pct": lambda share: f"{results.percent(share)}{results.NBSP}%",
        "pcts": percents,
        "pts": lambda share: f"{results.percent(share)} points",
        "num": results.plain,
        "times": results.times,
        "code": results.code,
        "listed": results.listed,
    }
    return made


#: An empty line between two rows of a table, but not between two tables: there a head follows, and the line below it.
APART = re.compile(r"\|\n\n(?=\|)(?!\|[^\n]*\n\|[ :|-]+\|(?:\n|\Z))")


def _tidy(text: str) -> str:
    """Remove the empty lines that a template's own lines leave behind, and fill paragraphs again."""
    blocks = APART.sub("|\n", text.strip()).split("\n\n")
    tidy, fenced = [], False
    for block in filter(str.strip, blocks):
        fenced ^= block.count("```") % 2 == 1
        prose = not fenced and not re.match(r"\s*([#|<!]|```|- |\d+\. |\?\?\?|    )", block)
        tidy.append(
            fill(block.strip(), WIDTH, break_long_words=False, break_on_hyphens=False) if prose else block
        )
    return re.sub(r"\n{3,}", "\n\n", "\n\n".join(tidy)) + "\n"


def rendered() -> dict[Path, str]:
    """Return every page with results, and README.md, as they should be."""
    templates = environment()
    pages = {}
    for name in sorted(templates.list_templates(["md"])):
        if name.startswith("_"):
            continue
        pages[DOCS / name] = _tidy(templates.get_template(name).render()) + NOTE.format(name=name)
    table = templates.get_template("_readme_table.md").render()
    text = README.read_text(encoding="utf-8")
    if not TABLE.search(text):
        raise UserError(f"{README} has no place for its table: <!-- results --> … <!-- end -->.")
    pages[README] = TABLE.sub(lambda found: f"{found[1]}{table}{found[2]}", text)
    return pages


def stale() -> list[Path]:
    """List the pages whose numbers are not those of the bundled studies."""
    return [path for path, text in rendered().items() if not path.is_file() or path.read_text("utf-8") != text]


def main() -> int:
    parser = argparse.ArgumentParser(description="Write the generated pages of the documentation.")
    parser.add_argument("what", nargs="?", choices=["all", "results", "reference"], default="all")
    parser.add_argument("--check", action="store_true", help="only say which pages with results are out of date")
    chosen = parser.parse_args()
    if chosen.check:
        found = stale()
        for path in found:
            print(f"out of date: {path.relative_to(DOCS.parent)} (make results)", file=sys.stderr)
        return 1 if found else 0
    pages: dict[Path, str] = {}
    if chosen.what in ("all", "reference"):
        pages |= {DOCS / "reference" / name: text for name, text in reference.pages().items()}
    if chosen.what in ("all", "results"):
        pages |= rendered()
    for path, text in pages.items():
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
            print(path.relative_to(DOCS.parent))
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
