"""Extracts and compares final answers. Pure functions of strings, which never raise, never execute their input, and
take bounded time.

Own code, because checkers such as math-verify evaluate with SymPy, without a bound on time and only for formulas.
"""

from mpo_lightning.answers.check import check
from mpo_lightning.answers.question import Extraction, Kind, Question, Verdict
from mpo_lightning.answers.typed import equivalent

__all__ = ["Extraction", "Kind", "Question", "Verdict", "check", "equivalent"]
