"""Does it harm learning if pairs of one question stand in the same step? Measured in the miniature's world.

    python benchmarks/question_groups.py [--output runs/question_groups] [--pair-sets 3]

Started again it goes on where it was. OUTPUT/question_groups.md is the result.
"""

from miniature.groups import main

if __name__ == "__main__":
    main()
