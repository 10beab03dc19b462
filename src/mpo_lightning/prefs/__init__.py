"""Preference data: questions -> sampled responses -> verified pairs and DropoutNTP pairs -> annotations and shards."""
