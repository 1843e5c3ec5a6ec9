"""The worker: runs the jobs that changes leave behind, and what is due by the clock."""

from guildhall.worker.hold import hold_sending, is_held, release_sending
from guildhall.worker.process import Crew, drain, run_worker
from guildhall.worker.resting import RestingJob, list_failed, retry_failed
from guildhall.worker.work import GiveUp, Work

__all__ = [
    "Crew",
    "GiveUp",
    "RestingJob",
    "Work",
    "drain",
    "hold_sending",
    "is_held",
    "list_failed",
    "release_sending",
    "retry_failed",
    "run_worker",
]
