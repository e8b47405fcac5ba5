"""What research repositories call variables, configs and the files beside them, as the sections ``[google]`` of architectures say it."""
