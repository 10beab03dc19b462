"""A build's manifest (settings, counts, costs), and the data card that presents it as a page."""

from collections import Counter
from typing import Any

from mpo_lightning.prefs.annotations import CORRECTNESS, FORMAT
from mpo_lightning.prefs.filters import FAILED

PAPER_TOKENS, RLAIFV_TOKENS = 571.2, 992.7
"""Tokens written for a pair, by the paper's DropoutNTP and by RLAIF-V (arXiv 2411.10442, section 3.1)."""

Counted = dict[str, dict[str, Any]]


def manifest_of(
    settings: dict[str, Any], counts: dict[str, Counted], runs: dict[str, Any], meta: dict[str, Any]
) -> dict[str, Any]:
    """Makes the manifest.

    Args:
        settings: settings of the build.
        counts: counts by stage and source.
        runs: records of how responses were made, by stage.
        meta: the meta.json of the pairs.
    """
    failed = sum((totals(counts[name]) for name in ("correctness", "begun", "dropout_ntp")), Counter())
    reasons = {name.removeprefix(FAILED): count for name, count in sorted(failed.items()) if name.startswith(FAILED)}
    return {
        "pairs": sum(entry["length"] for entry in meta.values()),
        "data_sets": {name: entry["length"] for name, entry in meta.items()},
        "costs": costs(counts),
        "without_response": {"prompts": sum(reasons.values()), "reasons": reasons},
        "stages": counts,
        "sampling": runs,
        "settings": settings,
    }


def costs(counts: dict[str, Counted]) -> dict[str, Any]:
    """Returns the tokens that the model wrote for a pair of each kind; None if there is no pair."""
    correctness, begun, dropout = (totals(counts[name]) for name in ("correctness", "begun", "dropout_ntp"))
    pairs = correctness["pairs"]
    written = begun["chosen tokens"] + dropout["tokens"]
    return {
        "correctness": {
            "tokens_per_pair": correctness["tokens"] / pairs if pairs else None,
            "chosen_tokens": correctness["chosen tokens"] / pairs if pairs else None,
            "rejected_tokens": correctness["rejected tokens"] / pairs if pairs else None,
            "rejected_longer": correctness["rejected longer"] / pairs if pairs else None,
        },
        "dropout_ntp": {
            "tokens_per_pair": written / dropout["pairs"] if dropout["pairs"] else None,
            "paper": PAPER_TOKENS,
            "rlaif_v": RLAIFV_TOKENS,
        },
    }


def totals(counted: Counted) -> Counter[str]:
    """Sums counts over sources."""
    return sum(
        (
            Counter({name: value for name, value in found.items() if isinstance(value, int)})
            for found in counted.values()
        ),
        Counter(),
    )


def data_card(manifest: dict[str, Any]) -> str:
    """Returns the README of a data set."""
    settings, stages = manifest["settings"], manifest["stages"]
    engine = settings["engine"]
    sampling = settings["options"]["sampling"]
    model = (
        f"{engine['model']} on {engine['server']}"
        if "server" in engine
        else f"{engine['checkpoint']} ({engine['model']})"
    )
    lines = [
        "---",
        "task_categories: [visual-question-answering]",
        "tags: [preference, dpo, mpo, multimodal]",
        "license: other",
        "---",
        "",
        f"# {manifest['pairs']:,} preference pairs",
        "",
        "Made by `mpo prefs build` of mpo-lightning. Fields: `question`, `image`, `chosen`, `rejected`; `id`, "
        "`kind`, `chosen_meta` and `rejected_meta` are a pair's history.",
        "",
        "| data set | pairs |",
        "| --- | --- |",
        *(f"| {name} | {count:,} |" for name, count in manifest["data_sets"].items()),
        "",
        "## How they were made",
        "",
        f"- Responses: {model}, temperature {sampling['temperature']:g}, top-k {sampling['top_k']}, top-p "
        f"{sampling['top_p']:g}, seed {sampling['seed']}, {settings['options']['samples']} to each "
        f"question whose answer can be checked; prompts of version {settings['prompts']}.",
        f"- Right against wrong (`{CORRECTNESS}`) or against no answer in the requested form (`{FORMAT}`), "
        "by mpo-lightning's checker, without verdicts of a confidence below "
        f"{settings['options']['pairing']['confidence']:g}; at most "
        f"{settings['options']['pairing']['pairs_per_question']} pairs of a question.",
        f"- DropoutNTP: the first {settings['options']['dropout']['ratio']:.0%} of a good response, continued "
        f"{'with' if settings['options']['dropout']['with_image'] else 'without'} the image.",
        f"- Filters: {', '.join(settings['options']['pairing']['filters'])}.",
        "",
        "## Counts of every stage",
        "",
        "| stage | what | count |",
        "| --- | --- | --- |",
        *(
            f"| {stage} | {name.replace('_', ' ')} | {count:,} |"
            for stage, counted in stages.items()
            for name, count in sorted(totals(counted).items())
        ),
        "",
        "## Cost and length",
        "",
        *cost_lines(manifest["costs"]),
        "",
        "## Limits",
        "",
        "- Rules gave the verdicts, and nobody read them: somewhat less than 1 % of the confident ones are wrong "
        "(docs/prefs_measured.md).",
        "- Licences of images and questions are those of their sources; fill in `license` above.",
        "- Questions of benchmarks were removed, by words and images, by "
        f"{len(settings['options']['fingerprints'])} lists of fingerprints.",
        "",
    ]
    return "\n".join(lines)


def cost_lines(found: dict[str, Any]) -> list[str]:
    """Returns the data card's lines about costs."""
    lines = []
    if (correctness := found["correctness"])["tokens_per_pair"] is not None:
        lines.append(
            f"- Right against wrong: {correctness['tokens_per_pair']:,.1f} tokens written for a pair; chosen "
            f"{correctness['chosen_tokens']:.1f} tokens, rejected "
            f"{correctness['rejected_tokens']:.1f}, the rejected side longer in {correctness['rejected_longer']:.0%} "
            "of the pairs."
        )
    if (dropout := found["dropout_ntp"])["tokens_per_pair"] is not None:
        lines.append(
            f"- DropoutNTP: {dropout['tokens_per_pair']:,.1f} tokens written for a pair (the paper: "
            f"{dropout['paper']}; RLAIF-V: {dropout['rlaif_v']})."
        )
    return lines


def in_words(counts: Counter[str], without: tuple[str, ...] = ()) -> str:
    """Returns counts in one line, by name; "nothing" if there are none."""
    return (
        ", ".join(
            f"{name.replace('_', ' ')} {count:,}"
            for name, count in sorted(counts.items())
            if count and name not in without
        )
        or "nothing"
    )
