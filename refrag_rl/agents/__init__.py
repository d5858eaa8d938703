"""What chooses chunks: heuristics and learning agents, one file an agent."""
