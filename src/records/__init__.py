"""Memory: what must survive a crash. The journal of facts and decisions, the saved state, the lock on the account.

May import ``model``. Nothing here decides; nothing here makes the quote loop wait for a disk.
"""
