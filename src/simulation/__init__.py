"""The whole bot under faults, in virtual time and repeatable to the byte: who wants to trust it, tries to break it.

Decision record
===============
* The bot under test is the real one: ``House`` with its engine, its gateway, its journal words. Only the wire, the
  exchange behind it, the disk and the clock are ours.
* One seed fixes everything: the market, the order of simultaneous events, which faults come, when and how strong. The
  faults of a seed are a value (``plan``) that can be written down, shortened and given back.
* Not every fault in every seed: each seed first draws which kinds exist in its world at all, because faults also hide
  each other.
* Not every world is busy: a seed draws one market or two, and a crowd that acts as often as the demo's or up to twenty
  times less. Calm worlds cost a third, so that more hours are lived, and orders live longer in them.
* Seeds know nothing of each other: a sweep over many gives the same outcome on one core and on several.
* The judge (``truth``) stands at the exchange and knows what really happened; it asks the bot only what it believes.
* Safety first, then progress: after the faults end, quotes must return and both sides' books must agree.
* Requests travel on the wire, not in the coroutine that sent them: one that is given up, or whose process is killed,
  still lands.
"""
