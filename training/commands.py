"""The commands that train: ``pretrain``, ``plan``, ``distill``, ``reproduce``, and ``evaluate`` and ``capture`` of a study."""

import json
from pathlib import Path
from typing import Annotated

import typer

from cr_interp.commands.typed import listed, whole_numbers
from cr_interp.errors import UserError, unknown
from cr_interp.study.places import RUNS
from cr_interp.system.shown import console as terminal
from cr_interp.system.visible import one_line

console = terminal()

#: What ``reproduce`` runs: a name and its configurations, one study each.
REPRODUCTIONS = {
    "organism": ("organism-shift", "organism-swap"),
    "smollm2": ("smollm2-sentiment", "smollm2-wordclass", "smollm2-explained"),
}


def register(app: typer.Typer) -> None:
    """Give the command line the commands that train; ``cr_interp.cli`` calls this."""
    for command in (pretrain, plan, distill, reproduce, suite, evaluate, capture):
        app.command()(command)


#: Results are never mixed: without this they are refused, and with it they make room.
Again = Annotated[
    bool,
    typer.Option(
        "--again", help="discard results that were made with other settings, code or data, and make them anew"
    ),
]


def _chosen(arms: str | None, seeds: str | None, steps: int | None) -> list[str]:
    """Write out options that are short for overrides."""
    numbers = whole_numbers(seeds, "--seeds")
    # Quoted, so that an arm may be called what YAML has another meaning for.
    overrides = [f"arms={json.dumps(listed(arms))}"] if arms else []
    overrides += [f"seeds={json.dumps(numbers)}"] if seeds else []
    return overrides + ([f"training.steps={steps}"] if steps is not None else [])


def pretrain(
    organism: Annotated[
        str, typer.Argument(help="llama, qwen3, gemma2, gpt-neox, qwen3-large, qwen3-lakes or qwen3-lakes-large")
    ] = "llama",
    out: Annotated[Path | None, typer.Option(help="default: ./organisms/ORGANISM")] = None,
    steps: Annotated[
        int | None, typer.Option(min=1, max=10**8, help="updates; default: those of its recipe")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, max=2**32 - 1, help="of weights and lessons")] = 0,
    threads: Annotated[int, typer.Option(min=1, max=4096, help="of the CPU")] = 1,
    compiled: Annotated[bool, typer.Option("--compile", help="a quarter faster; wants a C++ compiler")] = False,
) -> None:
    """Make an organism's weights from nothing, with a card that says how well it follows each context."""
    from training.organisms import ORGANISMS

    if organism not in ORGANISMS:
        raise unknown("organism", organism, ORGANISMS)
    from training.organisms.card import write_card
    from training.organisms.pretrain import PretrainConfig
    from training.organisms.pretrain import pretrain as run
    from training.run.cores import use_threads

    use_threads(threads)
    config = PretrainConfig.of(organism, seed=seed, **({"steps": steps} if steps else {}))
    target = out or Path("organisms") / organism
    run(config, target, compiled)
    write_card(config, target, threads, compiled)
    console.print(f"{target}: {(target / 'README.md').read_text(encoding='utf-8')}")


def plan(
    config: Annotated[
        str, typer.Argument(help="a file, or a name in training/configs, such as paper/medmcqa-qwen3-8b")
    ],
    overrides: Annotated[
        list[str] | None, typer.Argument(help="key=value …, such as training.batch_size=64")
    ] = None,
    gpu: Annotated[str, typer.Option(help="the kind whose memory is shown by part")] = "H100-80GB",
    gpus: Annotated[
        int | None, typer.Option(min=1, max=10**6, help="how many; default: the fewest that do")
    ] = None,
    prompt_tokens: Annotated[
        int | None, typer.Option(min=1, max=10**8, help="of a prompt, or of what a turn adds to it; default: 256")
    ] = None,
    context_tokens: Annotated[
        int | None, typer.Option(min=0, max=10**8, help="default: context_cap, or 512")
    ] = None,
    response_tokens: Annotated[
        int | None, typer.Option(min=1, max=10**8, help="default: as long as they may be")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="all numbers, in bytes, operations and hours")] = False,
) -> None:
    """Say what a configuration needs (memory, work, hours) and check it; downloads nothing. Exit code 1 for a problem."""
    from training.planning.plan import make_plan
    from training.planning.plan_report import plan_text
    from training.settings import load_config

    made = make_plan(load_config(config, overrides), gpu, gpus, prompt_tokens, context_tokens, response_tokens)
    if as_json:
        print(json.dumps(made.to_dict(), indent=1))
    else:
        console.print(plan_text(made))
    if made.problems:
        raise SystemExit(1)


def distill(
    config: Annotated[str, typer.Argument(help="a file, or a name in training/configs")],
    overrides: Annotated[list[str] | None, typer.Argument(help="key=value …, such as training.lr=1e-4")] = None,
    arms: Annotated[str | None, typer.Option(help="a list, such as opd,nca")] = None,
    seeds: Annotated[str | None, typer.Option(help="a list, such as 0,1,2")] = None,
    out: Annotated[Path | None, typer.Option(help="the study's folder; default ./studies/NAME")] = None,
    resume: Annotated[bool, typer.Option(help="continue runs that were stopped")] = False,
    workers: Annotated[
        int | None,
        typer.Option(min=1, max=4096, help="runs at a time; default: one a GPU, or as the cores allow"),
    ] = None,
    in_process: Annotated[bool, typer.Option(help="one after the other in this process")] = False,
    again: Again = False,
) -> None:
    """Distil a configuration's arms × seeds into a study."""
    from training.settings import load_config

    chosen = load_config(
        config, [*_chosen(arms, seeds, None), *(overrides or [])]
    )  # before the seconds that torch takes
    from training.run import parallel
    from training.run.checkpoints import folders
    from training.run.distill import distill as run
    from training.studies.pipeline import open_or_create
    from training.studies.workers import run_all

    path = out or Path("studies") / chosen.name
    parallel.join()
    with parallel.main_first():
        study = open_or_create(chosen, path, again)
    started = [(a, s) for a in chosen.arms for s in chosen.seeds if folders(study.run_path(a, s))]
    if started and not resume:
        raise UserError(
            f"{path} already holds checkpoints of {', '.join(f'{a} seed {s}' for a, s in started)}. Continue them with "
            f"--resume, or give another folder with --out."
        )
    if in_process or parallel.processes() > 1:
        for arm in chosen.arms:
            for seed in chosen.seeds:
                run(chosen, arm, seed, study)
    else:
        run_all(chosen, study, workers)
    if parallel.is_main():
        console.print(f"Checkpoints are in {path / RUNS}.")


def reproduce(
    what: Annotated[str, typer.Argument(help="organism, smollm2, or the name of one configuration")],
    overrides: Annotated[list[str] | None, typer.Argument(help="key=value …")] = None,
    arms: Annotated[
        str | None, typer.Option(help="a list, such as opd,nca; default: the configuration's")
    ] = None,
    seeds: Annotated[str | None, typer.Option(help="a list, such as 0,1,2; default: the configuration's")] = None,
    steps: Annotated[
        int | None, typer.Option(min=1, max=10**8, help="updates of a run; default: the configuration's")
    ] = None,
    out: Annotated[Path, typer.Option(help="folder of the studies")] = Path("studies"),
    workers: Annotated[
        int | None,
        typer.Option(min=1, max=4096, help="runs at a time; default: one a GPU, or as the cores allow"),
    ] = None,
    again: Again = False,
) -> None:
    """Distil, evaluate, capture, and print the table. Typed again, it continues where it was stopped."""
    from training.settings import config_names, load_config

    if what not in REPRODUCTIONS and what not in config_names() and not Path(what).is_file():
        raise unknown("reproduction", what, [*REPRODUCTIONS, *config_names()])
    chosen = [*_chosen(arms, seeds, steps), *(overrides or [])]
    configs = [load_config(name, chosen) for name in REPRODUCTIONS.get(what, (what,))]
    from cr_interp.report.study import rich_study
    from training.studies.pipeline import reproduce as run

    for config in configs:
        study = run(config, out / config.name, workers, again)
        console.print(rich_study(study))


def suite(
    overrides: Annotated[
        list[str] | None, typer.Argument(help="key=value …, for every setting, such as training.lr=1e-3")
    ] = None,
    settings: Annotated[
        str | None, typer.Option(help="a list, such as rules-llama,sokoban-self; default: all")
    ] = None,
    arms: Annotated[str | None, typer.Option(help="a list; default: each setting's own")] = None,
    seeds: Annotated[str | None, typer.Option(help="a list; default: 0,1,2")] = None,
    out: Annotated[Path, typer.Option(help="the suite's folder, a study for each setting")] = Path(
        "studies/suite"
    ),
    workers: Annotated[
        int | None,
        typer.Option(min=1, max=4096, help="jobs at a time; default: one a GPU, or as the cores allow"),
    ] = None,
    tune: Annotated[
        bool, typer.Option("--tune", help="only choose the learning rates, with opd on the validation split")
    ] = False,
    preregistration: Annotated[
        str | None,
        typer.Option(help="a file, or a name in training/preregistrations, with --screen or --confirm"),
    ] = None,
    screening: Annotated[
        bool, typer.Option("--screen", help="only train the baseline of every candidate, and choose the settings")
    ] = False,
    choosing: Annotated[
        bool, typer.Option("--choose", help="only compare the forms of the adaptive arm, on the screening seeds")
    ] = False,
    confirming: Annotated[bool, typer.Option("--confirm", help="run every arm on the chosen settings")] = False,
    again: Again = False,
) -> None:
    """Run the twelve settings of the paper's table on organisms, or what a preregistration says. Typed again, it continues."""
    parts = [
        name for name, asked in (("screen", screening), ("choose", choosing), ("confirm", confirming)) if asked
    ]
    if preregistration or parts:
        if not preregistration or len(parts) != 1 or overrides or arms or seeds or tune or again:
            raise UserError(
                "A preregistration says everything itself: --preregistration FILE and one of --screen, --choose and --confirm, "
                "beside them only --out, --workers and, for --screen, --settings."
            )
        _preregistered(preregistration, parts[0], listed(settings), out, workers)
        return
    from training.settings import suite_configs

    if tune and out.name in ("", ".."):
        raise UserError(
            f"--tune writes beside --out, into NAME-tuning; {out} has no name. Give one, such as studies/suite."
        )
    if tune and overrides:
        raise UserError(f"--tune chooses the learning rates itself; leave out {' '.join(overrides)}.")
    configs = suite_configs(listed(settings), listed(arms), [*_chosen(None, seeds, None), *(overrides or [])])
    from cr_interp.report.suite import rich_suite
    from cr_interp.tables.suite import open_suite
    from training.studies.suite import chosen_rates, run_suite, tune_suite

    if tune:
        found = tune_suite(listed(settings), out.with_name(f"{out.name}-tuning"), workers)
        found.to_csv(out.with_name(f"{out.name}-tuning") / "tuning.csv", index=False)
        for name, rate in chosen_rates(found).items():
            console.print(f"{one_line(name):24s} lr {rate:g}")
        return
    run_suite(configs, out, workers, again)
    console.print(rich_suite(open_suite(out)))


def _preregistered(name: str, part: str, settings: list[str], out: Path, workers: int | None) -> None:
    from training.studies.preregistration import load_preregistration

    plan = load_preregistration(name)
    if part == "confirm" and plan.confirmation.adaptive is None:
        plan.confirmed(next(iter(plan.settings())), 1.0, 1)  # says what is missing, before torch is loaded
    if part != "screen" and settings:
        raise UserError(f"--{part} runs the chosen settings; leave --settings out.")
    folder = Path("studies") / plan.name if out == Path("studies/suite") else out
    from training.studies.preregistered import choose_form, confirm, screen

    if part == "choose":
        for row in choose_form(plan, folder, workers).itertuples():
            console.print(
                f"{one_line(str(row.form)):16s} Harm {row.harm:.1%}  Acc_xc stopped early {row.acc_xc_early:.2f}  obeys "
                f"{row.obeys:.1%}  " + (f"misses by {row.misses:.3f}" if row.misses else "keeps both bounds")
            )
        return
    if part == "screen":
        _, choice = screen(plan, folder, settings, workers)
        for row in choice.itertuples():
            said = "chosen" if row.chosen else "eligible" if row.eligible else "not eligible"
            console.print(
                f"{one_line(str(row.setting)):36s} lr {row.rate:g}  {row.train_steps} steps  Acc_x {row.acc_x:.2f}  "
                f"Harm {row.harm:.1%}  irrelevant {row.harm_irrelevant:.1%}  {said}"
            )
        return
    from cr_interp.report.suite import rich_suite
    from cr_interp.tables.confirmation import criteria, verdict
    from cr_interp.tables.suite import comparisons, open_suite

    confirm(plan, folder, workers)
    suite = open_suite(folder)
    console.print(rich_suite(suite))
    rule = plan.success.model_dump()
    found = criteria(comparisons(suite), rule)
    for row in found.itertuples():
        console.print(f"{row.criterion}: {row.k} of {row.of} (needed: {row.needed})")
    console.print(f"Verdict: {verdict(found, rule)}. Preregistration {plan.digest[:16]}.")


EveryStep = Annotated[bool, typer.Option("--every-step", help="also the checkpoints that runs keep on their way")]
TaskFile = Annotated[str | None, typer.Option("--task", help="the study's task file, if it is Python: it is run")]


def evaluate(
    study: Annotated[str, typer.Argument(help="a study's folder or name")],
    every_step: EveryStep = False,
    task: TaskFile = None,
    engine: Annotated[
        str | None,
        typer.Option(help="who answers: transformers, or vllm (in this process); default: as in the study"),
    ] = None,
    again: Again = False,
) -> None:
    """Fill a study's ``generations``: both views of every checkpoint that has no rows yet."""
    from training.studies.pipeline import config_of, evaluate_study

    evaluate_study(*config_of(study, every_step, task, engine), again)


def capture(
    study: Annotated[str, typer.Argument(help="a study's folder or name")],
    save_states: Annotated[
        Path | None, typer.Option(help="keep the states as safetensors shards in this folder")
    ] = None,
    sites_per_pass: Annotated[
        int | None,
        typer.Option(min=1, max=10**6, help="measure so many sites at a time: less memory, more passes"),
    ] = None,
    backend: Annotated[str, typer.Option(help="hooks, transformer_lens or nnsight")] = "hooks",
    again: Annotated[bool, typer.Option("--again", help="also checkpoints that have rows")] = False,
    every_step: EveryStep = False,
    task: TaskFile = None,
) -> None:
    """Fill a study's ``drift``, ``token_drift`` and ``cka_map``: the states of every checkpoint without rows."""
    from training.studies.pipeline import capture_study, config_of

    opened, config = config_of(study, every_step, task)
    capture_study(opened, config, sites_per_pass, save_states, backend, again)
