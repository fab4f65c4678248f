"""What Google's wire looks like. Pure: bytes and values in, values out."""
