"""How a reward is learned from feedback of every kind."""
