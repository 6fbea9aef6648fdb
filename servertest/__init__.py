"""Test socket servers, and the clients that talk to them."""
