"""The control plane: what stands behind the control door."""
