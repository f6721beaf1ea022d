"""HTTP, and nothing of the product: authentication, problems, JSON, paging. Knows no table."""
