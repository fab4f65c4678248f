"""How upstreams are spoken to."""
