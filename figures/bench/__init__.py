"""Speed and memory of the kit, beside other implementations."""
