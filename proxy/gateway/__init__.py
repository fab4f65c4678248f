"""The data plane: what stands behind the gateway door."""
