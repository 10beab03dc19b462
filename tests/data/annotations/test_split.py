"""Groups against brute force, and the properties of a split."""

import random

from mpo_lightning.data.annotations.split import connected_groups, validation_pairs


def test_groups_equal_brute_force_reachability() -> None:
    rng = random.Random(0)
    for _ in range(30):
        keys = [{rng.randrange(12) for _ in range(rng.randint(1, 2))} for _ in range(15)]
        reach = [{number} for number in range(15)]
        for _ in range(15):
            reach = [
                set().union(
                    *(reach[other] | {other} for other in range(15) if keys[other] & keys[n] or other in reach[n])
                )
                for n in range(15)
            ]
        assert connected_groups(keys) == [min(members) for members in reach]


def test_whole_groups_are_held_out_up_to_the_fraction() -> None:
    groups = [0] * 50 + list(range(50, 100))
    held = validation_pairs(groups, 0.2, seed=0)
    assert len(held) == 20 and held <= set(range(50, 100))
    assert held == validation_pairs(groups, 0.2, seed=0) != validation_pairs(groups, 0.2, seed=1)
    assert validation_pairs(groups, 0.0, seed=0) == set()
