"""The OpenAI-shaped front: pictures asked for as at OpenAI, made by Gemini's image models."""
