"""Stand-ins for the world outside: chips, services, clients. Never imported by the product."""
