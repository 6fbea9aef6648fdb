"""The socketserver framework, and more."""
