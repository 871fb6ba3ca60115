"""The two demo accounts of the local exchange.

Their keys are published toy constants (the private keys are 0x1001 and 0x1002). They open nothing real: no venue and no
chain has ever known them, and they must never be used for money.
"""

from __future__ import annotations

import msgspec


class Account(msgspec.Struct, frozen=True):
    """One demo account. *vault* is its position id in signed orders; the Stark key pair is hexadecimal text."""

    number: int
    index: int
    vault: int
    api_key: str
    private_key: str
    public_key: str


FIRST = Account(
    number=1001,
    index=0,
    vault=501001,
    api_key="sandbox-key-1",
    private_key="0x1001",
    public_key="0x4dad50dec662c30231e53a23c8f3d414d837e39cba8ee3262db67b2d8b06137",
)
SECOND = Account(
    number=1002,
    index=1,
    vault=501002,
    api_key="sandbox-key-2",
    private_key="0x1002",
    public_key="0x7c73b6c38df5a491ed4560cc7043d68850ef64e0029e2cec74292eb3568c351",
)
ACCOUNTS = (FIRST, SECOND)
BY_KEY = {account.api_key: account for account in ACCOUNTS}
BY_NUMBER = {account.number: account for account in ACCOUNTS}
