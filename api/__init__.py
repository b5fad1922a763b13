"""Who may ask: the HTTP edge, its settings, and the service's own loops."""
