"""One trainer a way of eating: rollouts, preferences, feedback, text."""
