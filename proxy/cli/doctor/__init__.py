"""`weighbridge doctor`: looks at everything that a server needs, changes nothing, and says what to do."""
