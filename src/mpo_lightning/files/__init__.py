"""What any program needs of files: strict JSON, files and folders that are whole or not there, digests, fetching, a
process pool.
"""
