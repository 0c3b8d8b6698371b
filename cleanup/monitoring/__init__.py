"""Problems, alerts, and what sweeps will take."""
