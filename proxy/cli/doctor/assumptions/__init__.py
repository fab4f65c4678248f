"""`weighbridge doctor --assumptions`: tries by calls what Google doesn't document."""
