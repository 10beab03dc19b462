"""What a response says: where it states its answer, what stands, and which option or number it means."""
