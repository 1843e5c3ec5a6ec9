"""Events: hints to look again, told to open streams once a change is committed.

A change leaves its events in its transaction (`event`), a bus carries them to every process (`bus`), and each
process gives them to those of its streams that may hear them at that moment (`streams`).
"""
