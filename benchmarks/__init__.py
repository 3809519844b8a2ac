"""Benchmarks: Urn beside the installed diffusers, in one run, as ratios. `python -m benchmarks` runs them."""
