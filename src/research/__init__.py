"""Laboratory: what is learned from a recorded run after it. Never imported by the running bot.

May import everything but the front door. The bot's own engine is used as it is, so that what is found here holds for
the next run: a replay that needed its own copy of a rule would prove nothing.
"""
