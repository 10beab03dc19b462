"""What comes in: MMPR annotations and the formats of other projects, checked before anything is written."""
