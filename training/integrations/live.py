"""A study that grows while somebody else's trainer runs: what the workbench's Training page follows.

Mental model. The manifest is written before the first step, ``train.jsonl`` gets a row for each reading (``kind`` ``eval``) and
each line of the trainer's log (``train``), and the answers of the first and the last reading become rows of ``generations``:
the first ones as the arm ``base``. Then it is a study like any other, of one arm and seed; another run adds its own.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from cr_interp.errors import UserError
from cr_interp.files import append_jsonl
from cr_interp.models.loading import Loaded, tokenizer_fingerprint
from cr_interp.provenance import now, provenance
from cr_interp.study.locking import writing
from cr_interp.study.places import is_study
from cr_interp.study.study import Study
from cr_interp.system.names import check_name

from .asked import Asked

#: The split that the rows are said to be of: examples that somebody watches are no test set.
SPLIT = "validation"
#: The trainer's names → the log's.
TRAINED = ("loss", "grad_norm", "learning_rate")


class LiveStudy:
    """One run's part of a study on disk."""

    def __init__(self, path: Path, arm: str, seed: int) -> None:
        self.path, self.arm, self.seed = path, check_name("an arm", arm), seed
        if arm == "base":
            raise UserError("The arm 'base' is the model before training. Call this one otherwise.")
        self._last: tuple[int, list[dict[str, Any]]] | None = None
        self.study: Study | None = None

    def begin(
        self, loaded: Loaded, args: Any, state: Any, examples: list[Asked], max_new_tokens: int, every: int
    ) -> None:
        """Write the manifest, or add this run to the one that is there."""
        with writing(self.path):  # another run may begin in the same study at the same moment
            self.study = self._begun(loaded, args, state, examples, max_new_tokens, every)

    def _begun(
        self, loaded: Loaded, args: Any, state: Any, examples: list[Asked], max_new_tokens: int, every: int
    ) -> Study:
        there: Mapping[str, Any] = {**Study.open(self.path).manifest} if is_study(self.path) else {}
        arms, seeds = there.get("arms") or {}, there.get("seeds") or []
        mine = {"terms": [], "trainer": "somebody's own", "steps": int(state.max_steps)}
        return Study.create(
            self.path,
            {
                "name": self.path.name,
                "created": now(),
                **provenance(),
                **there,
                "task": there.get("task") or f"{len(examples)} examples, watched while training",
                "model": there.get("model") or loaded.name,
                "tokenizer_fingerprint": tokenizer_fingerprint(loaded.tokenizer),
                "arms": {**arms, self.arm: mine},
                "seeds": sorted({*map(int, seeds), self.seed}),
                "training": {
                    "steps": int(state.max_steps),
                    "lr": float(args.learning_rate),
                    "batch_size": int(args.train_batch_size)
                    * int(args.gradient_accumulation_steps)
                    * int(args.world_size),
                },
                "evaluation": {
                    "split": SPLIT,
                    "examples": len(examples),
                    "max_new_tokens": max_new_tokens,
                    "every": every,
                    "decoding": "greedy",
                    "controls": ["exact"],
                },
            },
        )

    def read(self, step: int, numbers: dict[str, float | None], rows: list[dict[str, Any]], first: bool) -> None:
        """Keep a reading."""
        self._append({"kind": "eval", "step": step, **numbers})
        if first and step == 0:
            self._put("base", 0, rows)
        self._last = step, rows

    def trained(self, step: int, logs: dict[str, Any]) -> None:
        """Keep a line of the trainer's log, if it is about the training."""
        if "loss" in logs:
            known = {name: float(logs[name]) for name in TRAINED if logs.get(name) is not None}
            self._append({"kind": "train", "step": step, **known})

    def end(self) -> None:
        """Keep the last answers, and say when."""
        assert self.study is not None
        if self._last is not None:
            self._put(self.arm, *self._last)
        self.study = Study.open(self.path).update_manifest(finished=now())

    def _append(self, row: dict[str, Any]) -> None:
        assert self.study is not None
        append_jsonl(self.study.log_path(self.arm, self.seed), row)

    def _put(self, arm: str, step: int, rows: list[dict[str, Any]]) -> None:
        assert self.study is not None
        table = pd.DataFrame(rows)
        seed = 0 if arm == "base" else self.seed
        named = {"arm": arm, "seed": seed, "step": step, "split": SPLIT}
        self.study.put("generations", table.assign(**named)[[*named, *table.columns]])
