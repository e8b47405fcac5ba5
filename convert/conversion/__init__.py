"""Plans a conversion from headers alone, then executes the plan tensor by tensor."""
