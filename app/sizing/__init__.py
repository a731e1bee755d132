"""What of the model fits on a GPU, and how fast it can be there: calculated, not measured."""
