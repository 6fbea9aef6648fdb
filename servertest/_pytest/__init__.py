"""What the pytest plugin does when it is used. The plugin itself only registers names and imports these modules late."""
