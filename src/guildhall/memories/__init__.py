"""Memories: what people and their agents know, pushed into a hub and recalled from it.

A memory belongs to one hub and has one author. Every change of it keeps the version before. What it is
found by is written with it, in the same statement, so that the next request finds it.
"""
