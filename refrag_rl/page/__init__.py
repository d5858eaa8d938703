"""Pages and terminal output in which a person reads what a selector does."""
