"""Hydra configs of the commands. Each key is explained where it stands."""
