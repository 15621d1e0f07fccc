"""What a run will need: memory, arithmetic, hours. From the configuration alone."""
