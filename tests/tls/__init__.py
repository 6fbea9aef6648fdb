"""TLS: every profile proven against Python's ssl, http.client and openssl s_client."""
