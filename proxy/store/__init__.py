"""Tables, engines and migrations of weighbridge.db."""
