"""How fast `servertest.servers` is, as ratios to the standard module measured in the same run: ``python -m tests.bench``."""
