"""Hubs: where people and their agents keep what they know, over the shared kernel of spaces.

A team hub has members with ranks and exactly one owner; every person also has a personal hub, made with the
account. Clients speak of them at `/v1/hubs`.
"""
