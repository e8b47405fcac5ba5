"""What people and machines get to see of a validation, one file a format."""
