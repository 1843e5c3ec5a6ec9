"""What people use: plans, the counts of a month, and the quotas on them.

A write counts itself in its own transaction with `take`; what only reads calls `take_read`.
"""

from guildhall.usage.plans import HUB, PERSONAL, Plan
from guildhall.usage.quotas import QuotaExceeded, Used, find_used, take, take_read

__all__ = ["HUB", "PERSONAL", "Plan", "QuotaExceeded", "Used", "find_used", "take", "take_read"]
