"""Results of finished runs: a reader of one (`open_run`), and a table of all (`runs`)."""
