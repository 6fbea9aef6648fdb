"""Put any server up, reach it, and take it down again without a trace."""
