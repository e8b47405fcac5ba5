"""What everything in convert is built on."""
