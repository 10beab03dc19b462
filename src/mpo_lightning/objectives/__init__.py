"""The losses: pure functions of log-probabilities."""

from mpo_lightning.objectives.dpo_variants import AOT, CDPO, TRDPO, AOTUnpaired, NormalizedDPO, RobustDPO
from mpo_lightning.objectives.logps import SequenceLogps
from mpo_lightning.objectives.mpo import LossTerms, MPOObjective, TermWeights
from mpo_lightning.objectives.other_losses import EXO, IPO, NCA, RSO, SPPO, APODown, APOZero, DiscoPOP
from mpo_lightning.objectives.preference import DPO, PreferenceLoss
from mpo_lightning.objectives.quality import PreviousSteps, RewardShift, RunningMicroBatches
from mpo_lightning.objectives.reference_free import ORPO

__all__ = [
    "AOT",
    "CDPO",
    "DPO",
    "EXO",
    "IPO",
    "NCA",
    "ORPO",
    "RSO",
    "SPPO",
    "TRDPO",
    "AOTUnpaired",
    "APODown",
    "APOZero",
    "DiscoPOP",
    "LossTerms",
    "MPOObjective",
    "NormalizedDPO",
    "PreferenceLoss",
    "PreviousSteps",
    "RewardShift",
    "RobustDPO",
    "RunningMicroBatches",
    "SequenceLogps",
    "TermWeights",
]
