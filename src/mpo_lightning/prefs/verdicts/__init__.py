"""Verdicts on sampled responses: by rules, and by a verifier model where rules decide nothing."""
