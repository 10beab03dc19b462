"""Preference data: questions -> sampled responses -> verified pairs, DropoutNTP pairs -> MMPR annotations and shards,
with every pair's history.
"""
