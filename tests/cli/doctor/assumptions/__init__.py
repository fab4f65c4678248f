"""What the trials of assumptions are tested by."""
