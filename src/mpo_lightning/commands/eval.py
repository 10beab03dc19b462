"""`mpo eval ...`: responses to benchmarks, their scores, and comparisons."""

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from mpo_lightning.commands.display.progress import progress_bar
from mpo_lightning.errors import InputError
from mpo_lightning.evals.options import JudgeOptions
from mpo_lightning.inference.options import EngineOptions, TrainerOptions
from mpo_lightning.models.sampling import Sampling

if TYPE_CHECKING:
    from mpo_lightning.evals.benchmark import Benchmark, Row
    from mpo_lightning.inference.engine import Work

Mode = Literal["robust", "official"]


def score(
    benchmark: str,
    responses: str,
    output: str,
    problems: str | None = None,
    mode: Mode = "robust",
    normaliser: Literal["2023", "2025"] = "2023",
    judge: JudgeOptions = JudgeOptions(),  # noqa: B008 (frozen)
) -> None:
    """Scores responses: writes a line for each with its answer and the rule, and prints the benchmark's table.

    For example:
    mpo eval score --benchmark mathvista --responses R.jsonl --problems testmini.json --output scores.jsonl

    Args:
        benchmark: name of the benchmark, such as mathvista, pope or questions (your own, with answers), or the class
            path of your own benchmark; `--benchmark ?` lists all.
        responses: a JSON-lines file (or a JSON object by id) with `response`, the problem's id, and the problem's
            fields or --problems.
        output: the JSON-lines file to write; the table is OUTPUT with the ending .table.json.
        problems: the benchmark's own file or folder.
        mode: robust is our checker; official is the benchmark's own published rule.
        normaliser: version of official MathVista's rule: 2023 takes whole numbers only, as the published scores did;
            2025 cuts 5.7 to 5, as its script does today.
        judge: the judge that grades responses.
    """
    from mpo_lightning.commands.display.tables import print_scored
    from mpo_lightning.evals.files import read_rows
    from mpo_lightning.evals.scoring import join, score_rows, write

    chosen = _with_rule(benchmark, mode)
    target = Path(output)
    if target.exists() and target.samefile(responses):
        raise InputError(f"{output}: is the file of responses; choose another output")
    known = chosen.load(Path(problems)) if problems else None
    rows = join(chosen, read_rows(Path(responses)), known, Path(responses))
    if chosen.variants:
        rows = [{"normaliser": normaliser} | row for row in rows]
    rows = _judged(chosen, rows, mode, target, options=judge)
    with progress_bar("scored", total=len(rows), unit="responses") as advance:
        scored = score_rows(chosen, rows, mode)
        advance(len(rows))
    settings: dict[str, Any] = {"normaliser": normaliser} if chosen.variants and mode == "official" else {}
    table = write(chosen, scored, target, mode, settings=settings)
    print_scored(chosen, scored, mode)
    print(f"{output}: {len(rows):,} decisions; {table}: the table")


def _with_rule(name: str, mode: Mode) -> "Benchmark":
    """Finds a benchmark; raises InputError if it has no rule of that mode."""
    from mpo_lightning.evals.registry import find_benchmark

    benchmark = find_benchmark(name)
    if mode not in benchmark.modes:
        raise InputError(f"--mode {mode}: {benchmark.name} has no {mode} rule; choose {' or '.join(benchmark.modes)}")
    return benchmark


def _judged(benchmark: "Benchmark", rows: list["Row"], mode: Mode, output: Path, options: JudgeOptions) -> list["Row"]:
    """Adds a judge's replies, or a language model's extractions, to the rows if one is asked or replayed."""
    from mpo_lightning.evals.judges import KeptReplies, ServerChat
    from mpo_lightning.evals.scoring import extracted, judged

    judge = benchmark.judge or (benchmark.extractor if mode == "official" else None)
    if not options.asked:
        return rows
    if judge is None:
        raise InputError(f"{benchmark.name} needs no judge with {mode} rules; leave out --judge.url and --judge.replay")
    name = options.model or judge.model
    chat = None if options.url is None else ServerChat(None if options.url == "openai" else options.url, name)
    replay = Path(options.replay) if options.replay else output.with_suffix(".judge.jsonl")
    kept = KeptReplies(replay, name, chat)
    total = len(rows) * (options.runs if benchmark.judge else 1)
    with progress_bar("judged", total=total, unit="responses") as advance:
        if benchmark.judge is None:
            return extracted(benchmark, rows, kept, options.at_once, advance=advance)
        return judged(benchmark, rows, replies=kept, runs=options.runs, at_once=options.at_once, advance=advance)


def run(
    model: str,
    benchmark: str,
    data: str,
    output: str,
    images: str | None = None,
    cot: bool = False,
    samples: int = 1,
    limit: int | None = None,
    mode: Mode = "robust",
    max_new_tokens: int | None = None,
    sampling: Sampling = Sampling(),  # noqa: B008 (frozen)
    engine: EngineOptions = EngineOptions(batch_size=8),  # noqa: B008
    trainer: TrainerOptions = TrainerOptions(),  # noqa: B008
    judge: JudgeOptions = JudgeOptions(),  # noqa: B008
) -> None:
    """Asks a model a benchmark's questions and scores its responses. Started again after a kill it resumes, on any
    number of devices.

    OUTPUT/responses.jsonl holds the responses, OUTPUT/scores.jsonl a decision for each, OUTPUT/scores.table.json the
    table.

    Args:
        model: checkpoint folder in either layout, or the model's name on a server.
        benchmark: name of the benchmark, such as mathvista, pope or questions (your own, with answers), or the class
            path of your own benchmark; `--benchmark ?` lists all.
        data: folder of the benchmark's official files, or its file of problems.
        output: folder of the run.
        images: folder that image paths are relative to; default --data, or the folder of that file.
        cot: ask for reasoning first, with the paper's prompt (MM-Vet and LLaVA-Bench have none).
        samples: number of responses to each problem; with more than one, pass@k and majority@k are reported.
        limit: number of problems, from the first; default all.
        mode: robust is our checker; official is the benchmark's own published rule.
        max_new_tokens: most tokens of a response; default what the paper's evaluation allowed.
        sampling: how several responses to a problem are sampled; one alone is greedy.
        engine: the engine that writes responses.
        trainer: devices of the embedded engine.
        judge: the judge that grades responses.
    """
    from mpo_lightning.data.prompts import Prompts, Repeated
    from mpo_lightning.evals.generate import ProblemPrompts, fingerprint_of
    from mpo_lightning.inference.engine import Work

    for name, value in {"samples": samples, "limit": limit, "max_new_tokens": max_new_tokens}.items():
        if value is not None and value < 1:
            raise InputError(f"--{name} must be at least 1, got {value}")
    chosen = _with_rule(benchmark, mode)
    problems = chosen.load(Path(data))[:limit]
    root = Path(images) if images else Path(data) if Path(data).is_dir() else Path(data).parent
    prompts: Prompts = ProblemPrompts(chosen, problems, root, cot)
    asked = fingerprint_of(problems, [chosen.question(row, cot) for row in problems])
    work = Work(
        Repeated(prompts, samples) if samples > 1 else prompts,
        asked,
        max_new_tokens or chosen.max_new_tokens[cot],
        sampling if samples > 1 else None,
    )
    shown = {"benchmark": chosen.name, "cot": cot, "samples": samples, "images": str(root.resolve())}
    responses = _respond(work, model, Path(output), shown=shown, engine=engine, trainer=trainer)
    if responses is None:
        return
    scores = Path(output) / "scores.jsonl"
    if chosen.judge is not None and not judge.asked:
        print(
            f"{responses}: {len(problems):,} problems; {chosen.title} needs a judge: mpo eval score --benchmark "
            f"{benchmark} --responses {responses} --output {scores} --judge.url URL"
        )
        return
    score(benchmark, str(responses), str(scores), mode=mode, judge=judge)


def _respond(
    work: "Work", model: str, output: Path, *, shown: dict[str, Any], engine: EngineOptions, trainer: TrainerOptions
) -> Path | None:
    """Writes the responses and returns their file; None on all processes but the first."""
    from dataclasses import asdict

    from mpo_lightning.commands.display.progress import engine_with_bar
    from mpo_lightning.evals.generate import begin
    from mpo_lightning.inference.engine import open_engine
    from mpo_lightning.inference.predict import answer_here, described
    from mpo_lightning.runs.rank import is_first

    responses = output / "responses.jsonl"
    here = engine.kind == "embedded"
    opened = None if here else engine_with_bar(open_engine(model, engine, trainer))
    settings = described(model, engine) if opened is None else opened.description()
    settings |= {"prompts": work.asked, "max_new_tokens": work.max_new_tokens}
    settings |= {
        "sampling": asdict(work.sampling) if work.sampling else None,
        "checkpoint": model,
        "dtype": engine.dtype,
    }
    if is_first():
        begin(output, settings | shown)
    if responses.is_file():
        return responses if is_first() else None
    if opened is None:
        kept = {name: shown[name] for name in ("images", "samples")}
        count, refused = answer_here(model, work, responses, settings=kept, engine=engine, trainer=trainer)
    else:
        count, refused = opened.answer(work, responses)
    if refused:
        print(
            f"{responses}: {refused:,} of {count:,} problems could not be asked; their lines say why, and they count "
            "as wrong"
        )
    return responses if count else None


def compare(runs: list[str], output: str = "comparison") -> None:
    """Compares runs with the first one: scores with 95 % intervals, gains, losses and a paired test, also as a figure.

    For example: mpo eval compare runs/base runs/mpo --output comparison

    Args:
        runs: folders of `mpo eval run` or files of `mpo eval score`; the others are compared with the first.
        output: OUTPUT.json and OUTPUT.png are written.
    """
    from mpo_lightning.commands.display.tables import print_compared
    from mpo_lightning.evals import compare as comparing
    from mpo_lightning.files.whole import write_json

    if len(runs) < 2:
        raise InputError("give at least two runs to compare")
    lines = comparing.compare([comparing.read_run(Path(one)) for one in runs])
    print_compared(lines)
    target = Path(output)
    write_json(target.with_suffix(".json"), [vars(line) for line in lines])
    comparing.draw(lines, target.with_suffix(".png"))
    print(
        f"{target.with_suffix('.json')}, {target.with_suffix('.png')}: the table and the figure; p is of a paired test "
        "on common problems: McNemar's exact one, or, with several samples a problem or a judge's points, of signs "
        "flipped at random"
    )
