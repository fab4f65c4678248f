"""The transport as a whole: beside h11, against upstreams that misbehave, and under load."""
