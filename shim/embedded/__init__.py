"""`cloudpods up`: a real PostgreSQL and a real Redis of our own, and every process of the control plane, in one terminal."""
