"""The order with pairs of one question together: every pair once, groups of bounded size, costs counted once."""

import random
from collections import Counter
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from mpo_lightning.data.balance import TokenCosts, costs_of_groups
from mpo_lightning.data.plan import Occurrence, Plan
from mpo_lightning.data.shards.index import ShardIndex, record_dtype
from mpo_lightning.data.shards.index_summary import DatasetEntry, ShardEntry


def index_of(pairs_of_questions: list[int], shards: int, repeats: tuple[float, ...] = (1.0,)) -> ShardIndex:
    """An index of questions with these numbers of pairs; a question has about half as many answers."""
    choose = random.Random(0)
    rows, sizes = [], [0] * shards
    for question, count in enumerate(pairs_of_questions):
        shard = question * shards // len(pairs_of_questions)
        sizes[shard] += count
        answers = [choose.randrange(5, 400) for _ in range(2 + count // 2)]
        tiles, prompt = choose.randrange(13), choose.randrange(5, 300)
        for _ in range(count):
            one, other = choose.sample(range(len(answers)), 2)
            place = (shard, question % len(repeats), 2 * question, 2)
            rows.append((b"", *place, tiles, prompt, answers[one], answers[other], one, other))
    entries = tuple(ShardEntry(f"{number}.tar", size, 0, "") for number, size in enumerate(sizes))
    datasets = tuple(DatasetEntry(f"set{number}", repeat) for number, repeat in enumerate(repeats))
    return ShardIndex(Path(), entries, datasets, np.array(rows, dtype=record_dtype(1)), np.zeros(0))


def mixed(count: int = 40) -> list[int]:
    choose = random.Random(1)
    return [choose.choice([1, 1, 2, 3, 4, 9, 15]) for _ in range(count)]


def rows_of(plan: Plan, epoch: int = 0) -> list[list[tuple[tuple[Occurrence, ...], ...]]]:
    """The rows of each global step, over all ranks."""
    steps: list[list[tuple[tuple[Occurrence, ...], ...]]] = [[] for _ in range(plan.steps)]
    for rank in range(plan.world_size):
        micro_batches = list(plan.rank_micro_batches(epoch, rank))
        assert len(micro_batches) == plan.steps * plan.micro_batches_per_step
        for number, micro in enumerate(micro_batches):
            steps[number // plan.micro_batches_per_step].append(micro.questions)
    return steps


@pytest.mark.parametrize("together", [1, 2, 4, 15])
@pytest.mark.parametrize(("world", "micro"), [(1, 4), (2, 1), (3, 2)])
def test_every_pair_once_in_groups_of_one_question(together: int, world: int, micro: int) -> None:
    index = index_of(mixed(), 3, repeats=(2.5, 1.0))
    plan = Plan(index, 0, 16, micro, world, window=2, epochs=2, pairs_per_question=together)
    fullest = max(sum(map(len, rows)) for epoch in (0, 1) for rows in rows_of(plan, epoch))
    assert plan.most_groups == (16 if together == 1 else fullest)
    for epoch in (0, 1):
        steps = rows_of(plan, epoch)
        seen = Counter(one for rows in steps for row in rows for group in row for one in group)
        assert set(seen.values()) == {1} and len(seen) == plan.copies.sum()
        assert Counter(one.record for one in seen) == Counter(np.repeat(np.arange(len(index)), plan.copies).tolist())
        sizes = [sum(len(group) for row in rows for group in row) for rows in steps]
        assert sizes[:-1] == [16] * (len(sizes) - 1) and sizes[-1] == plan.copies.sum() - 16 * (len(sizes) - 1)
        for rows in steps:
            assert all(len(row) <= micro for row in rows)
            for group in (group for row in rows for group in row):
                assert 1 <= len(group) <= together
                assert len({(index.question(one.record), one.copy) for one in group}) == 1
    assert rows_of(plan, 0) != rows_of(plan, 1) and rows_of(plan, 0) == rows_of(replace(plan), 0)


def test_questions_stay_whole_where_nothing_cuts_them() -> None:
    index = index_of(mixed(), 3)
    plan = Plan(index, 0, len(index), 64, 1, pairs_per_question=15)
    (rows,) = rows_of(plan)
    assert sorted(len(group) for row in rows for group in row) == sorted(mixed())
    # In a smaller step, a question is cut only where the step is full.
    order = replace(plan, global_batch_size=8).epoch_order(0)
    question = index.records["first_member"][order[:, 0]]
    assert len(set(question.tolist())) == 1 + int((np.diff(question.astype(int)) != 0).sum())


def test_one_pair_a_question_is_the_order_of_pairs() -> None:
    """Whatever is asked for, data without shared questions are ordered as ever."""
    index = index_of([1] * 60, 4, repeats=(1.0, 2.5))
    one, many = (Plan(index, 3, 8, 2, 2, window=2, epochs=2, pairs_per_question=most) for most in (1, 15))
    assert all((one.epoch_order(epoch) == many.epoch_order(epoch)).all() for epoch in (0, 1))
    assert rows_of(one) == rows_of(many)


@pytest.mark.parametrize("together", [1, 4, 15])
def test_steps_do_not_depend_on_ranks_and_resume_anywhere(together: int) -> None:
    index = index_of(mixed(), 3)
    expected = None
    for world, micro in ((1, 8), (2, 3), (4, 1)):
        plan = Plan(index, 0, 16, micro, world, pairs_per_question=together)
        found = [{group for row in rows for group in row} for rows in rows_of(plan)]
        expected = expected or found
        assert found == expected
        for rank in range(world):
            whole = list(plan.rank_micro_batches(0, rank))
            assert all(list(plan.rank_micro_batches(0, rank, start)) == whole[start:] for start in (1, 3, 8))


def test_a_group_costs_its_prompt_once_and_each_answer_once() -> None:
    index = index_of(mixed(), 2)
    plan = Plan(index, 0, 32, 4, 1, pairs_per_question=4)
    for step in range(plan.steps):
        pairs = plan.epoch_order(0)[step * 32 : (step + 1) * 32]
        groups = plan.groups(pairs)
        costs = costs_of_groups(TokenCosts(256), index.records[pairs[:, 0]], groups)
        for group, cost in enumerate(costs):
            rows = [index.records[record] for record in pairs[groups == group, 0]]
            answers = {row["chosen"]: row["chosen_tokens"] for row in rows}
            answers |= {row["rejected"]: row["rejected_tokens"] for row in rows}
            assert cost == rows[0]["prompt_tokens"] + 256 * rows[0]["tiles"] + sum(answers.values())


@pytest.mark.parametrize(("world", "micro"), [(1, 1), (4, 1), (2, 3)])
def test_an_evaluation_has_full_rows(world: int, micro: int) -> None:
    """All pairs once in the order of the index, and rows without pairs in the last step alone."""
    index = index_of(mixed(), 3)
    plan = Plan(index, 0, world * micro, micro, world, shuffle=False, pairs_per_question=15)
    steps = rows_of(plan)
    found = [{one.record for row in rows for group in row for one in group} for rows in steps]
    assert sum(map(len, found)) == len(index) and set().union(*found) == set(range(len(index)))
    assert all(max(one) < min(other) for one, other in pairwise(found))
    assert all(len(row) == micro for rows in steps[:-1] for row in rows)
    assert all(len(group) == mixed()[index.question(group[0].record) // 2] for r in steps for row in r for group in row)


@pytest.mark.parametrize("budget", [6000, 9000])
def test_rows_keep_to_the_budget(budget: int) -> None:
    index = index_of(mixed(), 3)
    plan = Plan(index, 0, 32, 8, 2, max_row_tokens=budget, pairs_per_question=4)
    for row in (row for rows in rows_of(plan) for row in rows):
        pairs = np.array([one.record for group in row for one in group], dtype=int)
        groups = np.repeat(np.arange(len(row)), [len(group) for group in row])
        if len(row) > 1:
            assert costs_of_groups(TokenCosts(256), index.records[pairs], groups).sum() <= budget
