"""How fast the service is, beside a floor that nothing beats and beside what people would pick instead.

`make bench` seeds a database, serves it three times with the same server settings, asks each the same
questions in turn, and writes `bench/results.json` and `docs/performance.md`.
"""
