"""General file tools: strict JSON, atomic files and folders, digests, fetching, and a process pool."""
