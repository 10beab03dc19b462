"""One benchmark a file: its problems, prompts, official rule and table."""
