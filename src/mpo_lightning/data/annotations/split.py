"""Splits pairs into training and validation so that neither side has seen the other's questions or images.

Pairs that share a question text or an image file form one group, and groups that share either are joined. A whole group
goes to one side. Groups are connected components, found with union-find in near-linear time; own code, because a graph
library would hold millions of pairs as objects.
"""

import hashlib
from collections.abc import Hashable, Iterable, Sequence


def connected_groups(keys_of_pairs: Sequence[Iterable[Hashable]]) -> list[int]:
    """The group of each pair, named by the group's first pair.

    Args:
        keys_of_pairs: for each pair, the keys it must not be separated by: its question and its images.
    """
    parent = list(range(len(keys_of_pairs)))

    def root(pair: int) -> int:
        while parent[pair] != pair:
            parent[pair] = parent[parent[pair]]
            pair = parent[pair]
        return pair

    first_with: dict[Hashable, int] = {}
    for pair, keys in enumerate(keys_of_pairs):
        for key in keys:
            one, other = root(first_with.setdefault(key, pair)), root(pair)
            parent[max(one, other)] = min(one, other)
    return [root(pair) for pair in range(len(parent))]


def validation_pairs(groups: Sequence[int], fraction: float, seed: int) -> set[int]:
    """The pairs to hold out: whole groups in a seeded order, as long as they fit into the fraction.

    A group that would overshoot stays in training, so the result may be somewhat smaller than asked. A question such as
    "Describe the image." can bind thousands of pairs.

    Args:
        groups: group of each pair.
        fraction: share of pairs to hold out, 0 to 1.
        seed: seed of the order of groups.
    """
    members: dict[int, list[int]] = {}
    for pair, group in enumerate(groups):
        members.setdefault(group, []).append(pair)
    target = round(fraction * len(groups))
    held_out: set[int] = set()
    for group in sorted(members, key=lambda name: hashlib.sha256(f"{seed}:{name}".encode()).digest()):
        if len(held_out) + len(members[group]) <= target:
            held_out.update(members[group])
    return held_out
