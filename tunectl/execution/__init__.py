"""Device slots, scheduler, fork server, worker and backends."""
