"""What is learnt from finished runs: reading one (`open_run`), and all of them as a table (`runs`)."""
