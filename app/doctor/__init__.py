"""What `gateway doctor` looks at: the settings, this machine, and what a gateway relies on."""
