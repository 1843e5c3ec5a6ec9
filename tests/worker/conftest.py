from tests.worker.benches import hall

__all__ = ["hall"]
