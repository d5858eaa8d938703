"""A module of somebody's own whose mistake shows while it is imported."""

from refrag_rl.observation import Inputs


class Agent:
    name = "own"
    inputs = Inputs(("positon",))
