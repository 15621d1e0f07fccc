"""A report to send: the file that ``cr-interp report`` writes and the app's button saves, as HTML or as Markdown."""

from pathlib import Path
from typing import Literal, get_args

from cr_interp.confined import leads_inside
from cr_interp.errors import UserError, unknown
from cr_interp.files import write_atomic
from cr_interp.report.sections import sections
from cr_interp.study.study import Study
from cr_interp.system.names import check_folder

Format = Literal["html", "md"]
#: Of a report that may lie in the study's folder: none of the study's own files ends so.
ENDINGS = (".html", ".htm", ".md", ".markdown")
#: What a file may have; mail servers and reviewers' systems take so much.
MOST_BYTES = 3_000_000


def report_text(study: Study, form: Format = "html") -> str:
    """Write the report of a study as the text of one file."""
    manifest = study.manifest
    title = f"{manifest.get('name') or study.name}: what the context still does"
    told = [
        str(manifest.get("task") or ""),
        str(manifest.get("model") or ""),
        f"made {str(manifest['created'])[:10]}" if manifest.get("created") else "",
        f"model {str(manifest['model_fingerprint'])[:16]}" if manifest.get("model_fingerprint") else "",
    ]
    about = " · ".join(each for each in told if each)
    made = sections(study)
    if form == "md":
        from cr_interp.report.appendix import appendix

        return appendix(title, about, made)
    from cr_interp.report.page import page

    return page(title, about, made)


def form_of(out: Path, named: str | None = None) -> Format:
    """Choose the format: the one named, else by the file's ending.

    Raises :class:`UserError` for one that is not written here.
    """
    form = named or {".md": "md", ".markdown": "md"}.get(
        out.suffix.lower(), out.suffix.lower().lstrip(".") or "html"
    )
    form = "html" if form == "htm" else form
    if form == "pdf":
        raise UserError(
            "A PDF is not written here, but the HTML prints well: write report.html, open it in a browser and print it to a file."
        )
    if form not in get_args(Format):
        raise unknown("format", form, get_args(Format))
    return "md" if form == "md" else "html"


def write_report(study: Study, out: Path, form: str | None = None) -> Path:
    """Write the report of a study to ``out``, whole or not at all, and return the path.

    Raises :class:`UserError` for an unknown format, a study of which nothing can be reported, and a folder in the file's place.
    """
    chosen = form_of(out, form)
    check_folder(out)
    if out.is_dir():
        raise UserError(f"{out} is a folder. Give a file, such as {out / 'report.html'}.")
    if leads_inside(study.path, out) and out.suffix.lower() not in ENDINGS:
        raise UserError(
            f"{out} is in the study's folder, where only {', '.join(ENDINGS)} are written. Give another file."
        )
    text = report_text(study, chosen).encode("utf-8")
    write_atomic(out, lambda file: file.write(text))
    return out
