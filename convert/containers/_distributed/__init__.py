"""Helpers of the containers that several processes of a training wrote together: one part of the tensors each."""
