"""The processes of one run: how they agree, stop together, and end when one of them is lost."""
