"""The inbox: what a person is told, whether they have seen it, and the decisions that wait for them."""
