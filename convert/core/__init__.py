"""What every other part of ``convert`` builds on: errors, tensors, operations, rules, hashes, plug-ins."""
