"""Models behind a server: their answers in both views as a study. Behaviour only, since a server shows neither states nor ids.

    cr-interp compare base=NAME student=NAME@http://gpu:8001/v1 --engine http://gpu:8000/v1 --task sentiment --out studies/served

Mental model. The same examples, contexts and graders as for a model that is loaded here, the same rows of ``generations``;
what is sent are chat messages, and the server's own template makes tokens of them. What has to have ids or states (fidelity,
invariance, drift, mechanism) is not there, and reports say so. Every answer is on disk as soon as it has come: after a stop, or
after a server that no longer answers, the same command asks only what is missing.
"""

from collections.abc import Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zlib import crc32

import pandas as pd

from cr_interp.errors import UserError, unknown
from cr_interp.measure.continued import has
from cr_interp.measure.drawn import drawn
from cr_interp.measure.evaluate import written
from cr_interp.measure.pairs import arm_and_seed
from cr_interp.measure.settings import Evaluation
from cr_interp.progress import tracked
from cr_interp.provenance import now, provenance
from cr_interp.study.places import is_study
from cr_interp.study.study import Study
from cr_interp.system.digests import changes, digest_of, flat
from cr_interp.system.endpoint import Endpoint, Kept, NoAnswer, Said
from cr_interp.system.names import check_folder
from cr_interp.tasks.base import Example, GivesNewInstruction, TakesTurns, Task, before
from cr_interp.views import EachOwn, Given, NoContext, messages_of

#: Where answers are kept, in the study's folder.
ANSWERS = "served-answers.jsonl"
#: Requests that are on their way at a time; a server batches them.
AT_ONCE = 8


@dataclass(frozen=True)
class Served:
    """A model as a server calls it."""

    name: str
    url: str

    @staticmethod
    def of(where: str, url: str) -> "Served":
        """Parse ``NAME``, at the study's server, or ``NAME@http://…``, at a server of its own."""
        name, at, own = where.partition("@http")
        return Served(name, f"http{own}" if at else url)


def compare_served(
    models: Mapping[str, str],
    task: Task,
    evaluation: Evaluation,
    out: Path,
    url: str,
    no_context: NoContext = "empty_system",
    named: str | None = None,
    again: bool = False,
    timeout: float = 120.0,
    attempts: int = 4,
    pause: float = 2.0,
) -> Study:
    """Ask the models (arm → name) and write a study of their answers; called again, it continues.

    Raises :class:`UserError` for a task with turns, a model that the server does not have, a context that does not reach the
    model, and a folder with a study of something else. If the server does not answer, the error says how many answers are
    kept.
    """
    if isinstance(task, TakesTurns):
        raise UserError(
            f"{task.name} is played in turns, which is not asked of a server here. Load the model (leave --engine out), or take "
            f"a task of single answers."
        )
    check_folder(out)
    contexts = _contexts(task, evaluation)
    examples = drawn(task, evaluation)
    served = {arm: Served.of(where, url) for arm, where in models.items()}
    parts = {
        "task": named or task.name,
        "max_new_tokens": task.max_new_tokens,
        "no_context": no_context,
        "contexts": digest_of({name: each.to_dict() for name, each in contexts.items()}),
        "evaluation data": digest_of([[each.id, each.prompt, each.answer, *_own(each)] for each in examples]),
        **flat(evaluation.told(), "evaluation."),
        **{f"model of {arm}": f"{each.name} at {each.url}" for arm, each in served.items()},
    }
    study = _begun(out, parts, again)
    if study is None:
        study = Study.create(
            out,
            {
                "name": out.name,
                "created": now(),
                "finished": None,
                **provenance(),
                "task": task.name,
                "no_context": no_context,
                "evaluation": evaluation.model_dump(mode="json"),
                "seeds": sorted({arm_and_seed(name)[1] for name in models}),
                "arms": {arm: {"model": each.name, "server": each.url} for arm, each in served.items()},
                "context": contexts["exact"].to_dict(),
                "controls": {name: each.to_dict() for name, each in contexts.items()},
                "engine": {"kind": "server", "url": url, "states": "not seen"},
                "served": parts,
            },
        )
    kept = Kept(out / ANSWERS)
    for arm, each in served.items():
        if has(study, "generations", *arm_and_seed(arm)):
            continue
        endpoint = Endpoint(each.url, timeout, attempts, pause)
        if (there := endpoint.models()) is not None and each.name not in there:
            raise unknown(f"model of {endpoint.url}", each.name, there)
        rows = served_rows(endpoint, each.name, task, examples, contexts, no_context, evaluation, kept, arm)
        study.put("generations", rows)
    return study.update_manifest(finished=now())


def served_rows(
    endpoint: Endpoint,
    model: str,
    task: Task,
    examples: Sequence[Example],
    contexts: Mapping[str, Given],
    no_context: NoContext,
    evaluation: Evaluation,
    kept: Kept,
    arm: str,
) -> pd.DataFrame:
    """Return rows of ``generations`` for one served model: those of :func:`~cr_interp.measure.evaluate.evaluate`, without ids."""
    views: list[tuple[str, str, Given | None]] = [("no_context", "none", None)]
    views += [("with_context", control, context) for control, context in contexts.items()]

    def question(example: Example, context: Given | None, control: str, sample: int) -> dict[str, Any]:
        messages = messages_of(example.prompt, before(example, context), no_context)
        return _question(endpoint, model, messages, task, evaluation, f"{control} {sample} {example.id}")

    asked = [
        (view, control, sample, example, question(example, context, control, sample))
        for view, control, context in views
        for sample in range(evaluation.samples)
        for example in examples
    ]
    said = ask_all(endpoint, [question for *_, question in asked], kept, arm)
    _check_contexts_arrive(asked, said)
    rows: list[dict[str, Any]] = []
    own = any(isinstance(each, EachOwn) for each in contexts.values()) or any(each.history for each in examples)
    for (view, control, sample, example, _), answer in zip(asked, said, strict=True):
        obeys = task.obeys(example, answer.text) if isinstance(task, GivesNewInstruction) else None
        rows.append(
            {
                "arm": arm_and_seed(arm)[0],
                "seed": arm_and_seed(arm)[1],
                "step": 0,
                "split": evaluation.split,
                "example_id": example.id,
                "cluster": example.cluster,
                "view": view,
                "control": control,
                "sample": sample,
                "prompt": example.prompt,
                "answer": example.answer,
                "response": answer.text,
                "response_ids": [],
                "n_tokens": answer.tokens,
                "outcome": task.grade(example, answer.text, answer.truncated),
                "obeys_new": obeys,
                **({"before": written(before(example, contexts.get(control)))} if own else {}),
            }
        )
    return pd.DataFrame(rows)


def _question(
    endpoint: Endpoint, model: str, messages: list[dict[str, str]], task: Task, evaluation: Evaluation, place: str
) -> dict[str, Any]:
    """Make the request. Answers are kept under it, so the server and, for each draw, a seed of its own belong to it."""
    sampled = evaluation.temperature > 0
    draw = crc32(f"{evaluation.seed} {place}".encode()) % 2**31
    return {
        "server": endpoint.url,
        "model": model,
        "messages": messages,
        "options": {
            "max_tokens": task.max_new_tokens,
            "temperature": evaluation.temperature,
            **({"top_p": evaluation.top_p} if sampled and evaluation.top_p else {}),
            **({"top_k": evaluation.top_k} if sampled and evaluation.top_k else {}),
            **({"seed": draw} if sampled else {}),
        },
    }


def ask_all(endpoint: Endpoint, questions: Sequence[dict[str, Any]], kept: Kept, arm: str) -> list[Said]:
    """Ask the questions, and return their answers in order; those that are kept are not asked again.

    Raises :class:`NoAnswer`, once what was on its way has come and is kept.
    """
    missing = [each for each in {digest_of(q): q for q in questions}.values() if kept.of(each) is None]

    def ask(question: dict[str, Any]) -> None:
        said = endpoint.chat(question["model"], question["messages"], **question["options"])
        kept.keep(question, said)

    with ThreadPoolExecutor(AT_ONCE) as pool:
        try:
            for start in tracked(range(0, len(missing), 4 * AT_ONCE), f"{arm}: answers of the server"):
                going = [pool.submit(ask, each) for each in missing[start : start + 4 * AT_ONCE]]
                wait(going, return_when=FIRST_EXCEPTION)
                for each in going:
                    each.result()
        except NoAnswer as error:
            pool.shutdown(wait=True, cancel_futures=True)
            done = sum(kept.of(each) is not None for each in questions)
            raise NoAnswer(
                f"{error} {done} of {len(questions)} answers of {arm} are kept; look at the server, then type the same command: "
                f"it asks only what is missing."
            ) from error
        except BaseException:  # what is on its way is waited for, no more is begun
            pool.shutdown(wait=True, cancel_futures=True)
            raise
    found = [kept.of(each) for each in questions]
    assert None not in found
    return [each for each in found if each is not None]


def _check_contexts_arrive(asked: Sequence[Any], said: Sequence[Said]) -> None:
    """Refuse a context that is not in what the server's template makes of the chat: it reads as many tokens as without."""
    lengths: dict[str, dict[str, int]] = {}
    for (_, control, sample, example, _), answer in zip(asked, said, strict=True):
        if answer.prompt_tokens is not None and sample == 0:
            lengths.setdefault(control, {})[example.id] = answer.prompt_tokens
    plain = lengths.pop("none", {})
    for control, given in lengths.items():
        known = [(given[each], plain[each]) for each in given if each in plain]
        if known and all(one == other for one, other in known):
            raise UserError(
                f"With context '{control}' the server read as many tokens as without, for all {len(known)} prompts: its chat "
                f"template leaves the context out (many drop the system message). Put it into the user's message (splice)."
            )


def _own(example: Example) -> list[Any]:
    """Give what an example alone brings along; nothing for most."""
    brought = example.context and example.context.to_dict(), list(example.history)
    return [brought] if any(brought) else []


def _contexts(task: Task, evaluation: Evaluation) -> dict[str, Given]:
    """Return the task's contexts. Their lengths are matched in words, because the server's tokens are not known here."""
    found = task.contexts(lambda context: sum(len(m["content"].split()) for m in messages_of("x", context)))
    wanted: dict[str, Given] = {name: found[name] for name in evaluation.controls if name in found}
    if "exact" not in wanted:
        raise UserError(f"The controls {list(evaluation.controls)} lack 'exact', which every metric needs.")
    return wanted


def _begun(out: Path, parts: dict[str, Any], again: bool) -> Study | None:
    if not is_study(out):
        return None
    study = Study.open(out)
    before = study.manifest.get("served")
    if again:
        study.table_path("generations").unlink(missing_ok=True)
        (out / ANSWERS).unlink(missing_ok=True)
        return None
    if not isinstance(before, dict):
        raise UserError(f"{out} holds a study that was not asked of a server. Give another folder with --out.")
    if differing := changes(before, parts):
        raise UserError(
            f"The study in {out} was begun with another {', '.join(differing)}. Give another folder with --out, or --again to "
            f"begin this one anew."
        )
    if study.manifest.get("finished"):
        raise UserError(
            f"The study in {out} is finished. Give another folder with --out, or --again to ask everything anew."
        )
    return study
