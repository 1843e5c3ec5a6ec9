"""Topics: the tree by which a hub's memories are ordered, made by people and, where they let them, by dreams.

A memory is in one topic at most. How sure that is, is kept with it: what a person decided is surer than
anything that a rule finds, so no rule takes a memory from where a person has put it.
"""
