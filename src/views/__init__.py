"""Eyes: what a person sees of the running bot.

May import ``model`` only. A view is handed a ``DeskView`` and draws it; it asks nobody and changes nothing, so no view
can slow down, deadlock or misprice the bot. Whatever a venue wrote (market names, reasons) is shown without control
characters, because a terminal obeys those.
"""
