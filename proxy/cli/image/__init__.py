"""`weighbridge image`: the smallest client. Pictures through a base URL, saved, their cost told; a test."""
