"""Where people talk through somebody else's program: meetings, agents, calls; each bot needs the extra of its name.

Nothing is imported here: what one bot needs, the others don't.
"""
