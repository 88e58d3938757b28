"""What the server keeps: keys, aliases, jobs, audit, outcomes and published models."""
