"""Who may trade: renews the permit, watches METRICS, halts, and answers its control endpoint."""
