"""Which worker a request goes to, tried on traffic: eight scripted workers, an hour in a minute."""
