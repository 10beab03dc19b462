"""Mathematics in answers: read into trees, evaluated, and compared. Nothing is executed."""
