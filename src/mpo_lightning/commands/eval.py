"""`mpo eval ...`"""

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from mpo_lightning.commands.progress import progress_bar
from mpo_lightning.errors import InputError

if TYPE_CHECKING:
    from mpo_lightning.evals.benchmark import Benchmark, Row
    from mpo_lightning.evals.scoring import Scored


def score(
    benchmark: str,
    responses: str,
    output: str,
    problems: str | None = None,
    mode: Literal["robust", "official"] = "robust",
    normaliser: Literal["2023", "2025"] = "2023",
    judge_url: str | None = None,
    judge_model: str | None = None,
    judge_replay: str | None = None,
    judge_runs: int = 1,
    judge_at_once: int = 8,
) -> None:
    """Scores responses that are there: a line for each with what was read in it and why, then the benchmark's table,
    also as JSON.

    Benchmarks: mathvista, mathvision, m3cot, pope, crpe, mmvet, llava_bench, mmhal, questions (your own, with answers),
    and equivalence (rows of gold and prediction). The key of a
    judge's server is read from the environment variable OPENAI_API_KEY. For example:
    mpo eval score --benchmark mathvista --responses R.jsonl --problems testmini.json --output scores.jsonl

    Args:
        benchmark: its name.
        responses: a JSON-lines file (or a JSON object by id) with `response`, the problem's id, and the problem's
            fields or --problems.
        output: the JSON-lines file to write; OUTPUT with .table.json in place of its ending is the table.
        problems: the benchmark's own file or folder.
        mode: robust is our checker; official is the benchmark's own published rule.
        normaliser: of official MathVista: 2023 takes whole numbers only, as the published scores did; 2025 cuts 5.7 to
            5, as its script does today.
        judge_url: the OpenAI-compatible server of a judge, such as http://localhost:8000/v1; "openai" is OpenAI's own.
            With official MathVista it reads the short answers out of responses.
        judge_model: the judge; default the one that published scores used.
        judge_replay: a file of a judge's replies; new ones are added to it (default beside the output).
        judge_runs: how often the judge is asked about each response.
        judge_at_once: requests under way.
    """
    from mpo_lightning.evals.files import read_rows
    from mpo_lightning.evals.registry import find_benchmark
    from mpo_lightning.evals.scoring import join, score_rows, write

    if judge_runs < 1 or judge_at_once < 1:
        raise InputError("--judge_runs and --judge_at_once must be at least 1")
    chosen = find_benchmark(benchmark)
    target = Path(output)
    if target.exists() and target.samefile(responses):
        raise InputError(f"{output}: is the file of responses; choose another output")
    known = chosen.load(Path(problems)) if problems else None
    rows = join(chosen, read_rows(Path(responses)), known, Path(responses))
    if benchmark == "mathvista":
        rows = [{"normaliser": normaliser} | row for row in rows]
    rows = _judged(chosen, rows, mode, target, judge_url, judge_model, judge_replay, judge_runs, judge_at_once)
    with progress_bar("scored", total=len(rows), unit="responses") as advance:
        scored = score_rows(chosen, rows, mode)
        advance(len(rows))
    settings: dict[str, Any] = {"normaliser": normaliser} if benchmark == "mathvista" and mode == "official" else {}
    table = write(chosen, scored, target, mode, settings)
    _print(chosen, scored, mode)
    print(f"{output}: {len(rows):,} decisions; {table}: the table")


def _judged(
    benchmark: "Benchmark",
    rows: list["Row"],
    mode: str,
    output: Path,
    url: str | None,
    model: str | None,
    replay: str | None,
    runs: int,
    at_once: int,
) -> list["Row"]:
    """Rows with the replies of a judge, or with extractions of a language model, where one is asked or replayed."""
    from mpo_lightning.evals.judges import KeptReplies, ServerChat
    from mpo_lightning.evals.scoring import extracted, judged

    judge = benchmark.judge or (benchmark.extractor if mode == "official" else None)
    if url is None and replay is None:
        return rows
    if judge is None:
        raise InputError(f"{benchmark.name} needs no judge with {mode} rules; leave out --judge_url and --judge_replay")
    name = model or judge.model
    chat = ServerChat(None if url == "openai" else url, name) if url is not None else None
    kept = KeptReplies(Path(replay) if replay else output.with_suffix(".judge.jsonl"), name, chat)
    with progress_bar("judged", total=len(rows) * (runs if benchmark.judge else 1), unit="responses") as advance:
        if benchmark.judge is None:
            return extracted(benchmark, rows, kept, at_once, advance)
        return judged(benchmark, rows, kept, runs, at_once, advance)


def _print(benchmark: "Benchmark", scored: "Scored", mode: str) -> None:
    from rich.console import Console
    from rich.table import Table

    from mpo_lightning.evals.published import rows_for

    table = Table(
        title=f"{benchmark.title} ({'robust' if benchmark.name == 'equivalence' else mode} rules)"
        if benchmark.judge is None
        else f"{benchmark.title} (judged)",
        title_justify="left",
    )
    for name in ("group", "name", "score", "right", "of"):
        table.add_column(name, justify="left" if name in ("group", "name") else "right", overflow="fold")
    for row in scored.table.rows:
        right = "" if row.correct is None else f"{row.correct:g}"
        table.add_row(
            row.group,
            row.name,
            f"{row.score:.0f}" if row.name in ("TP", "FP", "TN", "FN") else f"{row.score:.{benchmark.decimals}f}",
            right,
            f"{row.total:,}",
        )
    console = Console(width=None if Console().is_terminal else 120)
    console.print(table)
    for name, number in scored.numbers.items():
        unit = {"responses": "", "characters": " a response", "tokens": " a response"}.get(name, " %")
        console.print(
            f"{name}: {number:,.1f}{unit}" if name != "responses" else f"{name}: {number:,.0f}", highlight=False
        )
    if undecided := sum(score.verdict.correct is None for score in scored.scores) if benchmark.judge is None else 0:
        console.print(f"undecided: {undecided:,} responses, counted as wrong; their lines say why", highlight=False)
    if lines := rows_for(benchmark.name):
        beside = Table(
            title=f"{scored.table.headline}, beside what the paper published (arXiv 2411.10442)", title_justify="left"
        )
        for name in ("model", "prompt", "score"):
            beside.add_column(name, justify="right" if name == "score" else "left")
        beside.add_row("this run", "", f"{scored.table.score:.1f}", style="bold")
        for model, prompt, number in lines:
            beside.add_row(model, prompt, f"{number:.1f}")
        console.print(beside)


def run(
    model: str,
    benchmark: str,
    data: str,
    output: str,
    images: str | None = None,
    cot: bool = False,
    samples: int = 1,
    temperature: float = 1.0,
    top_k: int = 50,
    top_p: float = 1.0,
    seed: int = 0,
    limit: int | None = None,
    mode: Literal["robust", "official"] = "robust",
    max_new_tokens: int | None = None,
    max_tiles: int = 12,
    max_length: int = 8192,
    template: str = "auto",
    batch_size: int = 8,
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto",
    accelerator: str = "auto",
    devices: str = "auto",
    num_nodes: int = 1,
    num_workers: int = 2,
    judge_url: str | None = None,
    judge_model: str | None = None,
    judge_replay: str | None = None,
    judge_runs: int = 1,
    judge_at_once: int = 8,
) -> None:
    """Asks a model a benchmark's questions and scores its responses. Started again after a kill it goes on where it
    was, on any number of devices.

    OUTPUT/responses.jsonl holds the responses, OUTPUT/scores.jsonl a decision for each, OUTPUT/scores.table.json the
    table.

    Args:
        model: checkpoint folder, in either layout.
        benchmark: mathvista, mathvision, m3cot, pope, crpe, mmvet, llava_bench, mmhal, or questions, your own with
            their answers.
        data: the folder of the benchmark's official files, or its file of problems.
        output: the folder of the run.
        images: the folder that picture paths are relative to; default --data, or the folder of that file.
        cot: ask for reasoning first, with the paper's prompt (MM-Vet and LLaVA-Bench have none).
        samples: responses to each problem; more than one are drawn, and pass@k and majority@k are reported.
        temperature: of drawn responses.
        top_k: likeliest tokens that may be drawn; 0 is all.
        top_p: the likeliest tokens that together have this probability may be drawn.
        seed: of all draws.
        limit: the first so many problems only.
        mode: robust is our checker; official is the benchmark's own published rule.
        max_new_tokens: most tokens of a response; default what the paper's evaluation allowed.
        max_tiles: most tiles of a problem's pictures, thumbnails not counted.
        max_length: a prompt of so many tokens is refused.
        template: chat template; auto takes the one that the checkpoint names.
        batch_size: problems that a device answers at once.
        dtype: of weights and arithmetic; auto takes bfloat16 on a GPU and float32 on a CPU.
        accelerator: as in Lightning's Trainer.
        devices: as in Lightning's Trainer.
        num_nodes: machines; start the same command on each with torchrun or srun.
        num_workers: loader processes a device.
        judge_url: see `mpo eval score`.
        judge_model: likewise.
        judge_replay: likewise.
        judge_runs: likewise.
        judge_at_once: likewise.
    """
    from mpo_lightning.evals.registry import find_benchmark
    from mpo_lightning.inference.predict import PredictOptions
    from mpo_lightning.models.sampling import Sampling

    counts = {
        "samples": samples,
        "limit": limit,
        "max_new_tokens": max_new_tokens,
        "max_tiles": max_tiles,
        "max_length": max_length,
        "batch_size": batch_size,
        "num_nodes": num_nodes,
    }
    for name, value in counts.items():
        if value is not None and value < 1:
            raise InputError(f"--{name} must be at least 1, got {value}")
    chosen = find_benchmark(benchmark)
    problems = chosen.load(Path(data))[:limit]
    root = Path(images) if images else Path(data) if Path(data).is_dir() else Path(data).parent
    tokens = max_new_tokens or chosen.max_new_tokens[cot]
    sampling = Sampling(temperature, top_k, top_p, seed) if samples > 1 else None
    options = PredictOptions(tokens, batch_size, num_workers, dtype, sampling)
    trainer = {"accelerator": accelerator, "devices": devices, "num_nodes": num_nodes}
    responses = _respond(
        chosen, problems, model, root, Path(output), cot, samples, options, trainer, (max_tiles, max_length, template)
    )
    if responses is None:
        return
    if chosen.judge is not None and judge_url is None and judge_replay is None:
        print(
            f"{responses}: {len(problems):,} problems; {chosen.title} needs a judge: mpo eval score --benchmark "
            f"{benchmark} --responses {responses} "
            f"--output {Path(output) / 'scores.jsonl'} --judge_url URL"
        )
        return
    score(
        benchmark,
        str(responses),
        str(Path(output) / "scores.jsonl"),
        None,
        mode,
        "2023",
        judge_url,
        judge_model,
        judge_replay,
        judge_runs,
        judge_at_once,
    )


def _respond(
    benchmark: "Benchmark",
    problems: list["Row"],
    model: str,
    images: Path,
    output: Path,
    cot: bool,
    samples: int,
    options: Any,
    trainer: dict[str, Any],
    limits: tuple[int, int, str],
) -> Path | None:
    """The file of responses; None on all processes but the first."""
    from dataclasses import asdict

    from mpo_lightning.data.prompts import Repeated
    from mpo_lightning.data.shards.reference_cache import tokenizer_fingerprint
    from mpo_lightning.evals.generate import ProblemPrompts, begin, fingerprint_of
    from mpo_lightning.inference.predict import run_predict
    from mpo_lightning.models.loading import load_processor, model_fingerprint
    from mpo_lightning.runs.rank import is_first

    max_tiles, max_length, template = limits
    prompts: Any = ProblemPrompts(benchmark, problems, images, cot)
    processor = load_processor(model, template)
    asked = fingerprint_of(problems, [benchmark.question(row, cot) for row in problems])
    settings = {
        "prompts": asked,
        "model": model_fingerprint(model),
        "tokenizer": tokenizer_fingerprint(processor.tokenizer),
        "images": str(images.resolve()),
        "template": processor.template.name,
        "max_tiles": max_tiles,
        "max_length": max_length,
    }
    shown = settings | {
        "benchmark": benchmark.name,
        "checkpoint": model,
        "cot": cot,
        "samples": samples,
        "max_new_tokens": options.max_new_tokens,
        "dtype": options.dtype,
        "sampling": asdict(options.sampling) if options.sampling else None,
    }
    responses = output / "responses.jsonl"
    if is_first():
        begin(output, shown)
    if responses.is_file():
        return responses if is_first() else None
    if samples > 1:
        prompts = Repeated(prompts, samples)
    encoder = processor.encoder(max_tiles, max_length, "set_aside")
    count, refused = run_predict(
        model, processor, prompts, responses, settings | {"samples": samples}, encoder, trainer, options
    )
    if refused:
        print(
            f"{responses}: {refused:,} of {count:,} problems could not be asked; their lines say why, and they count "
            "as wrong"
        )
    return responses if count else None


def compare(runs: list[str], output: str = "comparison") -> None:
    """Runs side by side: scores with 95 % intervals, what each gained and lost against the first one, how likely that
    is by chance; and a picture.

    For example: mpo eval compare runs/base runs/mpo --output comparison

    Args:
        runs: folders of `mpo eval run` or files of `mpo eval score`; the first is what the others are compared with.
        output: OUTPUT.json and OUTPUT.png are written.
    """
    from rich.console import Console
    from rich.table import Table

    from mpo_lightning.evals import compare as comparing
    from mpo_lightning.files.whole import write_json

    if len(runs) < 2:
        raise InputError("give at least two runs to compare")
    lines = comparing.compare([comparing.read_run(Path(one)) for one in runs])
    table = Table(title=f"runs beside the first one ({lines[0].number})", title_justify="left")
    for name in ("run", "problems", "score", "95 % interval", "undecided", "gained", "lost", "difference", "p"):
        table.add_column(name, justify="left" if name == "run" else "right", overflow="fold")
    for line in lines:
        beside = (
            ["", "", "", ""]
            if line.p is None or line.difference is None
            else [str(line.gained), str(line.lost), f"{line.difference:+.2f}", f"{line.p:.3g}"]
        )
        table.add_row(
            line.name,
            f"{line.problems:,}",
            f"{line.score:.2f}",
            f"{line.low:.1f} to {line.high:.1f}",
            f"{line.undecided:.1f} %",
            *beside,
        )
    Console(width=None if Console().is_terminal else 120).print(table)
    target = Path(output)
    target.parent.mkdir(parents=True, exist_ok=True)
    write_json(target.with_suffix(".json"), [vars(line) for line in lines])
    comparing.draw(lines, target.with_suffix(".png"))
    print(
        f"{target.with_suffix('.json')}, {target.with_suffix('.png')}: the table and the picture; p is of a paired "
        "test on common problems: McNemar's exact one, or, with several samples a problem or a judge's points, "
        "of signs flipped at random"
    )
