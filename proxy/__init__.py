"""Weighbridge: a transparent reverse proxy for the Gemini API that writes down exactly what each call cost."""

__version__ = "0.1.0"
