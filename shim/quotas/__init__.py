"""What a tenant may use and uses."""
