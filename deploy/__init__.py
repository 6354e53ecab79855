"""What whoever operates Foretell takes: rules for Prometheus, a dashboard for Grafana."""
