"""extended-mm-bot: a market maker for Extended (perpetuals on Starknet).

``src`` is the import package because the command is ``python -m src.bot``. Rooms, from the bottom up: ``model``
(words), ``sandbox`` (a local exchange), ``engine`` / ``venues`` / ``records``, ``runtime`` / ``views``, and the front
door ``bot.py``. Arrows point down only; ``pyproject.toml`` holds the contract that checks it.
"""
