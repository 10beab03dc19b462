"""`python -m mpo_lightning` is the command `mpo`."""

from mpo_lightning.cli import main

if __name__ == "__main__":
    main()
