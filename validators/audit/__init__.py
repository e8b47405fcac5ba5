"""The static audit: traces every weight of a program to a tensor of its source, without running anything."""
