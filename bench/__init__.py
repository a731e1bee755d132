"""The benchmark: what the gateway costs, in ratio to nginx relaying the same bytes."""
