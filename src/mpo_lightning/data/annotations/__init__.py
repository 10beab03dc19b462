"""Reads MMPR annotations and the formats of other projects, and checks them before anything is written."""
