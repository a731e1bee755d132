"""A walk through a deployment, from a first question up to a prompt that fills its context."""
