"""The OpenAI-shaped front: pictures by OpenAI's image API, and the catalogue of models."""
