"""Published rules and judges that benchmarks are scored by; benchmarks themselves are in `evals/benchmarks`."""
