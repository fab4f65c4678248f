"""The chaos run: calls of all kinds while all fails that can; then the bill beside the upstream's own account."""
