"""A stand-in for the Gemini API: for the demo, the tests and anyone's own tests."""
