"""What a guard is made of: a pipeline's call, the pictures of its result, checks, reports, and two adapters."""
