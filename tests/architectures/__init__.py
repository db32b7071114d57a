"""The architecture matrix: every loadable model class, site and backend against an oracle."""
