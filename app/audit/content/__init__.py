"""What was asked and answered, stored once: each message is known by an address of its own."""
