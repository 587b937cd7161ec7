"""What gives a reward: a trained network, a function, a mixture, an ensemble."""
