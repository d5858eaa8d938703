"""What learned agents choose with: a pointer over the chunks of a context, and its distribution."""
