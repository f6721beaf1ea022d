"""CloudPods' control plane: a Falcon API and RQ workers which run the project's playbooks and keep what they did."""
